import CFFmpeg
import Foundation
import Support

/// The colors in a PNG's `cICP` chunk (ITU-T H.273 code points), which FFmpeg 5 doesn't read.
struct PNGColor {
  let primaries: AVColorPrimaries
  let transfer: AVColorTransferCharacteristic

  /// - Returns: Nil for other files, and for a PNG without the chunk.
  init?(path: String) {
    guard let handle = FileHandle(forReadingAtPath: path) else { return nil }
    do {
      guard let chunk = try Self.chunk(handle), chunk.count == 4 else { return nil }
      primaries = AVColorPrimaries(UInt32(chunk[0]))
      transfer = AVColorTransferCharacteristic(UInt32(chunk[1]))
    } catch { return nil }  // A file that can't be read is reported when it is decoded.
  }

  private static func chunk(_ handle: FileHandle) throws -> [UInt8]? {
    let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    guard try handle.read(upToCount: 8).map(Array.init) == signature else { return nil }
    while let head = try handle.read(upToCount: 8).map(Array.init), head.count == 8 {
      let length = head[..<4].reduce(0) { $0 << 8 | UInt64($1) }
      switch String(decoding: head[4...], as: UTF8.self) {
      case "cICP": return length == 4 ? try handle.read(upToCount: 4).map(Array.init) : nil
      case "IDAT", "IEND": return nil
      default: try handle.seek(toOffset: try handle.offset() + length + 4)  // A checksum follows.
      }
    }
    return nil
  }
}

extension RGBFrame {
  /// Writes the image as a lossless PNG, atomically.
  ///
  /// - Throws: `MediaError` if the file can't be written.
  public func writePNG(to path: String) throws {
    var frame: UnsafeMutablePointer<AVFrame>? = try ImageEncoder.frame(
      AV_PIX_FMT_RGB24, width: Int32(width), height: Int32(height), file: path)
    defer { av_frame_free(&frame) }
    guard let frame else { throw outOfMemory(file: path) }
    bytes.withUnsafeBufferPointer { bytes in
      av_image_copy_plane(
        frame.pointee.data.0, frame.pointee.linesize.0, bytes.baseAddress, Int32(3 * width),
        Int32(3 * width), Int32(height))
    }
    try AtomicFile.write(
      ImageEncoder.encode(frame, as: .png, file: path), to: path, failing: MediaError.init(_:))
  }
}
