import CFFmpeg
import Foundation

/// What tells a file's content apart.
public enum FileDigest {
  /// SHA-256 of all bytes, in hexadecimal digits.
  ///
  /// - Throws: `MediaError` when the file can't be read.
  public static func sha256(path: String) throws -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw unreadable(path) }
    defer { close(descriptor) }
    guard let context = av_sha_alloc() else { throw outOfMemory(file: path) }
    defer { av_free(UnsafeMutableRawPointer(context)) }
    av_sha_init(context, 256)
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw unreadable(path) }
      if count == 0 { break }
      av_sha_update(context, buffer, count)
    }
    var digest = [UInt8](repeating: 0, count: 32)
    av_sha_final(context, &digest)
    let digits = Array("0123456789abcdef")
    return String(digest.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
  }

  private static func unreadable(_ path: String) -> MediaError {
    MediaError(
      .notReadable, file: path, "can't be read (\(String(cString: strerror(errno))))",
      remedy: "Check the path and its rights.")
  }
}
