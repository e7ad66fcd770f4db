import Support
import Synchronization

/// Writes files on a thread of its own, one after another, so that training does not wait for the
/// disk.
///
/// Jobs must own copies of their data, because training continues while they run.
final class SaveQueue: Sendable {
  /// One job runs and two wait at most, because each holds a copy of its data.
  private static let capacity = 3

  private let queue = WorkerQueue<Void>(name: "ltx save", capacity: capacity)
  /// The errors that have not been taken yet. The lock is held from making room in the queue until
  /// a job is added; otherwise another caller could fill the room, and both would wait for results
  /// to be taken.
  private let errors = Mutex<[any Error]>([])

  // Pending jobs are finished even if nobody waits for them.
  deinit { queue.finish() }

  /// Adds a job. Waits if two jobs are pending.
  func submit(_ job: @escaping @Sendable () throws -> Void) {
    errors.withLock { errors in
      collect(&errors, leaving: Self.capacity - 1)
      queue.submit(job)
    }
  }

  /// Whether all jobs are done.
  var isIdle: Bool { queue.isIdle }

  /// Returns the errors since the last call, in the order of their jobs.
  func takeErrors() -> [any Error] {
    errors.withLock { errors in
      collect(&errors, leaving: Self.capacity)
      defer { errors = [] }
      return errors
    }
  }

  /// Waits until all jobs are done.
  func waitUntilIdle() { errors.withLock { collect(&$0, leaving: 0) } }

  /// Takes the results of finished jobs, and waits until at most `limit` other jobs are left.
  private func collect(_ errors: inout [any Error], leaving limit: Int) {
    while let result = queue.nextResult(waits: queue.count > limit) {
      if case .failure(let error) = result { errors.append(error) }
    }
  }
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
