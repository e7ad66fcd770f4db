import Torch

/// The samples of each batch of a run.
///
/// The order is a function of the seed and the batch number, so a resumed run needs no stored
/// state. Samples with equal keys are batched together; the remainders form smaller batches at the
/// end of the epoch. A sample with repeats appears that many times in an epoch.
///
/// If all samples have one key, a batch of four consists of two batches of a run with batch size
/// two, so accumulation and ranks can replace a larger batch.
struct BatchOrder: Sendable {
  struct Batch: Sendable, Equatable {
    /// Indices into the dataset.
    var samples: [Int]
    /// The number of samples shown before this batch, over all epochs.
    var position: Int
  }

  private let keys: [[Int]]
  /// The samples of an epoch before shuffling, including repeats.
  private let shown: [Int]
  private let batchSize: Int
  private let seed: UInt64
  /// The most recently used epochs: threads that load ahead may return to the previous one.
  private var epochs: [(number: Int, batches: [Batch])] = []
  /// The number of samples in an epoch, counting repeats.
  var samplesPerEpoch: Int { shown.count }
  /// The number of batches in an epoch.
  let batchesPerEpoch: Int
  /// The number of batches in an epoch by batch size.
  let batchesBySize: [Int: Int]

  /// - Parameters:
  ///   - keys: a key for each sample; samples with equal keys fit into one batch.
  ///   - repeats: the number of times that each sample appears in an epoch; nil for once.
  ///   - batchSize: at most the number of samples in an epoch.
  init(keys: [[Int]], repeats: [Int]? = nil, batchSize: Int, seed: UInt64) {
    self.keys = keys
    shown = keys.indices.flatMap { Array(repeating: $0, count: repeats?[$0] ?? 1) }
    self.batchSize = batchSize
    self.seed = seed
    var sizes: [Int: Int] = [:]
    for group in Dictionary(grouping: shown, by: { keys[$0] }).values {
      let (full, rest) = group.count.quotientAndRemainder(dividingBy: batchSize)
      if full > 0 { sizes[batchSize, default: 0] += full }
      if rest > 0 { sizes[rest, default: 0] += 1 }
    }
    batchesBySize = sizes
    batchesPerEpoch = sizes.values.reduce(0, +)
  }

  /// The epoch of a batch, and the batch's number in it; both from 0.
  func position(of batch: Int) -> (epoch: Int, index: Int) {
    let (epoch, index) = batch.quotientAndRemainder(dividingBy: batchesPerEpoch)
    return (epoch, index)
  }

  /// Returns a batch, counted from 0 over all epochs.
  mutating func batch(_ number: Int) throws -> Batch {
    let (epoch, index) = position(of: number)
    if let known = epochs.first(where: { $0.number == epoch }) { return known.batches[index] }
    let batches = try shuffled(Generator(seed: RandomSeed.mix(seed, "epoch", epoch)), epoch: epoch)
    epochs = epochs.suffix(1) + [(epoch, batches)]
    return batches[index]
  }

  private func shuffled(_ generator: Generator, epoch: Int) throws -> [Batch] {
    let order: [Int] = try generator.permutation(shown.count).array()
    var open: [[Int]: [Int]] = [:]
    var groups: [[Int]] = []
    for sample in order.map({ shown[$0] }) {
      let key = keys[sample]
      open[key, default: []].append(sample)
      if let full = open[key], full.count == batchSize {
        groups.append(full)
        open[key] = nil
      }
    }
    // The remainders come last, in an order that is independent of hashing.
    groups += open.values.sorted { $0[0] < $1[0] }
    var position = epoch * shown.count
    return groups.map { samples in
      defer { position += samples.count }
      return Batch(samples: samples, position: position)
    }
  }
}
