// B batch.

import LTX
import NN
import Support
import Torch
import Tracking

/// The forward and backward passes of one optimizer step: all its batches, on all ranks.
///
/// Each sample counts the same in any batch, so accumulation and ranks give the gradients of one
/// large batch, up to rounding.
struct StepComputation {
  /// The noise level and the losses of one sample.
  struct Sample: Sendable, Equatable {
    var sigma: Double
    var loss: Double
    var videoLoss: Double?
    var audioLoss: Double?
  }

  /// The gradients by parameter key: means over the samples of this rank's batches, weighted for
  /// the sum over ranks.
  private(set) var gradients: [String: Tensor] = [:]
  /// The samples whose values have been read.
  private(set) var samples: [Sample] = []
  private(set) var forwardSeconds = 0.0
  /// The values of the batches that have not been read yet, on the device: the sigmas and the losses
  /// in the order of `Sample`, without missing ones, [2 to 4, B], float64.
  private var unread: [(numbers: Tensor, hasVideo: Bool, hasAudio: Bool)] = []

  mutating func add(_ result: TrainingStep.Result, _ example: TrainingExample) throws {
    for (key, gradient) in result.gradients {
      gradients[key] = try gradients[key].map { try $0 + gradient } ?? gradient
    }
    forwardSeconds += result.forwardSeconds
    // The sample's sigma is that of the video if video is generated, as in the official trainer.
    let generated = [example.video, example.audio].compactMap { $0 }.first { $0.target != nil }
    guard let sigma = generated?.input.sigma else { return }
    let (video, audio) = (result.losses.byModality.video, result.losses.byModality.audio)
    let rows = [sigma, result.losses.total, video, audio].compactMap { $0 }
    unread.append(
      (try Tensor.stack(rows.map { try $0.to(.float64) }), video != nil, audio != nil))
  }

  /// Reads the values of all batches, and one more value, from the device in one transfer.
  ///
  /// - Parameter extra: a scalar tensor on any device; nil for 0.
  @discardableResult
  mutating func read(with extra: Tensor? = nil) throws -> Double {
    let device = unread.first?.numbers.device ?? extra?.device ?? .cpu
    let parts = try [extra ?? .scalar(0)].map { try $0.to(device, .float64).reshape([1]) }
    let all: [Double] = try Tensor.cat(parts + unread.map { try $0.numbers.flatten() })
      .to(.cpu).array()
    var rest = all.dropFirst()
    for batch in unread {
      let count = batch.numbers.size(1)
      func next() -> [Double] {
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
      }
      let (sigmas, total) = (next(), next())
      let video = batch.hasVideo ? next() : nil
      let audio = batch.hasAudio ? next() : nil
      for index in total.indices {
        samples.append(
          Sample(
            sigma: sigmas[index], loss: total[index], videoLoss: video?[index],
            audioLoss: audio?[index]))
      }
    }
    unread = []
    return all[0]
  }

  /// Adds the gradients of some parameters, by key, to those of earlier batches of the step, and
  /// removes the earlier ones.
  mutating func taking(
    _ parameters: [Parameter], _ found: [String: Tensor]
  ) throws -> [String: Tensor] {
    var sums = found
    for key in parameters.map(\.key) {
      guard let earlier = gradients.removeValue(forKey: key) else { continue }
      sums[key] = try found[key].map { try earlier + $0 } ?? earlier
    }
    return sums
  }

  /// Keeps gradients, by key, for the step's next batches.
  mutating func keep(_ found: [String: Tensor]) { gradients.merge(found) { $1 } }

  /// Replaces the gradients by their sums over the ranks, and the samples by those of all ranks.
  ///
  /// - Parameters:
  ///   - reduction: has been given the gradients of all parameters.
  ///   - maxSamples: the largest number of samples of any rank.
  ///   - signals: those of this rank.
  /// - Returns: the signals of all ranks.
  /// - Throws: `Issue` if other parameters have gradients on another rank, `TorchError`.
  mutating func reduce(
    _ reduction: GradientReduction, _ group: ProcessGroup, maxSamples: Int,
    signals: RankSignals
  ) throws -> RankSignals {
    gradients = try reduction.finish()
    try read()
    // NaN stands for a missing loss.
    var rows = samples.flatMap { sample -> [Double] in
      [1, sample.sigma, sample.loss, sample.videoLoss ?? .nan, sample.audioLoss ?? .nan]
    }
    rows += [Double](repeating: 0, count: maxSamples * 5 - rows.count)
    let all = try group.allGatherAlike([Double(signals.rawValue), Double(gradients.count)] + rows)
    if let other = all.firstIndex(where: { $0[1] != Double(gradients.count) }) {
      throw Issue(
        ["rank", .index(other)],
        "computed gradients of \(Int(all[other][1])) tensors, and rank \(group.rank) of \(gradients.count)",
        suggestion: "All samples must train the same part of the model.")
    }
    samples = all.flatMap { numbers -> [Sample] in
      stride(from: 2, to: numbers.count, by: 5).filter { numbers[$0] == 1 }.map { start in
        Sample(
          sigma: numbers[start + 1], loss: numbers[start + 2],
          videoLoss: samples[0].videoLoss == nil ? nil : numbers[start + 3],
          audioLoss: samples[0].audioLoss == nil ? nil : numbers[start + 4])
      }
    }
    return RankSignals(rawValue: all.reduce(0) { $0 | Int($1[0]) })
  }

  private func mean(_ values: [Double]) -> Double? {
    values.isEmpty ? nil : values.reduce(0, +) / Double(values.count)
  }

  var loss: Double { mean(samples.map(\.loss)) ?? .nan }
  /// The unweighted losses of the modalities if both are generated.
  var videoLoss: Double? { hasBoth ? mean(samples.compactMap(\.videoLoss)) : nil }
  var audioLoss: Double? { hasBoth ? mean(samples.compactMap(\.audioLoss)) : nil }
  private var hasBoth: Bool {
    samples.first.map { $0.videoLoss != nil && $0.audioLoss != nil } ?? false
  }
  var sigmaLosses: [String: Double] {
    SigmaBuckets.quarters.means(samples.map { ($0.sigma, $0.loss) })
  }
}
