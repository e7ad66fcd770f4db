import Support
import Synchronization

/// Makes the elements of a sequence on separate threads, ahead of the requested one.
public final class ReadAhead<Element: Sendable>: Sendable {
  private let queue: WorkerQueue<Element>
  /// The numbers of the elements that have not been submitted to the queue yet.
  private let rest: Mutex<Range<Int>>
  private let make: @Sendable (Int) throws -> Element

  /// - Parameters:
  ///   - capacity: The number of elements that may be waiting or in progress besides the next one.
  ///   - threads: The number of elements that are made at a time.
  ///   - make: Called once for each of 0, 1, … up to `count`, on one of the threads.
  public init(
    count: Int, capacity: Int = 1, threads: Int = 1,
    _ make: @escaping @Sendable (Int) throws -> Element
  ) {
    let ahead = max(capacity, threads) + 1
    queue = WorkerQueue(name: "ltx read ahead", threads: min(threads, count), capacity: ahead)
    rest = Mutex(0..<count)
    self.make = make
    rest.withLock { rest in
      for _ in 0..<ahead { submitFirst(of: &rest) }
    }
  }

  /// Submits the next element. It never waits: it is called for the first elements, and once for
  /// each element that was taken.
  private func submitFirst(of rest: inout Range<Int>) {
    guard let number = rest.popFirst() else { return }
    queue.submit { [make] in try make(number) }
  }

  /// Makes no further elements; `next` returns nil from now on, also to callers that wait. Called
  /// from any thread.
  public func cancel() { queue.cancel() }

  /// Waits for the next element and returns it; nil after the last one.
  ///
  /// - Throws: the error of `make`. The next call returns the element after it.
  public func next() throws -> Element? {
    // The lock admits one caller at a time, so that none finds the queue empty before the next job
    // is added.
    try rest.withLock { rest in
      defer { submitFirst(of: &rest) }
      return try queue.next()
    }
  }
}
