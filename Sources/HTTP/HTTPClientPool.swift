import Synchronization

/// Clients for requests that run at the same time, each over a connection of its own that is reused.
package final class HTTPClientPool: Sendable {
  private struct State {
    var all: [HTTPClient] = []
    var idle: [HTTPClient] = []
    var isCancelled = false
  }

  private let state = Mutex(State())
  private let environment: [String: String]

  /// - Throws: `HTTPFailure` if libcurl is not installed.
  package init(environment: [String: String]) throws {
    self.environment = environment
    let first = try HTTPClient(environment: environment)
    state.withLock {
      $0.all = [first]
      $0.idle = [first]
    }
  }

  /// Runs a closure with a client that no other caller uses meanwhile.
  package func withClient<R>(_ body: (HTTPClient) throws -> R) throws -> R {
    let client = try state.withLock { state in
      if let client = state.idle.popLast() { return client }
      let client = try HTTPClient(environment: environment)
      if state.isCancelled { client.cancel() }
      state.all.append(client)
      return client
    }
    defer { state.withLock { $0.idle.append(client) } }
    return try body(client)
  }

  /// Makes all current and later requests fail with `.cancelled`.
  package func cancel() {
    state.withLock { state in
      state.isCancelled = true
      for client in state.all { client.cancel() }
    }
  }
}
