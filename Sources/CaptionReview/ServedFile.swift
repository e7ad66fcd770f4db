import Foundation
import Media
import NIOCore
import NIOPosix

/// An open media file, which is read in pieces while it is sent.
final class ServedFile: Sendable {
  let size: Int64
  /// Identifies the content, for `If-Range` (an entity tag).
  let tag: String
  let contentType: String
  private let descriptor: CInt

  /// Opens a file. Nil for one that can't be opened or is not a regular file.
  init?(path: String) {
    // A pipe would otherwise wait for a writer.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    var status = stat()
    guard descriptor >= 0 else { return nil }
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      return nil
    }
    self.descriptor = descriptor
    size = Int64(status.st_size)
    tag = "\"\(status.st_size)-\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)\""
    contentType = Self.contentTypes[MediaExtension.name(ofFile: path)] ?? "application/octet-stream"
  }

  deinit { close(descriptor) }

  /// Reads a piece on a thread that may wait for the disk.
  ///
  /// - Returns: At most `count` bytes; none at the end of the file.
  /// - Throws: `IOError`.
  func read(at offset: Int64, count: Int) async throws -> ByteBuffer {
    try await NIOThreadPool.singleton.runIfActive {
      var buffer = ByteBufferAllocator().buffer(capacity: count)
      try buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { bytes in
        while true {
          let done = pread(self.descriptor, bytes.baseAddress, count, off_t(offset))
          if done >= 0 { return done }
          guard errno == EINTR else { throw IOError(errnoCode: errno, reason: "pread") }
        }
      }
      return buffer
    }
  }

  /// Types that browsers play or show. Everything else is offered as a download.
  private static let contentTypes = [
    "mp4": "video/mp4", "m4v": "video/mp4", "mov": "video/quicktime", "webm": "video/webm",
    "mkv": "video/x-matroska", "ogv": "video/ogg", "avi": "video/x-msvideo",
    "png": "image/png", "apng": "image/apng", "jpg": "image/jpeg", "jpeg": "image/jpeg",
    "gif": "image/gif", "webp": "image/webp", "avif": "image/avif", "bmp": "image/bmp",
    "wav": "audio/wav", "mp3": "audio/mpeg", "m4a": "audio/mp4", "aac": "audio/aac",
    "flac": "audio/flac", "ogg": "audio/ogg", "oga": "audio/ogg", "opus": "audio/ogg",
  ]
}
