import LTX
import Support
import Torch
import Tracking

/// The loss on samples that are held out of training. The noise and the sigmas are the same at each
/// measurement, so its curve shows progress, unlike that of the training loss.
struct HeldOutLoss {
  let dataset: PrecomputedDataset
  /// The seed of the random numbers, together with the sample and the sigma.
  let seed: UInt64

  /// The middle of each bucket.
  static let sigmas: [Double] = zip(
    SigmaBuckets.quarters.boundaries, SigmaBuckets.quarters.boundaries.dropFirst()
  )
  .map { ($0 + $1) / 2 }

  /// Splits samples off a dataset: those whose names have the smallest hashes, so that adding
  /// samples later changes the choice little.
  static func split(
    _ dataset: PrecomputedDataset, count: Int, seed: UInt64
  ) -> (training: PrecomputedDataset, heldOut: PrecomputedDataset) {
    let ranked = dataset.entries.map(\.name).sorted {
      (RandomSeed.mix(seed, $0), $0) < (RandomSeed.mix(seed, $1), $1)
    }
    let chosen = Set(ranked.prefix(count))
    return (
      dataset.keeping { !chosen.contains($0.name) }, dataset.keeping { chosen.contains($0.name) }
    )
  }

  /// - Parameters:
  ///   - step: the number of completed steps.
  ///   - example: makes an example from a sample and random numbers.
  ///   - losses: returns the losses per sample, without gradients.
  ///   - group: the ranks that share the samples.
  ///   - sharesModel: whether all ranks must run the model equally often; the losses of the samples
  ///     that a rank then measures again don't count.
  func measure(
    step: Int, flow: FlowMatching, group: ProcessGroup, sharesModel: Bool = false,
    example: (LoadedBatch, TrainingDraws) throws -> TrainingExample,
    losses: (TrainingExample) throws -> SampleLosses
  ) throws -> ValidationRecord {
    let start = ContinuousClock.now
    // Sums of the losses by sigma, followed by the sums for video and audio.
    let count = Self.sigmas.count
    var sums = [Double](repeating: 0, count: count + 2)
    let share = group.share
    let end = sharesModel ? share.largest(of: dataset.count) * share.count : dataset.count
    for position in share.items(of: end) {
      let index = position % dataset.count
      let batch = try dataset.load(
        BatchOrder.Batch(samples: [index], position: index), number: index)
      for (bucket, sigma) in Self.sigmas.enumerated() {
        let generator = try Generator(
          seed: RandomSeed.mix(seed, "held out \(bucket) \(dataset.entries[index].name)"))
        var draws = try flow.draws(for: batch.batch, samples: [generator], step: generator)
        let fixed = try Tensor([Float(sigma)])
        if draws.video?.sigma != nil { draws.video?.sigma = fixed }
        if draws.audio?.sigma != nil { draws.audio?.sigma = fixed }
        let found = try losses(example(batch, draws))
        guard position < dataset.count else { continue }
        sums[bucket] += try found.total.mean().item()
        if let video = found.byModality.video { sums[count] += try video.mean().item() }
        if let audio = found.byModality.audio { sums[count + 1] += try audio.mean().item() }
      }
    }
    let totals = try group.allReduce(sums)
    let means = totals.prefix(count).map { $0 / Double(dataset.count) }
    // A rank without samples does not know which losses the others have measured; the strategies
    // determine it.
    func part(_ strategy: ModalityStrategy?, _ index: Int) -> Double? {
      strategy?.isGenerated == true ? totals[index] / Double(dataset.count * count) : nil
    }
    return ValidationRecord(
      step: step, loss: means.reduce(0, +) / Double(means.count),
      videoLoss: part(flow.strategies.video, count),
      audioLoss: part(flow.strategies.audio, count + 1),
      sigmaLosses: Dictionary(uniqueKeysWithValues: zip(SigmaBuckets.quarters.labels, means)),
      seconds: (ContinuousClock.now - start) / .seconds(1))
  }
}
