import Foundation
import Synchronization

/// Limits how often the state is stored: copying and writing it may take at most a fiftieth of one
/// thread.
///
/// Only CPU time counts, because a slow disk does not slow down computation.
final class StatePacing: Sendable {
  private static let share = 50.0

  private struct Last {
    var start = ContinuousClock.now
    /// CPU seconds.
    var cost = 0.0
  }

  private let last = Mutex(Last())

  /// Whether enough time has passed since the last save to make up for its cost. If so, a new save
  /// begins.
  var isDue: Bool {
    last.withLock { last in
      let now = ContinuousClock.now
      guard (now - last.start) / .seconds(1) >= last.cost * Self.share else { return false }
      last = Last(start: now)
      return true
    }
  }

  /// Runs a part of the work, on any thread.
  func measuring<R>(_ body: () throws -> R) rethrows -> R {
    let start = Self.threadSeconds
    defer {
      let seconds = Self.threadSeconds - start
      last.withLock { $0.cost += seconds }
    }
    return try body()
  }

  /// The CPU time of the calling thread.
  private static var threadSeconds: Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
  }
}
