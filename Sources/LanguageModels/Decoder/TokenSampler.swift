// N prompts, V vocabulary.

import Support
import Torch

/// The way in which the next token is chosen.
public struct Sampling: Sendable, Equatable {
  /// The divisor of logits; 0 chooses the token with the largest logit.
  public var temperature: Double
  /// The number of the most probable tokens to choose from; nil for all.
  public var topK: Int?
  /// The tokens to choose from: the most probable ones whose probabilities reach this sum.
  public var topP: Double
  public var seed: UInt64

  public init(temperature: Double, topK: Int? = nil, topP: Double = 1, seed: UInt64 = 0) {
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.seed = seed
  }

  public static let greedy = Sampling(temperature: 0)

  /// - Throws: `Issue` for a value out of range.
  func check() throws {
    guard temperature >= 0, temperature.isFinite else {
      throw Issue(["temperature"], "must be finite and not negative (got \(temperature))")
    }
    if let topK, topK < 1 { throw Issue(["topK"], "must be at least 1 (got \(topK))") }
    guard topP > 0, topP <= 1 else {
      throw Issue(["topP"], "must be above 0 and at most 1 (got \(topP))")
    }
  }
}

/// Chooses tokens by their logits, on the device of the logits.
struct TokenSampler {
  private let sampling: Sampling
  private let penalty: Double
  /// [N, V]: whether a token occurs in the prompt, padding included, or in the answer; nil without
  /// a penalty.
  private var isUsed: Tensor?
  /// [V]: 0, 1, …
  private let vocabulary: Tensor
  /// On the CPU, so that a seed has the same meaning on all devices; nil for greedy decoding.
  private let generator: Generator?

  /// - Parameters:
  ///   - penalty: The divisor of the positive logits of tokens that occurred, and the factor of the
  ///     negative ones (Keskar et al., "CTRL", 2019).
  ///   - prompts: The tokens of each prompt.
  init(
    _ sampling: Sampling, penalty: Double, prompts: [[Int]], vocabulary: Int, device: Device
  ) throws {
    try sampling.check()
    guard penalty > 0, penalty.isFinite else {
      throw Issue(["repetitionPenalty"], "must be above 0 and finite (got \(penalty))")
    }
    self.sampling = sampling
    self.penalty = penalty
    self.vocabulary = try Tensor.arange(to: Scalar(vocabulary), device: device)
    generator = sampling.temperature > 0 ? try Generator(seed: sampling.seed) : nil
    guard penalty != 1 else { return }
    var flags = [Bool](repeating: false, count: prompts.count * vocabulary)
    for (prompt, ids) in prompts.enumerated() {
      for id in ids { flags[prompt * vocabulary + id] = true }
    }
    isUsed = try Tensor(flags, shape: [prompts.count, vocabulary]).uploaded(to: device)
  }

  /// Chooses a token for each prompt.
  ///
  /// - Parameter logits: [N, V]
  /// - Returns: [N], int64; -1 where logits are NaN or infinite.
  mutating func next(_ logits: Tensor) throws -> Tensor {
    var scores = try logits.to(.float32)
    if let isUsed {
      let lowered = try Tensor.select(
        where: scores.greater(than: 0), scores / penalty, else: scores * penalty)
      scores = try Tensor.select(where: isUsed, lowered, else: scores)
    }
    let token = try generator.map { try draw(scores, $0) } ?? scores.argmax(1)
    if let used = isUsed {
      isUsed = try used.logicalOr(vocabulary.equal(to: token.unsqueeze(1)))
    }
    return try token.maskedFill(scores.amax([1]).isFinite().logicalNot(), -1)
  }

  /// Draws from the most probable tokens.
  private func draw(_ scores: Tensor, _ generator: Generator) throws -> Tensor {
    var (sorted, order) = try (scores / sampling.temperature)
      .sort(stable: nil, -1, descending: true)
    if let topK = sampling.topK, topK < sorted.size(1) {
      sorted = try sorted.narrow(1, 0, topK)
      order = try order.narrow(1, 0, topK)
    }
    var probabilities = try sorted.softmax(-1)
    if sampling.topP < 1 {
      // A token is left out if those before it reach the sum. The first one never is.
      let before = try probabilities.cumsum(-1) - probabilities
      probabilities = try probabilities.maskedFill(
        before.greaterOrEqual(to: Scalar(sampling.topP)), 0)
    }
    let sums = try probabilities.cumsum(-1)
    let total = try sums.narrow(1, sums.size(1) - 1, 1)
    let point = try generator.uniform([scores.size(0), 1]).uploaded(to: scores.device) * total
    // The first token whose sum lies above the point. Rounding may let no sum do so.
    let index = try sums.lessOrEqual(to: point).sum([1], keepdim: true)
      .clamped(max: Scalar(sums.size(1) - 1))
    return try order.gather(1, index).squeeze(1)
  }
}
