import Foundation
import Synchronization

/// Writes files on a thread of its own, one after another, so that training does not wait for the
/// disk.
///
/// Jobs must own copies of their data, because training continues while they run.
final class SaveQueue: Sendable {
  private let shared: Shared

  /// The state shared by the thread and its owner.
  private final class Shared: @unchecked Sendable {
    private let condition = NSCondition()
    // Guarded by the condition.
    private var jobs: [@Sendable () throws -> Void] = []
    private var isWorking = false
    private var isClosed = false
    private var errors: [any Error] = []

    func submit(_ job: @escaping @Sendable () throws -> Void, whenFewerThan limit: Int) {
      condition.withLock {
        while jobs.count >= limit { condition.wait() }
        jobs.append(job)
        condition.broadcast()
      }
    }

    var isIdle: Bool { condition.withLock { jobs.isEmpty && !isWorking } }

    func takeErrors() -> [any Error] {
      condition.withLock {
        defer { errors = [] }
        return errors
      }
    }

    func waitUntilIdle() {
      condition.withLock { while !jobs.isEmpty || isWorking { condition.wait() } }
    }

    func close() {
      condition.withLock {
        isClosed = true
        condition.broadcast()
      }
    }

    func work() {
      while let job = next() {
        let result = Result { try job() }
        condition.withLock {
          if case .failure(let error) = result { errors.append(error) }
          isWorking = false
          condition.broadcast()
        }
      }
    }

    private func next() -> (@Sendable () throws -> Void)? {
      condition.withLock {
        while jobs.isEmpty, !isClosed { condition.wait() }
        guard !jobs.isEmpty else { return nil }
        isWorking = true
        return jobs.removeFirst()
      }
    }
  }

  init() {
    let shared = Shared()
    self.shared = shared
    let thread = Thread { shared.work() }
    thread.name = "ltx save"
    thread.start()
  }

  deinit { shared.close() }

  /// Adds a job. Waits if two jobs are pending, because each holds a copy of its data.
  func submit(_ job: @escaping @Sendable () throws -> Void) { shared.submit(job, whenFewerThan: 2) }

  /// Whether all jobs are done.
  var isIdle: Bool { shared.isIdle }

  /// Returns the errors since the last call.
  func takeErrors() -> [any Error] { shared.takeErrors() }

  /// Waits until all jobs are done.
  func waitUntilIdle() { shared.waitUntilIdle() }
}

/// The files written so far, for the thread that reports them.
final class SavedFiles: Sendable {
  private let paths = Mutex<[String]>([])

  func add(_ path: String) { paths.withLock { $0.append(path) } }

  func take() -> [String] {
    paths.withLock { list in
      defer { list = [] }
      return list
    }
  }
}
