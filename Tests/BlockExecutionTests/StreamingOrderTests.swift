import Testing

@testable import BlockExecution

/// The blocks that are loaded ahead.
@Suite struct StreamingOrderTests {
  private let order = StreamingOrder([0, 2, 4, 6])

  @Test func aPassEndsWithTheFirstBlocksOfTheNext() {
    #expect(order.next(2, after: 2, in: .forward) == [4, 6])
    #expect(order.next(2, after: 4, in: .forward) == [6, 2])
    #expect(order.next(2, after: 6, in: .forward) == [4, 2])
    #expect(order.next(2, after: 6, in: .backward) == [4, 2])
    #expect(order.next(2, after: 0, in: .backward) == [2, 4])
    #expect(order.next(2, after: 6, in: .inference) == [0, 2])
  }

  @Test func residentBlocksAreSkipped() {
    #expect(order.next(1, after: 1, in: .forward) == [2])
    #expect(order.next(1, after: 3, in: .backward) == [2])
    #expect(order.next(3, after: 7, in: .forward) == [6, 4, 2])
    #expect(StreamingOrder([]).next(2, after: 0, in: .inference).isEmpty)
    #expect(StreamingOrder([3]).next(2, after: 3, in: .inference).isEmpty)
  }
}
