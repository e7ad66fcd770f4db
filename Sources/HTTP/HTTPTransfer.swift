import CCurl
import Foundation

/// A request in progress: provides the body to libcurl, and collects the response.
final class HTTPTransfer {
  let request: HTTPRequest
  let bodySize: Int
  private(set) var responseHeaders: [String: String] = [:]
  private(set) var responseBody = Data()
  /// An error of this program, not of the server.
  private(set) var problem: String?

  private let isCancelled: () -> Bool
  private let descriptor: Int32
  private var position = 0
  /// The limit of a response in bytes. The responses of the servers that we use are far smaller.
  private static let largestAnswer = 64 << 20

  init(_ request: HTTPRequest, isCancelled: @escaping () -> Bool) throws {
    self.request = request
    self.isCancelled = isCancelled
    switch request.body {
    case .none:
      bodySize = 0
      descriptor = -1
    case .bytes(let data):
      bodySize = data.count
      descriptor = -1
    case .file(let path, let range):
      bodySize = range.count
      descriptor = open(path, O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else {
        throw HTTPFailure(
          kind: .unusable, url: request.url,
          problem: "\(path) can't be read (\(String(cString: strerror(errno))))")
      }
    }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// - Returns: the number of bytes that were copied; nil if they can't be read.
  private func read(into target: UnsafeMutableRawBufferPointer) -> Int? {
    let count = min(target.count, bodySize - position)
    guard count > 0 else { return 0 }
    switch request.body {
    case .none: return 0
    case .bytes(let data):
      let start = data.startIndex + position
      data.copyBytes(to: target, from: start..<start + count)
      position += count
      return count
    case .file(let path, let range):
      while true {
        let read = pread(descriptor, target.baseAddress, count, range.lowerBound + position)
        if read < 0, errno == EINTR { continue }
        guard read > 0 else {
          problem =
            read == 0
            ? "\(path) has become shorter while it was sent"
            : "\(path) can't be read (\(String(cString: strerror(errno))))"
          return nil
        }
        position += read
        return read
      }
    }
  }

  private func receive(_ bytes: UnsafeRawBufferPointer) -> Bool {
    guard responseBody.count + bytes.count <= Self.largestAnswer else {
      problem = "the answer is larger than \(Self.largestAnswer >> 20) MiB"
      return false
    }
    responseBody.append(contentsOf: bytes)
    return true
  }

  private func receive(header line: String) {
    if line.hasPrefix("HTTP/") {
      // Another response begins: after a proxy's, or after a redirect.
      responseHeaders = [:]
      responseBody = Data()
    } else if let colon = line.firstIndex(of: ":") {
      let value = line[line.index(after: colon)...].trimmingCharacters(in: .whitespacesAndNewlines)
      responseHeaders[line[..<colon].lowercased()] = value
    }
  }

  // Callbacks of libcurl. The last argument is the transfer.

  private static func from(_ pointer: UnsafeMutableRawPointer?) -> HTTPTransfer? {
    pointer.map { Unmanaged<HTTPTransfer>.fromOpaque($0).takeUnretainedValue() }
  }

  static let receiveBody:
    @convention(c) (UnsafeMutablePointer<CChar>?, Int, Int, UnsafeMutableRawPointer?) -> Int = {
      bytes, size, count, pointer in
      guard let transfer = HTTPTransfer.from(pointer) else { return 0 }
      return transfer.receive(UnsafeRawBufferPointer(start: bytes, count: size * count))
        ? size * count : 0
    }

  static let receiveHeader:
    @convention(c) (UnsafeMutablePointer<CChar>?, Int, Int, UnsafeMutableRawPointer?) -> Int =
      { bytes, size, count, pointer in
        let line = String(
          decoding: UnsafeRawBufferPointer(start: bytes, count: size * count), as: UTF8.self)
        HTTPTransfer.from(pointer)?.receive(header: line)
        return size * count
      }

  static let sendBody:
    @convention(c) (UnsafeMutablePointer<CChar>?, Int, Int, UnsafeMutableRawPointer?) -> Int = {
      bytes, size, count, pointer in
      let target = UnsafeMutableRawBufferPointer(start: bytes, count: size * count)
      return HTTPTransfer.from(pointer)?.read(into: target) ?? CCURL_READ_ABORT
    }

  static let seekBody: @convention(c) (UnsafeMutableRawPointer?, Int64, Int32) -> Int32 = {
    pointer, offset, origin in
    guard let transfer = HTTPTransfer.from(pointer), origin == SEEK_SET,
      (0...Int64(transfer.bodySize)).contains(offset)
    else { return 1 }
    transfer.position = Int(offset)
    return 0
  }

  static let checkCancellation:
    @convention(c) (UnsafeMutableRawPointer?, Int64, Int64, Int64, Int64) -> Int32 = {
      pointer, _, _, _, _ in HTTPTransfer.from(pointer)?.isCancelled() == true ? 1 : 0
    }
}
