import Testing

@testable import Training

@Suite struct BatchOrderTests {
  /// Every sample once an epoch, shapes apart; the same from the same seed.
  @Test func epochs() throws {
    let shapes = [[1], [2], [1], [1], [2]]
    var order = BatchOrder(shapes: shapes, batchSize: 2, seed: 3)
    #expect(order.batchesPerEpoch == 3)
    let batches = try (0..<6).map { try order.batch($0) }
    for epoch in [batches[0..<3], batches[3..<6]] { #expect(epoch.joined().sorted() == [0, 1, 2, 3, 4]) }
    #expect(batches.allSatisfy { batch in Set(batch.map { shapes[$0] }).count == 1 })
    var again = BatchOrder(shapes: shapes, batchSize: 2, seed: 3)
    #expect(try again.batch(5) == batches[5])
  }

  @Test func batchLargerThanTheDataset() throws {
    var order = BatchOrder(shapes: [[1], [1], [2]], batchSize: .max, seed: 3)
    #expect(order.batchesPerEpoch == 2)
    #expect(try (order.batch(0) + order.batch(1)).sorted() == [0, 1, 2])
  }
}
