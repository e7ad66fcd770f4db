import Foundation
import Synchronization
import Testing

@testable import Training

/// Jobs run in order, errors are kept for their reader, and few copies wait at a time.
@Suite struct SaveQueueTests {
  private struct Failure: Error, Equatable { let number: Int }

  private final class Log: Sendable {
    private let numbers = Mutex<[Int]>([])
    var all: [Int] { numbers.withLock { $0 } }
    func add(_ number: Int) { numbers.withLock { $0.append(number) } }
  }

  @Test func jobsRunInOrderAndErrorsAreTakenOnce() {
    let (saves, log) = (SaveQueue(), Log())
    // More than the queue holds: results that nobody takes must not block the caller.
    for number in 0..<20 {
      saves.submit {
        log.add(number)
        if number % 7 == 0 { throw Failure(number: number) }
      }
    }
    saves.waitUntilIdle()
    #expect(saves.isIdle)
    #expect(log.all == Array(0..<20))
    #expect(saves.takeErrors().compactMap { ($0 as? Failure)?.number } == [0, 7, 14])
    #expect(saves.takeErrors().isEmpty)
  }

  @Test func callersWaitWhereTwoJobsWait() {
    let (saves, log, gate) = (SaveQueue(), Log(), DispatchSemaphore(value: 0))
    for _ in 0..<3 { saves.submit { gate.wait() } }
    #expect(!saves.isIdle && saves.takeErrors().isEmpty)
    let isSubmitted = DispatchSemaphore(value: 0)
    Thread {
      saves.submit { log.add(1) }
      isSubmitted.signal()
    }.start()
    #expect(isSubmitted.wait(timeout: .now() + 0.1) == .timedOut)
    gate.signal()
    #expect(isSubmitted.wait(timeout: .now() + 60) == .success)
    #expect(log.all.isEmpty)
    for _ in 0..<2 { gate.signal() }
    saves.waitUntilIdle()
    #expect(log.all == [1])
  }

  /// A queue that is released writes what waits.
  @Test func submittedJobsOutliveTheQueue() {
    let (log, gate, isDone) = (
      Log(), DispatchSemaphore(value: 0), DispatchSemaphore(value: 0)
    )
    do {
      let saves = SaveQueue()
      saves.submit { gate.wait() }
      for number in 0..<2 {
        saves.submit {
          log.add(number)
          if number == 1 { isDone.signal() }
        }
      }
    }
    gate.signal()
    #expect(isDone.wait(timeout: .now() + 60) == .success)
    #expect(log.all == [0, 1])
  }
}
