// N prompts, T tokens of a prompt, V vocabulary.

import Support
import Torch

/// The options of decoding an answer.
public struct GenerationOptions: Sendable {
  /// The max number of new tokens.
  public var limit: Int
  /// The penalty of tokens that occurred; 1 for none.
  public var repetitionPenalty: Double
  /// The tokens that end an answer.
  public var ends: Set<Int>
  /// The token that fills the answers that have ended before others.
  public var pad: Int
  public var sampling: Sampling
  /// Whether the logits of each step are kept.
  public var keepsLogits = false

  public init(
    limit: Int, repetitionPenalty: Double = 1, ends: Set<Int>, pad: Int,
    sampling: Sampling = .greedy
  ) {
    self.limit = limit
    self.repetitionPenalty = repetitionPenalty
    self.ends = ends
    self.pad = pad
    self.sampling = sampling
  }
}

/// The answers to prompts.
public struct GeneratedText: Sendable {
  /// The tokens of each answer, its end included.
  public internal(set) var tokens: [[Int]]
  /// Whether the limit ended the answer, by prompt.
  public internal(set) var isTruncated: [Bool]
  /// [N, V] for each step, before the penalty, if they were kept.
  public internal(set) var logits: [Tensor] = []
}

extension Decoder {
  /// Continues prompts token by token, until each answer has ended or the limit is reached.
  ///
  /// The host waits once per token, for its id. With experts, it also waits in each layer that has
  /// them, because it decides which ones are needed.
  ///
  /// - Parameter onToken: Called with each step's tokens; nil for an answer that ended before. An
  ///   error that it throws ends decoding.
  /// - Throws: `Issue` for prompts that are empty or too long, and for options out of range;
  ///   `TorchError` if memory is exhausted.
  public func generate(
    _ prompt: DecoderPrompt, _ options: GenerationOptions,
    onToken: ([Int?]) throws -> Void = { _ in }
  ) throws -> GeneratedText {
    guard options.limit > 0 else {
      throw Issue(["maxTokens"], "must be at least 1 (got \(options.limit))")
    }
    guard prompt.length < configuration.maxPositions else {
      throw Issue(
        ["prompt"],
        "has \(prompt.length) tokens, but the model was trained for \(configuration.maxPositions)",
        suggestion: "Use fewer or smaller frames.")
    }
    return try withInference { try decode(prompt, options, onToken) }
  }

  private func decode(
    _ prompt: DecoderPrompt, _ options: GenerationOptions, _ onToken: ([Int?]) throws -> Void
  ) throws -> GeneratedText {
    let count = prompt.count
    let steps = options.limit - 1  // the first token comes from the prompt itself
    var sampler = try TokenSampler(
      options.sampling, penalty: options.repetitionPenalty, prompts: prompt.ids,
      vocabulary: configuration.vocabulary, device: device)
    let context = try context(prompt, room: min(options.limit, KeyValueCache.step))
    let positions = try positions(after: prompt, count: steps)
    let padding = try prompt.isPadded ? padding(prompt, room: steps) : nil
    // Only the last token's logits are needed.
    var hidden = try read(prompt.embeddings, context).narrow(1, prompt.length - 1, 1)
    var result = GeneratedText(
      tokens: Array(repeating: [], count: count), isTruncated: Array(repeating: true, count: count))
    for step in 0...steps {
      let logits = try logits(hidden).squeeze(1)
      let isOpen = result.isTruncated
      if options.keepsLogits {
        let ended = try Tensor(isOpen.map { !$0 }, shape: [count, 1]).uploaded(to: device)
        result.logits.append(try logits.maskedFill(ended, 0))
      }
      let chosen: [Int] = try sampler.next(logits).array()
      var tokens: [Int?] = []
      for (index, token) in chosen.enumerated() {
        guard isOpen[index] else {
          tokens.append(nil)
          continue
        }
        guard token >= 0 else {
          throw Issue(
            "the language model computed NaN or infinite logits",
            suggestion: "Check the model's files, or compute in another dtype.")
        }
        tokens.append(token)
        result.tokens[index].append(token)
        if options.ends.contains(token) { result.isTruncated[index] = false }
      }
      try onToken(tokens)
      guard step < steps, result.isTruncated.contains(true) else { break }
      let next = try embed(tokens.map { $0 ?? options.pad }).unsqueeze(1)
      hidden = try read(
        next,
        DecoderContext(
          positions: positions.token(step),
          mask: padding?.narrow(3, 0, prompt.length + step + 1), cache: context.cache,
          additions: []))
    }
    return result
  }

  /// The tables of the tokens that may follow a prompt: all components of their positions are the
  /// same.
  private func positions(after prompt: DecoderPrompt, count: Int) throws -> RotaryPositions {
    let indices = (0..<count).map { Double(prompt.length + $0) }
    let values = prompt.deltas.flatMap { delta in indices.map { Float($0 + delta) } }
    let positions = try Tensor(values, shape: [1, prompt.count, count]).expand([3, -1, -1])
    return try RotaryPositions(
      positions: positions, configuration: configuration, dtype: dtype, device: device)
  }

  /// Minus infinity at the padding of prompts, and room for the tokens that follow:
  /// [N, 1, 1, T + room].
  private func padding(_ prompt: DecoderPrompt, room: Int) throws -> Tensor {
    let flags = prompt.mask.flatMap { $0.map { $0 == 0 } + Array(repeating: false, count: room) }
    let shape = [prompt.count, 1, 1, prompt.length + room]
    return try Tensor.zeros(shape, dtype: dtype)
      .maskedFill(Tensor(flags, shape: shape), Scalar(-Double.infinity)).uploaded(to: device)
  }
}
