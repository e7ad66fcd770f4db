import Foundation

/// Makes the elements of a sequence on separate threads, ahead of the requested one.
public final class ReadAhead<Element: Sendable>: Sendable {
  private let queue: Queue

  /// The state that the threads and their owner share. The threads end soon after the owner is freed.
  private final class Queue: @unchecked Sendable {
    private let condition = NSCondition()
    private let count: Int
    private let capacity: Int
    // Guarded by the condition.
    private var ready: [Int: Element] = [:]
    private var next = 0
    private var taken = 0
    private var isAbandoned = false

    init(count: Int, capacity: Int) { (self.count, self.capacity) = (count, capacity) }

    /// Returns the next element to make, after waiting for room; nil if no element is left.
    func claim() -> Int? {
      condition.withLock {
        while !isAbandoned, next < count, next - taken > capacity { condition.wait() }
        guard !isAbandoned, next < count else { return nil }
        defer { next += 1 }
        return next
      }
    }

    func put(_ element: Element, at index: Int) {
      condition.withLock {
        ready[index] = element
        condition.broadcast()
      }
    }

    func take() -> Element {
      condition.withLock {
        while true {
          if let element = ready.removeValue(forKey: taken) {
            taken += 1
            condition.broadcast()
            return element
          }
          condition.wait()
        }
      }
    }

    func abandon() {
      condition.withLock {
        isAbandoned = true
        condition.broadcast()
      }
    }
  }

  /// - Parameters:
  ///   - capacity: The number of elements that may be waiting or in progress besides the next one.
  ///   - threads: The number of elements that are made at a time.
  ///   - make: Called once for each of 0, 1, … up to `count`, on one of the threads.
  public init(
    count: Int, capacity: Int = 1, threads: Int = 1, _ make: @escaping @Sendable (Int) -> Element
  ) {
    let queue = Queue(count: count, capacity: max(capacity, threads))
    self.queue = queue
    for number in 0..<min(threads, count) {
      let thread = Thread {
        while let index = queue.claim() { queue.put(make(index), at: index) }
      }
      thread.name = "ltx read ahead \(number)"
      thread.stackSize = 8 << 20  // decoders need more than a thread's default half megabyte
      thread.start()
    }
  }

  deinit { queue.abandon() }

  /// Waits for the next element and returns it. May be called at most `count` times.
  public func next() -> Element { queue.take() }
}
