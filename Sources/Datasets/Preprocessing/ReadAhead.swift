import Foundation
import Synchronization

/// Makes the elements of a sequence on a thread of its own, a few ahead of the one that is asked for.
final class ReadAhead<Element: Sendable>: Sendable {
  private let queue: Queue

  /// What the thread and its owner share; the thread ends soon after the owner is gone.
  private final class Queue: Sendable {
    let ready = Mutex<[Element]>([])
    let isAbandoned = Mutex(false)
    let filled = DispatchSemaphore(value: 0)
    let free: DispatchSemaphore

    init(capacity: Int) {
      // A semaphore must not end below the value that it began with.
      free = DispatchSemaphore(value: 0)
      for _ in 0..<capacity { free.signal() }
    }
  }

  /// - Parameters:
  ///   - capacity: how many elements may wait, beside the one in the making.
  ///   - make: called with 0, 1, … up to `count`, on the thread.
  init(count: Int, capacity: Int = 1, _ make: @escaping @Sendable (Int) -> Element) {
    let queue = Queue(capacity: capacity)
    self.queue = queue
    let thread = Thread {
      for index in 0..<count {
        queue.free.wait()
        if queue.isAbandoned.withLock({ $0 }) { return }
        let element = make(index)
        queue.ready.withLock { $0.append(element) }
        queue.filled.signal()
      }
    }
    thread.name = "ltx read ahead"
    thread.stackSize = 8 << 20  // decoders need more than a thread's usual half megabyte
    thread.start()
  }

  deinit {
    queue.isAbandoned.withLock { $0 = true }
    queue.free.signal()
  }

  /// The next element, waited for. Call it `count` times at most.
  func next() -> Element {
    queue.filled.wait()
    let element = queue.ready.withLock { $0.removeFirst() }
    queue.free.signal()
    return element
  }
}
