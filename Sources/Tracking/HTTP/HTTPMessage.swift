import Foundation
import Support

/// A request, as `HTTPClient` sends it.
struct HTTPRequest: Sendable {
  enum Body: Sendable {
    case none
    case bytes(Data)
    /// A part of a file, read while it is sent.
    case file(path: String, range: Range<Int>)
  }

  var method = "GET"
  var url: String
  var headers: [(name: String, value: String)] = []
  var body = Body.none
  /// The limit for the whole request, in seconds; nil for uploads, whose duration can't be
  /// predicted.
  var timeLimit: Double? = 60

  /// A request that carries JSON.
  static func post(_ url: String, json: JSON, headers: [(name: String, value: String)] = []) throws
    -> Self
  {
    HTTPRequest(
      method: "POST", url: url, headers: headers + [("Content-Type", "application/json")],
      body: .bytes(json.data()))
  }
}

/// A response with any status.
struct HTTPResponse: Sendable {
  let status: Int
  /// The headers by lower-case name.
  let headers: [String: String]
  let body: Data

  var isSuccess: Bool { (200..<300).contains(status) }

  /// A server's description of an error, shortened to one line.
  var excerpt: String {
    let text = String(decoding: body.prefix(2_000), as: UTF8.self)
    let line = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    return line.count > 300 ? line.prefix(300) + "…" : line
  }

  /// - Throws: `Issue` if the body is not JSON.
  func json(from url: String) throws -> JSON {
    do { return try JSON(parsing: body) } catch {
      throw Issue([.file(url)], "answered with something that is no JSON: \(excerpt)")
    }
  }
}

/// The reason why there is no response.
struct HTTPFailure: Error, CustomStringConvertible {
  enum Kind: Sendable {
    /// No connection, a lost connection, or a timeout; a later attempt may succeed.
    case connection
    /// The server's certificate is not trusted.
    case certificate
    /// The request was cancelled by this program.
    case cancelled
    /// A failure that a retry can't fix: a bad URL, a file that can't be read, no libcurl.
    case unusable
  }

  let kind: Kind
  let url: String
  let problem: String

  var description: String { "\(url): \(problem)" }
}
