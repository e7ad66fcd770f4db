import Foundation

/// The delays between attempts of a request that fails temporarily: no connection, too many
/// requests (429), an error of the server (5xx).
package struct RetryPolicy: Sendable {
  /// The seconds before the second, third, … attempt.
  package var delays: [Double]
  /// Whether a request that got no complete response within its time limit is sent again.
  package var retriesTimeouts: Bool

  package init(delays: [Double], retriesTimeouts: Bool = true) {
    (self.delays, self.retriesTimeouts) = (delays, retriesTimeouts)
  }

  /// About a minute in total, for work that a user waits for.
  package static let patient = RetryPolicy(delays: [1, 2, 4, 8, 16, 30])
  /// A few seconds, for checks before the work.
  package static let brief = RetryPolicy(delays: [1, 3])

  package static func isPassing(_ status: Int) -> Bool {
    status == 408 || status == 429 || status >= 500
  }

  package static func isPassing(_ error: any Error) -> Bool {
    switch (error as? HTTPFailure)?.kind {
    case .unreachable, .connection, .timeout: true
    case .certificate, .cancelled, .unusable, nil: false
    }
  }

  /// The delay that a busy server asks for, in seconds: a number, or a date.
  package static func requestedDelay(_ response: HTTPResponse) -> Double? {
    guard let text = response.headers["retry-after"] else { return nil }
    let seconds = Double(text) ?? date(text)?.timeIntervalSinceNow
    return seconds.map { $0.isNaN ? 0 : min(max($0, 0), longestDelay) }
  }

  /// The longest delay that is granted to a server, in seconds.
  package static let longestDelay = 120.0

  private static func date(_ text: String) -> Date? {
    let format = DateFormatter()
    format.locale = Locale(identifier: "en_US_POSIX")
    format.timeZone = TimeZone(identifier: "GMT")
    format.dateFormat = "EEE, dd MMM yyyy HH:mm:ss zzz"
    return format.date(from: text)
  }

  /// Sends a request until the response is not a temporary failure, and returns the last response.
  ///
  /// - Parameter delay: Returns the delay that the server asks for in the body of a response, in
  ///   seconds, in addition to `Retry-After`.
  /// - Throws: `HTTPFailure` if the last attempt gets no response.
  package func send(
    _ request: HTTPRequest, with client: HTTPClient,
    delay requested: (HTTPResponse) -> Double? = { _ in nil }
  ) throws -> HTTPResponse {
    for delay in delays {
      var wait = delay
      do {
        let response = try client.send(request)
        guard Self.isPassing(response.status) else { return response }
        let asked = Self.requestedDelay(response) ?? requested(response) ?? 0
        wait = max(wait, min(asked, Self.longestDelay))
      } catch let failure as HTTPFailure
        where Self.isPassing(failure) && (retriesTimeouts || failure.kind != .timeout)
      {
        // The next attempt may succeed.
      }
      try client.pause(wait, before: request)
    }
    return try client.send(request)
  }
}
