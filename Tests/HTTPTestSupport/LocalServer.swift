import Foundation
import Synchronization

/// An HTTP/1.1 server on 127.0.0.1 that stands in for real services: bodies with a length or in
/// chunks, persistent connections, and one thread per connection.
package final class LocalServer: Sendable {
  package struct Request: Sendable {
    package let method: String
    /// The path as it was sent, including the query.
    package let target: String
    /// The headers by lowercase name.
    package let headers: [String: String]
    package let body: Data

    package var path: String { String(target.prefix { $0 != "?" }) }
  }

  package struct Response: Sendable {
    package var status: Int
    package var headers: [String: String]
    package var body: Data
    /// The seconds between two bytes of the body; nil to send it at once.
    package var dripInterval: Double?
    /// The number of bytes of the body after which the connection is closed; nil to send them all.
    package var hangUpAfter: Int?

    package init(
      status: Int = 200, headers: [String: String] = [:], body: Data = Data(),
      dripInterval: Double? = nil, hangUpAfter: Int? = nil
    ) {
      (self.status, self.headers, self.body) = (status, headers, body)
      (self.dripInterval, self.hangUpAfter) = (dripInterval, hangUpAfter)
    }

    package static func json(_ text: String, status: Int = 200) -> Response {
      Response(status: status, headers: ["Content-Type": "application/json"], body: Data(text.utf8))
    }
  }

  struct Failure: Error { let reason: String }

  package let port: UInt16
  package var address: String { "http://127.0.0.1:\(port)" }

  private let listener: Int32
  private let hasStopped = Mutex(false)
  private let connections: Mutex<Set<Int32>> = Mutex([])
  private let handler: @Sendable (Request) -> Response?

  /// - Parameter handler: Called on any thread; nil closes the connection without a response.
  package init(port: UInt16 = 0, handler: @escaping @Sendable (Request) -> Response?) throws {
    self.handler = handler
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var yes: Int32 = 1
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, 4)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    let isOpen = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
        bind(listener, generic, length) == 0 && listen(listener, 64) == 0
          && getsockname(listener, generic, &length) == 0
      }
    }
    self.port = UInt16(bigEndian: address.sin_port)
    guard isOpen else { throw Failure(reason: "no socket: \(String(cString: strerror(errno)))") }
    Thread { [weak self] in
      while true {
        let connection = accept(listener, nil, nil)
        guard connection >= 0, let self else { break }
        self.connections.withLock { _ = $0.insert(connection) }
        Thread { self.serve(connection) }.start()
      }
      // Only this thread closes the socket, because its number may be reused at once.
      close(listener)
    }.start()
  }

  deinit { stop() }

  /// Stops responding.
  package func stop() {
    let isFirst = hasStopped.withLock { hasStopped in
      defer { hasStopped = true }
      return !hasStopped
    }
    guard isFirst else { return }
    shutdown(listener, Int32(SHUT_RDWR))
    connections.withLock { open in
      for connection in open { shutdown(connection, Int32(SHUT_RDWR)) }
    }
  }

  private func serve(_ connection: Int32) {
    defer {
      connections.withLock { _ = $0.remove(connection) }
      close(connection)
    }
    var reader = ConnectionReader(connection: connection)
    while let request = reader.request(), let response = handler(request) {
      var head = "HTTP/1.1 \(response.status) Status\r\nContent-Length: \(response.body.count)\r\n"
      for (name, value) in response.headers { head += "\(name): \(value)\r\n" }
      let body = request.method == "HEAD" ? Data() : response.body
      let sent = body.prefix(response.hangUpAfter ?? body.count)
      if let interval = response.dripInterval {
        guard send(Data((head + "\r\n").utf8), on: connection) else { return }
        for byte in sent {
          Thread.sleep(forTimeInterval: interval)
          guard send(Data([byte]), on: connection) else { return }
        }
      } else {
        guard send(Data((head + "\r\n").utf8) + sent, on: connection) else { return }
      }
      if response.hangUpAfter != nil { return }
    }
  }

  private func send(_ data: Data, on connection: Int32) -> Bool {
    data.withUnsafeBytes { bytes in
      var done = 0
      while done < bytes.count {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
        let sent = Glibc.send(connection, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
        guard sent > 0 else { return false }
        done += sent
      }
      return true
    }
  }
}

/// Reads requests from a socket.
private struct ConnectionReader {
  let connection: Int32
  private var buffer = Data()

  init(connection: Int32) { self.connection = connection }

  mutating func request() -> LocalServer.Request? {
    guard let first = line() else { return nil }
    let words = first.split(separator: " ")
    guard words.count == 3 else { return nil }
    var headers: [String: String] = [:]
    while let line = line(), !line.isEmpty {
      guard let colon = line.firstIndex(of: ":") else { return nil }
      headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(
        in: .whitespaces)
    }
    let body =
      headers["transfer-encoding"] == "chunked"
      ? chunks() : bytes(headers["content-length"].flatMap(Int.init) ?? 0)
    guard let body else { return nil }
    return LocalServer.Request(
      method: String(words[0]), target: String(words[1]), headers: headers, body: body)
  }

  private mutating func chunks() -> Data? {
    var body = Data()
    while let size = line().flatMap({ Int($0.prefix { $0 != ";" }, radix: 16) }),
      let chunk = bytes(size),
      line() != nil
    {
      guard size > 0 else { return body }
      body.append(chunk)
    }
    return nil
  }

  private mutating func line() -> String? {
    while true {
      if let end = buffer.range(of: Data("\r\n".utf8)) {
        let line = String(decoding: buffer[..<end.lowerBound], as: UTF8.self)
        buffer = Data(buffer[end.upperBound...])
        return line
      }
      guard fill() else { return nil }
    }
  }

  private mutating func bytes(_ count: Int) -> Data? {
    while buffer.count < count { guard fill() else { return nil } }
    defer { buffer = Data(buffer.dropFirst(count)) }
    return Data(buffer.prefix(count))
  }

  private mutating func fill() -> Bool {
    var piece = [UInt8](repeating: 0, count: 1 << 16)
    let count = recv(connection, &piece, piece.count, 0)
    guard count > 0 else { return false }
    buffer.append(contentsOf: piece[..<count])
    return true
  }
}
