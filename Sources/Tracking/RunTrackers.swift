import Foundation
import Support
import Synchronization

/// Forwards to all trackers of a run. A failing tracker does not end the run: its first failure
/// gives a warning, and later ones are counted. Each call is still attempted, because a full disk
/// or a network may recover. The number of lost records is reported at the end.
public final class RunTrackers: Sendable {
  public let trackers: [any RunTracker]
  private let warn: @Sendable (String) -> Void
  /// The failures by the tracker's index in the list.
  private let failures: Mutex<[Int: Int]> = Mutex([:])

  /// - Parameter warn: shows the user a line.
  public init(_ trackers: [any RunTracker], warn: @escaping @Sendable (String) -> Void) {
    self.trackers = trackers
    self.warn = warn
  }

  /// The number of failed calls by the tracker's name.
  public var failureCounts: [String: Int] {
    let counts = failures.withLock { $0 }
    return Dictionary(counts.map { (trackers[$0.key].name, $0.value) }, uniquingKeysWith: +)
  }

  public func scalars(_ values: [(name: String, value: Double)], step: Int) {
    forEach { try $0.scalars(values, step: step) }
  }

  public func text(_ name: String, _ text: String, step: Int) {
    forEach { try $0.text(name, text, step: step) }
  }

  /// - Parameter data: the bytes of a PNG or JPEG file.
  public func image(_ name: String, _ data: Data, width: Int, height: Int, step: Int) {
    forEach { try $0.image(name, data, width: width, height: height, step: step) }
  }

  public func media(_ samples: [ValidationMedia], step: Int) {
    forEach { try $0.media(samples, step: step) }
  }

  /// Ends all records, and reports what was lost.
  public func finish(_ outcome: RunOutcome) {
    forEach { try $0.finish(outcome) }
    for (index, count) in failures.withLock({ $0 }).sorted(by: { $0.key < $1.key }) where count > 1
    {
      warn("\(trackers[index].name) failed \(count) times; its record of this run has gaps")
    }
  }

  private func forEach(_ body: (any RunTracker) throws -> Void) {
    for (index, tracker) in trackers.enumerated() {
      do {
        try body(tracker)
      } catch {
        let count = failures.withLock { counts in
          counts[index, default: 0] += 1
          return counts[index]
        }
        if count == 1 {
          warn(
            "\(tracker.name): \(describe(error)); training continues, and further failures are counted"
          )
        }
      }
    }
  }
}

/// A wrapper that does not forward samples to its tracker.
public final class WithoutMedia: RunTracker {
  private let tracker: any RunTracker
  public var name: String { tracker.name }

  public init(_ tracker: any RunTracker) { self.tracker = tracker }

  public func scalars(_ values: [(name: String, value: Double)], step: Int) throws {
    try tracker.scalars(values, step: step)
  }
  public func text(_ name: String, _ text: String, step: Int) throws {
    try tracker.text(name, text, step: step)
  }
  public func image(_ name: String, _ data: Data, width: Int, height: Int, step: Int) throws {
    try tracker.image(name, data, width: width, height: height, step: step)
  }
  public func media(_ samples: [ValidationMedia], step: Int) throws {}
  public func finish(_ outcome: RunOutcome) throws { try tracker.finish(outcome) }
}
