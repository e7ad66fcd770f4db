import Testing

@testable import Training

@Suite struct BatchOrderTests {
  /// Every sample comes once in an epoch, keys are not mixed, and the same seed gives the same
  /// order.
  @Test func epochs() throws {
    let keys = [[1], [2], [1], [1], [2]]
    var order = BatchOrder(keys: keys, batchSize: 2, seed: 3)
    #expect(order.batchesPerEpoch == 3)
    let batches = try (0..<6).map { try order.batch($0) }
    for epoch in [batches[0..<3], batches[3..<6]] {
      #expect(epoch.flatMap(\.samples).sorted() == [0, 1, 2, 3, 4])
    }
    #expect(batches.allSatisfy { batch in Set(batch.samples.map { keys[$0] }).count == 1 })
    #expect(batches.map(\.position) == [0, 2, 4, 5, 7, 9])
    var again = BatchOrder(keys: keys, batchSize: 2, seed: 3)
    #expect(try again.batch(5) == batches[5])
  }

  /// The samples of a large batch are those of the small batches in its place.
  @Test(arguments: [1, 2, 3, 6])
  func smallBatchesMakeUpALargeOne(size: Int) throws {
    let keys = [[Int]](repeating: [1], count: 12)
    var large = BatchOrder(keys: keys, batchSize: 6, seed: 9)
    var small = BatchOrder(keys: keys, batchSize: size, seed: 9)
    for number in 0..<4 {
      let parts = try (0..<6 / size).map { try small.batch(number * 6 / size + $0) }
      #expect(try parts.flatMap(\.samples) == large.batch(number).samples)
      #expect(try parts.first?.position == large.batch(number).position)
    }
  }

  /// Threads that load ahead may return to the previous epoch.
  @Test func epochsInAnyOrder() throws {
    var order = BatchOrder(keys: [[1], [1], [1]], batchSize: 1, seed: 4)
    let first = try (0..<9).map { try order.batch($0) }
    #expect(try (0..<9).reversed().map { try order.batch($0) } == first.reversed())
  }

  /// A repeated sample appears that many times in every epoch, and repeats of 1 change nothing.
  @Test func repeats() throws {
    let keys = [[1], [2], [1], [1], [2]]
    var order = BatchOrder(keys: keys, repeats: [1, 3, 1, 2, 1], batchSize: 2, seed: 3)
    #expect(order.samplesPerEpoch == 8 && order.batchesPerEpoch == 4)
    let batches = try (0..<8).map { try order.batch($0) }
    for epoch in [batches[0..<4], batches[4..<8]] {
      #expect(epoch.flatMap(\.samples).sorted() == [0, 1, 1, 1, 2, 3, 3, 4])
    }
    #expect(batches[0..<4].map(\.samples) != batches[4..<8].map(\.samples))
    #expect(batches.allSatisfy { batch in Set(batch.samples.map { keys[$0] }).count == 1 })
    #expect(batches.map(\.position) == [0, 2, 4, 6, 8, 10, 12, 14])
    var again = BatchOrder(keys: keys, repeats: [1, 3, 1, 2, 1], batchSize: 2, seed: 3)
    #expect(try again.batch(6) == batches[6])

    var single = BatchOrder(keys: keys, batchSize: 2, seed: 3)
    var ones = BatchOrder(keys: keys, repeats: [1, 1, 1, 1, 1], batchSize: 2, seed: 3)
    for number in 0..<9 { #expect(try single.batch(number) == ones.batch(number)) }
  }

  /// A run shows the samples as often as the cache's index says; a changed index makes it another
  /// run.
  @Test func repeatsOfACache() throws {
    let synthetic = try SyntheticRun((0..<3).map { _ in .init() })
    let c = synthetic.configuration(Strategies.flexible([]), steps: 1)
    let plain = try Trainer(c).fingerprint
    try synthetic.writeRepeats(["clip-1": 3])
    let trainer = try Trainer(c)
    var order = trainer.order
    #expect(order.batchesPerEpoch == 5)
    let shown = try (0..<5).flatMap { try order.batch($0).samples }
    #expect(shown.sorted() == [0, 1, 1, 1, 2])
    #expect(trainer.fingerprint.differences(from: plain) == ["the dataset"])
    try synthetic.writeRepeats([:])
    #expect(try Trainer(c).fingerprint.differences(from: plain).isEmpty)
  }
}
