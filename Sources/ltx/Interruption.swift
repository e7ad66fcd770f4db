import Dispatch
import Foundation
import Synchronization

/// Ctrl-C and `kill`: they end the program at once, unless it is writing a file that it should clean up first. A second
/// one ends it whatever it does.
final class Interruption {
  /// What the handlers, on a thread of their own, share with the caller.
  private final class Record: Sendable {
    struct State {
      var status: Int32?
      var isAwaited = false
    }

    let state = Mutex(State())

    func receive(_ number: Int32) {
      let status = 128 + number
      let endsNow = state.withLock { state in
        defer { state.status = status }
        return !state.isAwaited || state.status != nil
      }
      if endsNow { _exit(status) }
    }
  }

  private let record = Record()
  private let sources: [any DispatchSourceSignal]

  init() {
    sources = [SIGINT, SIGTERM].map { [record] number in
      // The source sees the signal only if the default action does not end the program first.
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number)
      source.setEventHandler { record.receive(number) }
      source.resume()
      return source
    }
  }

  /// From now on the caller looks at `status` and stops by itself.
  func waitsForCaller() { record.state.withLock { $0.isAwaited = true } }

  /// The exit status to stop with, once a signal has come.
  var status: Int32? { record.state.withLock(\.status) }
}
