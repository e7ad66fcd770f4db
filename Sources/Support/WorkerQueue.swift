import Foundation

/// Runs jobs on its own threads and returns their results in the order of submission.
///
/// The queue is bounded: `submit` waits while `capacity` jobs have results that were not taken. It
/// may be used from any thread. Its threads end after `finish()`, `cancel()` or the release of the
/// queue; the release cancels a queue that has not been finished.
public final class WorkerQueue<Output: Sendable>: Sendable {
  public typealias Job = @Sendable () throws -> Output

  private let state: State

  /// - Parameters:
  ///   - name: the name of the threads, for debuggers.
  ///   - threads: the number of jobs that run at a time, at least 1.
  ///   - capacity: the max number of jobs that wait, run, or have a result to be taken, at least 1.
  public init(name: String, threads: Int = 1, capacity: Int) {
    let state = State(capacity: max(1, capacity))
    self.state = state
    for number in 0..<max(1, threads) {
      let thread = Thread { state.work() }
      thread.name = threads > 1 ? "\(name) \(number)" : name
      thread.stackSize = 8 << 20  // decoders need more than a thread's default half megabyte
      thread.start()
    }
  }

  deinit { state.end(.cancelled, replacesFinishing: false) }

  /// Adds a job, after waiting for room.
  ///
  /// - Returns: false if the queue was finished or cancelled; the job does not run then.
  @discardableResult
  public func submit(_ job: @escaping Job) -> Bool { state.submit(job) }

  /// Waits for the result of the oldest job and takes it; nil if no result is due, or the queue was
  /// cancelled.
  ///
  /// - Throws: the error of that job. The next call returns the result of the job after it.
  public func next() throws -> Output? { try state.take(waits: true)?.get() }

  /// Takes the result of the oldest job, an error included; nil if no result is due, or the queue
  /// was cancelled.
  ///
  /// - Parameter waits: whether to wait for the job; otherwise, nil also if it is not done.
  public func nextResult(waits: Bool) -> Result<Output, any Error>? { state.take(waits: waits) }

  /// The number of jobs that wait, run, or have a result to be taken.
  public var count: Int { state.count }

  /// Whether no job waits or runs.
  public var isIdle: Bool { state.isIdle }

  /// Refuses further jobs. Those that wait still run.
  public func finish() { state.end(.finishing) }

  /// Refuses further jobs, and drops jobs that wait and results that were not taken. A job that
  /// runs is not interrupted. Callers that wait return at once.
  public func cancel() { state.end(.cancelled) }
}

extension WorkerQueue {
  fileprivate enum Phase { case open, finishing, cancelled }

  /// The state that the threads and their owner share.
  ///
  /// It is unchecked because the compiler doesn't see that the condition's lock is held wherever a
  /// variable is used: all are private, and each function that uses them takes the lock first.
  fileprivate final class State: @unchecked Sendable {
    private let condition = NSCondition()
    private let capacity: Int
    private var phase = Phase.open
    // Jobs are numbered from 0 in the order of submission.
    private var waiting: [Job] = []
    private var finished: [Int: Result<Output, any Error>] = [:]
    private var started = 0
    private var running = 0
    private var taken = 0

    init(capacity: Int) { self.capacity = capacity }

    private var submitted: Int { started + waiting.count }

    var count: Int { condition.withLock { submitted - taken } }

    var isIdle: Bool { condition.withLock { waiting.isEmpty && running == 0 } }

    func submit(_ job: @escaping Job) -> Bool {
      condition.withLock {
        while phase == .open, submitted - taken >= capacity { condition.wait() }
        guard phase == .open else { return false }
        waiting.append(job)
        condition.broadcast()
        return true
      }
    }

    func take(waits: Bool) -> Result<Output, any Error>? {
      condition.withLock {
        while phase != .cancelled, taken < submitted {
          if let result = finished.removeValue(forKey: taken) {
            taken += 1
            condition.broadcast()
            return result
          }
          guard waits else { return nil }
          condition.wait()
        }
        return nil
      }
    }

    /// Runs jobs until the queue ends.
    func work() {
      while let (number, job) = claim() {
        let result = Result { try job() }
        condition.withLock {
          running -= 1
          if phase != .cancelled { finished[number] = result }
          condition.broadcast()
        }
      }
    }

    private func claim() -> (Int, Job)? {
      condition.withLock {
        while phase == .open, waiting.isEmpty { condition.wait() }
        guard !waiting.isEmpty else { return nil }
        defer { (started, running) = (started + 1, running + 1) }
        return (started, waiting.removeFirst())
      }
    }

    func end(_ phase: Phase, replacesFinishing: Bool = true) {
      // Dropped jobs and results are freed after the lock, since they may hold users of the queue.
      _ = condition.withLock { () -> ([Job], [Int: Result<Output, any Error>]) in
        guard self.phase == .open || self.phase == .finishing && replacesFinishing else {
          return ([], [:])
        }
        self.phase = phase
        condition.broadcast()
        guard phase == .cancelled else { return ([], [:]) }
        defer { (waiting, finished, taken) = ([], [:], started) }
        return (waiting, finished)
      }
    }
  }
}
