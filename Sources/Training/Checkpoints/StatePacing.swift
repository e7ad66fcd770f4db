import Foundation
import Synchronization

/// How often the state is stored: so rarely that copying and writing it take at most a fiftieth of
/// one thread.
///
/// What counts is the time that threads compute. A slow disk keeps no one from computing.
final class StatePacing: Sendable {
  private static let share = 50.0

  private struct Last {
    var start = ContinuousClock.now
    /// CPU seconds.
    var cost = 0.0
  }

  private let last = Mutex(Last())

  /// Whether the cost of the last time is paid off. If so, a new one begins.
  var isDue: Bool {
    last.withLock { last in
      let now = ContinuousClock.now
      guard (now - last.start) / .seconds(1) >= last.cost * Self.share else { return false }
      last = Last(start: now)
      return true
    }
  }

  /// Does a part of the work, on any thread.
  func measuring<R>(_ body: () throws -> R) rethrows -> R {
    let start = Self.threadSeconds
    defer {
      let seconds = Self.threadSeconds - start
      last.withLock { $0.cost += seconds }
    }
    return try body()
  }

  /// That the calling thread has computed.
  private static var threadSeconds: Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
}
