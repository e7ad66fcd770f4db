import Foundation
import NIOHTTP1
import Support

/// An answer of the page's server.
struct ReviewResponse: Sendable {
  enum Body: Sendable {
    case bytes([UInt8])
    /// A part of a file.
    case file(ServedFile, Range<Int64>)
  }

  var status: HTTPResponseStatus = .ok
  var headers: HTTPHeaders
  var body: Body

  var byteCount: Int64 {
    switch body {
    case .bytes(let bytes): Int64(bytes.count)
    case .file(_, let range): range.upperBound - range.lowerBound
    }
  }

  /// A text for a person.
  static func text(_ text: String, status: HTTPResponseStatus) -> ReviewResponse {
    content(text + "\n", type: "text/plain; charset=utf-8", status: status)
  }

  static func json(_ value: JSON, status: HTTPResponseStatus = .ok) -> ReviewResponse {
    content(value.text(), type: "application/json", status: status)
  }

  static func content(
    _ text: String, type: String, status: HTTPResponseStatus = .ok
  ) -> ReviewResponse {
    ReviewResponse(
      status: status, headers: ["Content-Type": type, "Cache-Control": "no-store"],
      body: .bytes(Array(text.utf8)))
  }

  /// A file, or the part of it that was requested.
  static func file(_ file: ServedFile, for request: HTTPHeaders) -> ReviewResponse {
    var headers: HTTPHeaders = [
      "Content-Type": file.contentType, "Cache-Control": "private, no-cache",
      "Accept-Ranges": "bytes", "ETag": file.tag,
    ]
    // A part of another version of the file would be useless.
    let isCurrent = request["If-Range"].first.map { $0 == file.tag } ?? true
    switch ByteRange(isCurrent ? request["Range"].first : nil, size: file.size) {
    case .whole:
      return ReviewResponse(headers: headers, body: .file(file, 0..<file.size))
    case .part(let range):
      headers.add(
        name: "Content-Range",
        value: "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(file.size)")
      return ReviewResponse(
        status: .partialContent, headers: headers, body: .file(file, range))
    case .unsatisfiable:
      headers.replaceOrAdd(name: "Content-Type", value: "text/plain; charset=utf-8")
      headers.add(name: "Content-Range", value: "bytes */\(file.size)")
      return ReviewResponse(
        status: .rangeNotSatisfiable, headers: headers,
        body: .bytes(Array("The range is outside of the file.\n".utf8)))
    }
  }

  /// The complete head. The page may load only resources of this server, and nothing may show it in
  /// a frame, learn its address, or read its resources.
  func head(version: HTTPVersion, keepsAlive: Bool) -> HTTPResponseHead {
    var headers = headers
    headers.replaceOrAdd(name: "Content-Length", value: "\(byteCount)")
    for (name, value) in Self.protection { headers.add(name: name, value: value) }
    if !keepsAlive { headers.add(name: "Connection", value: "close") }
    return HTTPResponseHead(version: version, status: status, headers: headers)
  }

  private static let protection = [
    (
      "Content-Security-Policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        + "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"), ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
  ]
}
