import CFFmpeg
import Foundation

/// The content of a file in 256 bits.
public enum FileDigest {
  /// SHA-256, as `sha256sum` prints it. Reads the file in pieces, at about half a gigabyte a
  /// second.
  ///
  /// - Throws: `MediaError` for a file that can't be read.
  public static func sha256(of path: String) throws -> String {
    func unreadable() -> MediaError {
      MediaError(
        .notReadable, file: path, "can't be read (\(String(cString: strerror(errno))))",
        remedy: "Check the path and the rights.")
    }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw unreadable() }
    defer { close(descriptor) }
    return try sha256(name: path) { update in
      try withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 1 << 18) { buffer in
        while true {
          let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
          if count < 0, errno == EINTR { continue }
          guard count >= 0 else { throw unreadable() }
          if count == 0 { return }
          update(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(buffer)[..<count]))
        }
      }
    }
  }

  /// The same of bytes in memory.
  ///
  /// - Throws: `MediaError` if memory runs out.
  public static func sha256(of data: Data) throws -> String {
    try sha256(name: "bytes") { update in data.withUnsafeBytes(update) }
  }

  private static func sha256(
    name: String, _ body: (_ update: (UnsafeRawBufferPointer) -> Void) throws -> Void
  ) throws -> String {
    guard let digest = av_sha_alloc() else { throw outOfMemory(file: name) }
    defer { av_free(UnsafeMutableRawPointer(digest)) }
    av_sha_init(digest, 256)
    try body { av_sha_update(digest, $0.baseAddress, $0.count) }
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 32) { result in
      result.initialize(repeating: 0)
      av_sha_final(digest, result.baseAddress)
      return result.map { String(format: "%02x", $0) }.joined()
    }
  }
}
