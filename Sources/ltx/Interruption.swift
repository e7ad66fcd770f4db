import Dispatch
import Foundation
import Support
import Synchronization

/// Ctrl-C, `kill`, a terminal that closes, a batch system's warning: they remove unfinished files
/// and end the program at once, unless the command ends by itself. A second signal, or Ctrl-\\,
/// ends it whatever it does.
final class Interruption: Sendable {
  private struct State {
    var status: Int32?
    var isAwaited = false
  }

  /// The state that the commands share with the handlers, which run on a thread of their own.
  private static let state = Mutex(State())

  /// Created once and kept alive.
  private nonisolated(unsafe) static let sources: [any DispatchSourceSignal] = [
    SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU,
  ]
  .compactMap { number in
    // The source sees the signal only if the default action does not end the program first.
    let previous = signal(number, SIG_IGN)
    if number == SIGHUP,
      unsafeBitCast(previous, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
    {
      return nil  // nohup
    }
    let source = DispatchSource.makeSignalSource(signal: number)
    source.setEventHandler { receive(number) }
    source.resume()
    return source
  }

  /// Heeds signals from now on.
  static func install() { _ = sources.count }

  private static func receive(_ number: Int32) {
    let status = 128 + number
    let endsNow = state.withLock { state in
      defer { state.status = state.status ?? status }
      // SIGXCPU comes every second from the first one on.
      return !state.isAwaited || number == SIGQUIT || (state.status != nil && number != SIGXCPU)
    }
    if endsNow { TemporaryFiles.exit(status) }
  }

  init() { Self.install() }

  /// From now on the caller looks at `status` and stops by itself.
  func waitsForCaller() { Self.state.withLock { $0.isAwaited = true } }

  /// The exit status to stop with, once a signal has come.
  var status: Int32? { Self.state.withLock(\.status) }
}
