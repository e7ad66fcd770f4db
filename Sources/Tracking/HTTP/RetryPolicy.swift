import Foundation

/// How long to go on with a request that fails for a reason that may pass: no connection, too many
/// requests (429), a server's trouble (5xx).
struct RetryPolicy: Sendable {
  /// Seconds before the second, third, … try.
  var delays: [Double]

  /// About a minute in all: for what a user waits for.
  static let patient = RetryPolicy(delays: [1, 2, 4, 8, 16, 30])
  /// A few seconds: for what must be known before training.
  static let brief = RetryPolicy(delays: [1, 3])

  static func isPassing(_ status: Int) -> Bool { status == 408 || status == 429 || status >= 500 }

  static func isPassing(_ error: any Error) -> Bool { (error as? HTTPFailure)?.kind == .connection }

  /// What a server that is busy asks for, in seconds.
  static func requestedDelay(_ response: HTTPResponse) -> Double? {
    response.headers["retry-after"].flatMap(Double.init).map { min(max($0, 0), 120) }
  }

  /// The first answer that is no passing trouble, or the last of all.
  ///
  /// - Throws: `HTTPFailure` if the last try gets no answer.
  func send(_ request: HTTPRequest, with client: HTTPClient) throws -> HTTPResponse {
    for delay in delays {
      var wait = delay
      do {
        let response = try client.send(request)
        guard Self.isPassing(response.status) else { return response }
        wait = max(wait, Self.requestedDelay(response) ?? 0)
      } catch  where Self.isPassing(error) {}
      Thread.sleep(forTimeInterval: wait)
    }
    return try client.send(request)
  }
}
