import Foundation
import Media
import TensorFiles

/// Where generated frames go: an MP4, or a PNG for one frame. The file appears under its name when it is whole; a sink
/// that is dropped before leaves nothing behind.
final class FrameSink {
  private enum Target {
    case video(VideoWriter)
    case picture(path: String)
  }

  private let target: Target

  init(path: String, width: Int, height: Int, frameRate: Rational) throws {
    guard !Self.isPicture(path) else {
      target = .picture(path: path)
      return
    }
    // In pictures of few macroblocks a row, x264's macroblock tree (seen in version 164 at 64 pixels) reads memory that
    // it has not written, and the same frames don't always give the same bytes. This preset does without the tree.
    let quality = VideoWriter.Quality(preset: width < 128 ? "superfast" : "medium")
    target = .video(
      try VideoWriter(path: path, width: width, height: height, frameRate: frameRate, quality: quality))
  }

  static func isPicture(_ path: String) -> Bool { path.lowercased().hasSuffix(".png") }

  func append(_ frame: RGBFrame) throws {
    switch target {
    case .video(let writer): try writer.append(frame)
    case .picture(let path): try frame.writePNG(to: path)
    }
  }

  func finish() throws {
    if case .video(let writer) = target { try writer.finish() }
  }

  /// Finds what would keep the file from being written, before hours of work.
  static func check(path: String, frames: Int, width: Int, height: Int) throws {
    func fail(_ problem: String) -> GenerationError { GenerationError(.output, "\(path): \(problem)") }
    let isPicture = isPicture(path)
    guard isPicture || path.lowercased().hasSuffix(".mp4") else {
      throw fail("the name must end in .mp4, or in .png for a single frame")
    }
    guard !isPicture || frames == 1 else {
      throw fail("a PNG holds one frame, not \(frames); use .mp4, or --num-frames 1")
    }
    guard isPicture || (width % 2 == 0 && height % 2 == 0 && width <= 16384 && height <= 16384) else {
      throw fail("H.264 can't hold \(width)x\(height) pixels: both must be even and at most 16384")
    }
    var isFolder: ObjCBool = false
    if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
      throw fail("is a folder; name a file")
    }
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
    guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue else {
      throw fail("its folder does not exist; make it first")
    }
    if let problem = OutputFolder.problem(folder) { throw fail("its folder \(problem); choose another one") }
  }
}
