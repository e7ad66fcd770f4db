import Foundation
import Support

/// A request, as `HTTPClient` sends it.
package struct HTTPRequest: Sendable {
  package enum Body: Sendable {
    case none
    case bytes(Data)
    /// A part of a file, read while it is sent.
    case file(path: String, range: Range<Int>)
  }

  package var method: String
  package var url: String
  package var headers: [(name: String, value: String)]
  package var body: Body
  /// The limit for the whole request, in seconds; nil for uploads, whose duration can't be
  /// predicted.
  package var timeLimit: Double?

  package init(
    method: String = "GET", url: String, headers: [(name: String, value: String)] = [],
    body: Body = .none, timeLimit: Double? = 60
  ) {
    (self.method, self.url, self.headers) = (method, url, headers)
    (self.body, self.timeLimit) = (body, timeLimit)
  }

  /// A request that carries JSON.
  package static func post(_ url: String, json: JSON, headers: [(name: String, value: String)] = [])
    throws
    -> Self
  {
    HTTPRequest(
      method: "POST", url: url, headers: headers + [("Content-Type", "application/json")],
      body: .bytes(json.data()))
  }
}

/// A response with any status.
package struct HTTPResponse: Sendable {
  package let status: Int
  /// The headers by lower-case name.
  package let headers: [String: String]
  package let body: Data

  package var isSuccess: Bool { (200..<300).contains(status) }

  /// A server's description of an error, shortened to one line.
  package var excerpt: String {
    let text = String(decoding: body.prefix(2_000), as: UTF8.self)
    let line = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    return line.count > 300 ? line.prefix(300) + "…" : line
  }

  /// - Throws: `Issue` if the body is not JSON.
  package func json(from url: String) throws -> JSON {
    do { return try JSON(parsing: body) } catch {
      throw Issue([.file(url)], "answered with something that is no JSON: \(excerpt)")
    }
  }
}

/// The reason why there is no response.
package struct HTTPFailure: Error, CustomStringConvertible {
  package enum Kind: Sendable {
    /// The server can't be found, or accepts no connection; a later attempt may succeed.
    case unreachable
    /// The connection was lost; a later attempt may succeed.
    case connection
    /// There was no complete response within the time limit; a later attempt may succeed.
    case timeout
    /// The server's certificate is not trusted.
    case certificate
    /// The request was cancelled by this program.
    case cancelled
    /// A failure that a retry can't fix: a bad URL, a file that can't be read, no libcurl.
    case unusable
  }

  package let kind: Kind
  package let url: String
  package let problem: String

  package init(kind: Kind, url: String, problem: String) {
    (self.kind, self.url, self.problem) = (kind, url, problem)
  }

  package var description: String { "\(url): \(problem)" }
}
