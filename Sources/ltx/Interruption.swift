import Dispatch
import Foundation
import Support
import Synchronization

/// Handles Ctrl-C, `kill`, a closed terminal and a batch system's warning. A signal removes
/// unfinished files and ends the program at once, unless the command has said that it stops by
/// itself. A second signal, or Ctrl-\\, always ends the program.
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
    // Ignored, because the default action would end the program before the source sees the signal.
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

  /// Starts to handle signals.
  static func install() { _ = sources.count }

  private static func receive(_ number: Int32) {
    let status = 128 + number
    let endsNow = state.withLock { state in
      defer { state.status = state.status ?? status }
      // After the first SIGXCPU, the system sends one every second.
      return !state.isAwaited || number == SIGQUIT || (state.status != nil && number != SIGXCPU)
    }
    if endsNow { TemporaryFiles.exit(status) }
  }

  init() { Self.install() }

  /// Declares that the caller checks `status` from now on and stops by itself.
  func waitsForCaller() { Self.state.withLock { $0.isAwaited = true } }

  /// The exit status to stop with; nil before a signal arrives.
  var status: Int32? { Self.state.withLock(\.status) }
}
