import Foundation
import Support

@testable import CaptionReview

/// A plain HTTP client for the server of a review, which can also send what no browser would.
struct PageClient {
  struct Answer {
    let status: Int
    /// The headers by lowercase name.
    let headers: [String: String]
    let body: Data

    var text: String { String(decoding: body, as: UTF8.self) }
    func json() throws -> JSON { try JSON(parsing: body) }
  }

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  let port: UInt16
  /// The path of the page, with the token: `/…/`.
  let root: String

  init(_ server: ReviewServer) throws {
    guard let url = URL(string: server.address), let port = url.port.flatMap(UInt16.init(exactly:))
    else { throw Failure(description: "\(server.address) is not an address") }
    self.port = port
    root =
      "/"
      + server.address.split(separator: "/", omittingEmptySubsequences: false)
      .dropFirst(3).joined(separator: "/")
  }

  /// Sends a request, and waits for the answer.
  ///
  /// - Parameters:
  ///   - path: The path below the token.
  ///   - host: The value of `Host`; nil for the right one.
  func request(
    _ path: String, method: String = "GET", headers: [String: String] = [:],
    body: Data? = nil, host: String? = nil
  ) throws -> Answer {
    var head = "\(method) \(root)\(path) HTTP/1.1\r\nHost: \(host ?? "127.0.0.1:\(port)")\r\n"
    for (name, value) in headers { head += "\(name): \(value)\r\n" }
    if let body { head += "Content-Length: \(body.count)\r\n" }
    let connection = try Connection(port: port)
    try connection.send(Data((head + "\r\n").utf8) + (body ?? Data()))
    return try connection.answer(hasBody: method != "HEAD")
  }

  /// Sends bytes as they are, and waits for an answer.
  func raw(_ text: String) throws -> Answer {
    let connection = try Connection(port: port)
    try connection.send(Data(text.utf8))
    return try connection.answer()
  }

  func rows() throws -> JSON { try request("rows").json() }

  func save(version: String, edits: [JSON]) throws -> Answer {
    let body = JSON.object(["version": .string(version), "edits": .array(edits)])
    return try request(
      "save", method: "POST", headers: ["Content-Type": "application/json"], body: body.data())
  }

  /// Saves edits of the present version.
  func save(_ edits: [JSON]) throws -> Answer {
    try save(version: rows()["version"]?.string ?? "", edits: edits)
  }
}

/// A connection to a port of this machine, with a time limit of ten seconds.
final class Connection {
  private let descriptor: Int32
  private var buffer = Data()

  init(port: UInt16) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var limit = timeval(tv_sec: 10, tv_usec: 0)
    setsockopt(
      descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let descriptor = descriptor
    let isOpen = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
      }
    }
    guard isOpen else {
      throw PageClient.Failure(description: "connect: \(describe(errno: errno))")
    }
  }

  deinit { close(descriptor) }

  func send(_ data: Data) throws {
    let sent = data.withUnsafeBytes { bytes in
      var done = 0
      while done < bytes.count {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
        let count = Glibc.send(descriptor, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
        guard count > 0 else { return false }
        done += count
      }
      return true
    }
    guard sent else { throw PageClient.Failure(description: "send: \(describe(errno: errno))") }
  }

  /// Says that nothing more will be sent.
  func finish() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// Whether the server has closed the connection, after everything was read.
  func isClosed() -> Bool {
    var byte: UInt8 = 0
    let count = recv(descriptor, &byte, 1, 0)
    return buffer.isEmpty && (count == 0 || count < 0 && errno == ECONNRESET)
  }

  func answer(hasBody: Bool = true) throws -> PageClient.Answer {
    let end = Data("\r\n\r\n".utf8)
    while buffer.range(of: end) == nil { try fill() }
    guard let split = buffer.range(of: end) else {
      throw PageClient.Failure(description: "no head")
    }
    let lines = String(decoding: buffer[..<split.lowerBound], as: UTF8.self)
      .components(separatedBy: "\r\n")
    buffer = Data(buffer[split.upperBound...])
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      headers[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
    }
    let size = hasBody ? headers["content-length"].flatMap { Int($0) } ?? 0 : 0
    while buffer.count < size { try fill() }
    let body = Data(buffer.prefix(size))
    buffer = Data(buffer.dropFirst(size))
    let status = lines[0].split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    return PageClient.Answer(status: status, headers: headers, body: body)
  }

  private func fill() throws {
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    let count = recv(descriptor, &piece, piece.count, 0)
    guard count > 0 else {
      throw PageClient.Failure(
        description: count == 0 ? "the server closed the connection" : describe(errno: errno))
    }
    buffer.append(contentsOf: piece[..<count])
  }
}
