import Foundation
import HTTP
import Support

/// A server that a captioner talks to: sends requests with retries, and turns what goes wrong into
/// sentences that never contain the key.
struct ModelServer: Sendable {
  /// The name of the server in messages: its address, or `Gemini`.
  let name: String
  /// The key that is sent to the server; nil without one.
  let key: String?
  /// The limit for one answer, in seconds.
  let timeLimit: Double
  let retries: RetryPolicy
  /// The advice for a server that refuses the key, a sentence.
  let keyAdvice: String
  private let clients: HTTPClientPool

  init(
    name: String, key: String?, timeLimit: Double, retries: RetryPolicy, keyAdvice: String,
    environment: [String: String]
  ) throws {
    (self.name, self.key, self.timeLimit) = (name, key, timeLimit)
    (self.retries, self.keyAdvice) = (retries, keyAdvice)
    do {
      clients = try HTTPClientPool(environment: environment)
    } catch let failure as HTTPFailure {
      throw Issue([.file(failure.url)], failure.problem)
    }
  }

  func cancel() { clients.cancel() }

  /// Sends a request until the response is not a temporary failure.
  ///
  /// - Parameter retries: The delays between attempts; nil for those of the server.
  /// - Returns: A response with any status.
  /// - Throws: `CaptionFailure` if there is no response.
  func send(
    _ request: HTTPRequest, retries: RetryPolicy? = nil,
    delay: (HTTPResponse) -> Double? = { _ in nil }
  ) throws -> HTTPResponse {
    do {
      return try clients.withClient { client in
        try (retries ?? self.retries).send(request, with: client, delay: delay)
      }
    } catch let failure as HTTPFailure {
      throw CaptionFailure(issue(of: failure, limit: request.timeLimit), scope: Self.scope(failure))
    }
  }

  /// Waits before a request is repeated.
  func pause(_ seconds: Double, before request: HTTPRequest) throws {
    do {
      try clients.withClient { try $0.pause(seconds, before: request) }
    } catch let failure as HTTPFailure {
      throw CaptionFailure(issue(of: failure, limit: nil), scope: .run)
    }
  }

  private static func scope(_ failure: HTTPFailure) -> CaptionFailure.Scope {
    switch failure.kind {
    case .unreachable, .certificate, .cancelled: .run
    case .connection, .timeout: .server
    case .unusable: .clip
    }
  }

  private func issue(of failure: HTTPFailure, limit: Double?) -> Issue {
    let problem = redacted(failure.problem)
    switch failure.kind {
    case .unreachable:
      return Issue(
        [.file(name)], "no server answers (\(problem))",
        suggestion: "Start it, or correct its address.")
    case .timeout:
      let time = limit.map { " within \(String(format: "%g", $0)) s" } ?? ""
      return Issue(
        [.file(name)], "gave no complete answer\(time)",
        suggestion: "Raise the limit with `timeout`, or look at the server.")
    case .connection:
      return Issue(
        [.file(name)], "the connection was lost (\(problem))",
        suggestion: "Look at the server's log.")
    case .certificate:
      return Issue(
        [.file(name)], "its certificate is not trusted (\(problem))",
        suggestion: "Name the file of the authority with SSL_CERT_FILE.")
    case .cancelled: return Issue([.file(name)], "the request was cancelled")
    case .unusable: return Issue([.file(name)], problem)
    }
  }

  /// The failure that a response with an error status means.
  ///
  /// - Parameters:
  ///   - message: The server's own words.
  ///   - bytes: The size of the request.
  func failure(status: Int, message: String, bytes: Int) -> CaptionFailure {
    let words = redacted(message)
    func failure(
      _ problem: String, _ suggestion: String?, _ scope: CaptionFailure.Scope
    ) -> CaptionFailure {
      let reason = words.isEmpty ? "" : ": \(words)"
      return CaptionFailure(
        Issue(
          [.file(name)], "\(problem) (\(status))\(reason)", suggestion: suggestion), scope: scope)
    }
    switch status {
    case 401, 403: return failure("refuses the key", keyAdvice, .run)
    case 404: return failure("has no such model or address", "Correct them.", .run)
    case 413:
      let size = String(format: "%.1f MB", Double(bytes) / 1e6)
      return failure(
        "refuses a request of \(size)", "Use a shorter clip, or raise the server's limit.", .clip)
    case 429:
      return failure(
        "the limit on requests is reached", "Run the command again later; it resumes here.", .run)
    case 500...: return failure("failed", "Look at the server's log.", .server)
    default: return failure("refuses the request", nil, .clip)
    }
  }

  /// An answer that can't be read.
  func malformed(_ response: HTTPResponse, _ problem: String) -> CaptionFailure {
    CaptionFailure(
      Issue(
        [.file(name)], "\(problem): \(redacted(response.excerpt))",
        suggestion: "Check that the address is that of a model server."), scope: .server)
  }

  /// A text of the server without the key, which some servers repeat.
  func redacted(_ text: String) -> String {
    guard let key, key.count >= 8 else { return text }
    return text.replacing(key, with: "[key]")
  }
}
