import Torch

/// Which samples make up each batch of a run.
///
/// The order is a function of the seed and the batch's number alone, so that a run that goes on needs no state of it.
/// Samples of one shape are batched together; what does not fill a batch makes a smaller one.
struct BatchOrder {
  private let shapes: [[Int]]
  private let batchSize: Int
  private let seed: UInt64
  private var epoch = -1
  private var batches: [[Int]] = []

  /// - Parameter shapes: of the samples' latents.
  init(shapes: [[Int]], batchSize: Int, seed: UInt64) {
    self.shapes = shapes
    // A batch never holds more than there is.
    self.batchSize = min(batchSize, max(shapes.count, 1))
    self.seed = seed
  }

  /// Batches that show every sample once.
  var batchesPerEpoch: Int {
    Dictionary(grouping: shapes, by: { $0 }).values.reduce(0) { $0 + ($1.count + batchSize - 1) / batchSize }
  }

  /// The samples of a batch, counted from 0 over all epochs.
  mutating func batch(_ number: Int) throws -> [Int] {
    let (epoch, index) = number.quotientAndRemainder(dividingBy: batchesPerEpoch)
    if epoch != self.epoch {
      batches = try shuffled(Generator(seed: RandomSeed.mix(seed, "epoch", epoch)))
      self.epoch = epoch
    }
    return batches[index]
  }

  private func shuffled(_ generator: Generator) throws -> [[Int]] {
    let order: [Int] = try generator.permutation(shapes.count).array()
    var open: [[Int]: [Int]] = [:]
    var result: [[Int]] = []
    for sample in order {
      let shape = shapes[sample]
      open[shape, default: []].append(sample)
      if let full = open[shape], full.count == batchSize {
        result.append(full)
        open[shape] = nil
      }
    }
    // The remainders come last, in an order that does not depend on hashing.
    result += open.values.sorted { $0[0] < $1[0] }
    let batchOrder: [Int] = try generator.permutation(result.count).array()
    return batchOrder.map { result[$0] }
  }
}
