import Foundation
import Synchronization
import Testing

@testable import Support

/// The order, errors, back-pressure and end of a queue.
@Suite struct WorkerQueueTests {
  private struct Failure: Error, Equatable { let number: Int }

  /// Numbers that jobs report.
  private final class Log: Sendable {
    private let numbers = Mutex<[Int]>([])
    var all: [Int] { numbers.withLock { $0 } }
    func add(_ number: Int) { numbers.withLock { $0.append(number) } }
  }

  /// A gate that blocks jobs until it is opened.
  private final class Gate: Sendable {
    private let semaphore = DispatchSemaphore(value: 0)
    func pass() { semaphore.wait() }
    func open(_ times: Int = 1) { for _ in 0..<times { semaphore.signal() } }
    func passes(within seconds: Double) -> Bool {
      semaphore.wait(timeout: .now() + seconds) == .success
    }
  }

  private func waitUntil(_ condition: () -> Bool) -> Bool {
    let end = Date() + 60
    while !condition(), Date() < end { Thread.sleep(forTimeInterval: 0.002) }
    return condition()
  }

  @Test(arguments: [1, 4]) func resultsComeInTheOrderOfSubmission(threads: Int) throws {
    let queue = WorkerQueue<Int>(name: "test", threads: threads, capacity: 100)
    for number in 0..<100 {
      let isSubmitted = queue.submit {
        if number % 5 == 0 { Thread.sleep(forTimeInterval: 0.002) }
        return number * number
      }
      #expect(isSubmitted)
    }
    #expect(try (0..<100).map { _ in try queue.next() } == (0..<100).map { $0 * $0 })
    #expect(try queue.next() == nil)
    #expect(queue.count == 0 && queue.isIdle)
  }

  /// A job that ends before an earlier one waits for its turn; an error counts as a result.
  @Test func errorsComeInTheirPlace() throws {
    let queue = WorkerQueue<Int>(name: "test", threads: 2, capacity: 4)
    let (gate, isDone) = (Gate(), Gate())
    queue.submit {
      gate.pass()
      return 0
    }
    queue.submit {
      defer { isDone.open() }
      throw Failure(number: 1)
    }
    queue.submit { 2 }
    isDone.pass()
    #expect(queue.nextResult(waits: false) == nil)
    gate.open()
    #expect(try queue.next() == 0)
    #expect(throws: Failure(number: 1)) { try queue.next() }
    #expect(try queue.next() == 2)
    #expect(try queue.next() == nil)
  }

  @Test func asManyJobsRunAtATimeAsThereAreThreads() throws {
    let (log, gate) = (Log(), Gate())
    let queue = WorkerQueue<Void>(name: "test", threads: 3, capacity: 10)
    for number in 0..<6 {
      queue.submit {
        log.add(number)
        gate.pass()
      }
    }
    #expect(waitUntil { log.all.count == 3 })
    Thread.sleep(forTimeInterval: 0.05)
    #expect(log.all.sorted() == [0, 1, 2])
    gate.open(6)
    for _ in 0..<6 { #expect(try queue.next() != nil) }
    #expect(log.all.sorted() == Array(0..<6))
  }

  /// Unclaimed results count toward the capacity, so that memory stays bounded.
  @Test func submittersWaitForRoom() throws {
    let queue = WorkerQueue<Int>(name: "test", threads: 2, capacity: 3)
    let (submitted, isDone) = (Log(), Gate())
    Thread {
      for number in 0..<5 {
        queue.submit { number }
        submitted.add(number)
      }
      isDone.open()
    }.start()
    #expect(waitUntil { submitted.all.count == 3 && queue.isIdle })
    #expect(!isDone.passes(within: 0.05))
    #expect(submitted.all == [0, 1, 2] && queue.count == 3)
    #expect(try queue.next() == 0)
    #expect(waitUntil { submitted.all.count == 4 && queue.isIdle })
    #expect(queue.count == 3)
    #expect(try queue.next() == 1)
    #expect(isDone.passes(within: 60))
    #expect(try (2..<6).map { _ in try queue.next() } == [2, 3, 4, nil])
  }

  @Test func cancelingDropsWhatWaitsAndWakesCallers() throws {
    let queue = WorkerQueue<Int>(name: "test", capacity: 2)
    let (log, gate, isRunning) = (Log(), Gate(), Gate())
    queue.submit {
      isRunning.open()
      gate.pass()
      log.add(0)
      return 0
    }
    queue.submit {
      log.add(1)
      return 1
    }
    isRunning.pass()
    let (submission, reading) = (Gate(), Gate())
    let outcomes = Log()
    Thread {
      outcomes.add(queue.submit { 2 } ? 1 : 0)
      submission.open()
    }.start()
    Thread {
      outcomes.add(queue.nextResult(waits: true) == nil ? 0 : 1)
      reading.open()
    }.start()
    #expect(!submission.passes(within: 0.05) && !reading.passes(within: 0.05))
    queue.cancel()
    #expect(submission.passes(within: 60) && reading.passes(within: 60))
    #expect(outcomes.all == [0, 0])
    #expect(!queue.isIdle, "a job that runs isn't interrupted")
    gate.open()
    #expect(waitUntil { queue.isIdle })
    #expect(log.all == [0])
    #expect(try queue.next() == nil)
    #expect(!queue.submit { 3 } && queue.count == 0)
    queue.finish()
    #expect(!queue.submit { 3 })
  }

  @Test func finishingRunsWhatWaits() throws {
    let queue = WorkerQueue<Int>(name: "test", capacity: 3)
    let gate = Gate()
    for number in 0..<3 {
      queue.submit {
        gate.pass()
        return number
      }
    }
    queue.finish()
    #expect(!queue.submit { 3 })
    gate.open(3)
    #expect(try (0..<4).map { _ in try queue.next() } == [0, 1, 2, nil])
  }

  @Test(arguments: [false, true]) func releasedQueues(isFinished: Bool) {
    let (log, gate, isRunning) = (Log(), Gate(), Gate())
    do {
      let queue = WorkerQueue<Void>(name: "test", capacity: 3)
      queue.submit {
        isRunning.open()
        gate.pass()
        log.add(0)
      }
      for number in 1..<3 { queue.submit { log.add(number) } }
      isRunning.pass()
      if isFinished { queue.finish() }
    }
    gate.open()
    #expect(waitUntil { log.all.count == (isFinished ? 3 : 1) })
    Thread.sleep(forTimeInterval: 0.05)
    #expect(log.all == (isFinished ? [0, 1, 2] : [0]))
  }

  /// A dropped job may hold the last reference to an object that uses the queue.
  @Test func droppedJobsMayHoldUsersOfTheQueue() {
    final class User: Sendable {
      let queue: WorkerQueue<Void>
      let log: Log
      init(_ queue: WorkerQueue<Void>, _ log: Log) { (self.queue, self.log) = (queue, log) }
      deinit { log.add(queue.count) }
    }
    let (log, gate) = (Log(), Gate())
    let queue = WorkerQueue<Void>(name: "test", capacity: 2)
    queue.submit { gate.pass() }
    do {
      let user = User(queue, log)
      queue.submit { user.log.add(-1) }
    }
    queue.cancel()
    gate.open()
    #expect(log.all == [0])
  }
}
