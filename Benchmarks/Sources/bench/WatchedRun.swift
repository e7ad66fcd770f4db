import Foundation

/// The files that upstream's scripts need: a Python, the folder of `reference_train.py`, and
/// upstream's `packages/ltx-trainer`.
struct Reference {
  let python: String
  let scripts: String
  let trainer: String
}

/// A program that ran to its end, and its peak memory.
struct WatchedRun {
  let seconds: Double
  /// CPU seconds of all its threads and processes.
  let cpu: Double
  /// The peak resident memory of the program itself, in bytes.
  let peak: Int
  /// The peak of it and its descendants together, counting shared pages once.
  let peakOfAll: Int

  /// - Throws: `BenchmarkError` if it fails.
  static func of(_ program: String, _ arguments: [String]) throws -> WatchedRun {
    let watch = MemoryWatch()
    defer { _ = watch.stop() }
    let start = ContinuousClock.now
    let cpu = try run(program, arguments, started: watch.start)
    let time = (ContinuousClock.now - start) / .seconds(1)
    let (peak, all) = watch.stop()
    return WatchedRun(seconds: time, cpu: cpu, peak: peak, peakOfAll: all)
  }
}

/// Samples the memory of a process and its descendants ten times a second.
private final class MemoryWatch: @unchecked Sendable {
  private let lock = NSLock()
  private var peak = 0
  private var peakOfAll = 0
  private var hasEnded = false

  func start(_ process: pid_t) {
    Thread.detachNewThread { [self] in
      while !lock.withLock({ hasEnded }) {
        let own = Self.kilobytes("/proc/\(process)/status", "VmHWM:") ?? 0
        let all = Self.family(of: process).compactMap {
          Self.kilobytes("/proc/\($0)/smaps_rollup", "Pss:")
        }
        lock.withLock {
          peak = max(peak, own << 10)
          peakOfAll = max(peakOfAll, all.reduce(0, +) << 10)
        }
        Thread.sleep(forTimeInterval: 0.1)
      }
    }
  }

  func stop() -> (Int, Int) {
    lock.withLock {
      hasEnded = true
      return (peak, peakOfAll)
    }
  }

  /// A process that has just ended has no values.
  private static func kilobytes(_ path: String, _ name: String) -> Int? {
    guard let text = FileManager.default.contents(atPath: path) else { return nil }
    let line = String(decoding: text, as: UTF8.self).split(separator: "\n").first {
      $0.hasPrefix(name)
    }
    return line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Int($0) }
  }

  /// The process, the children of its main thread, and so on: enough for Python's workers.
  private static func family(of process: pid_t) -> [pid_t] {
    let path = "/proc/\(process)/task/\(process)/children"
    guard let text = FileManager.default.contents(atPath: path) else { return [process] }
    let children = String(decoding: text, as: UTF8.self).split(separator: " ").compactMap {
      pid_t($0)
    }
    return [process] + children.flatMap(family)
  }
}
