import Foundation

extension RGBFrame {
  /// The image as a frame of an H.264 video shows it: with half the color resolution and
  /// compression artifacts.
  ///
  /// A last odd column and row is dropped; an image of one row or column is returned unchanged.
  ///
  /// - Parameter crf: x264's constant rate factor, 0 (lossless but for color) to 51.
  /// - Throws: `MediaError` if a temporary file can't be written or read.
  public func compressed(crf: Int) throws -> RGBFrame {
    let (evenWidth, evenHeight) = (width / 2 * 2, height / 2 * 2)
    guard evenWidth > 0, evenHeight > 0 else { return self }
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("picture-\(UUID().uuidString).mp4").path
    defer { unlink(path) }
    let writer = try VideoWriter(
      path: path, width: evenWidth, height: evenHeight, frameRate: Rational(1),
      quality: VideoWriter.Quality(crf: crf, preset: evenWidth < 128 ? "superfast" : "veryfast"))
    try writer.append(cropped(width: evenWidth, height: evenHeight))
    try writer.finish()
    guard let seen = try VideoReader(path: path).next() else {
      throw MediaError(
        .decoding, file: path, "a compressed image can't be read again",
        remedy: "Free room on the disk.")
    }
    return seen
  }
}
