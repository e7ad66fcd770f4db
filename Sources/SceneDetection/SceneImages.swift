import CFFmpeg
import Foundation
import Media
import Support

/// Preview images of scenes: JPEGs of frames distributed over each scene like in PySceneDetect.
struct SceneImages {
  /// The frames of a scene to show: one near its start, the middles of equal parts, and one near
  /// its end; if there is only one, the middle.
  static func frames(of scene: Scene, count: Int) -> [Int] {
    let (start, length) = (Double(scene.start), Double(scene.length))
    let part = length / Double(count)
    return (0..<count).map { i in
      let (from, to) = (start + Double(i) * part, start + Double(i + 1) * part)
      let place =
        count == 1
        ? start + length / 2
        : i == 0 ? min(from + 1, to) : i == count - 1 ? max(to - 1, from) : (from + to) / 2
      return min(scene.end - 1, max(scene.start, Int(place.rounded(.toNearestOrEven))))
    }
  }

  /// Decodes a video from its start and writes images.
  ///
  /// - Parameters:
  ///   - wanted: The paths of the images by frame.
  ///   - progress: Called with the number of decoded frames.
  static func write(
    of input: String, wanted: [Int: [String]], deinterlaces: Bool, progress: (Int) throws -> Void
  ) throws {
    guard let last = wanted.keys.max() else { return }
    let video = try VideoReader(path: input, deinterlaces: deinterlaces)
    let converter = try PixelConverter(
      file: input, to: AV_PIX_FMT_RGB24, for: .videoFrames, color: video.colorStage)
    var index = 0
    while index <= last, let (frame, _) = try video.nextDecoded() {
      if let paths = wanted[index] {
        let image = try converter.convert(frame, orientation: video.remainingOrientation)
        let data = try JPEGImage.encode(rgb: image, file: input)
        for path in paths {
          try AtomicFile.write(data, to: path, failing: MediaError.init(_:))
        }
      }
      index += 1
      try progress(index)
    }
    guard index > last else {
      throw MediaError(
        .decoding, file: input, "gave only \(index) frames when read again", remedy: "Try again.")
    }
  }
}
