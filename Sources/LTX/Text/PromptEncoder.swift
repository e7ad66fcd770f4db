// N prompts, S tokens.

import LanguageModels
import NN
import Support
import Torch

/// Turns prompts into text features, which preprocessing stores and generation passes to the
/// connectors.
public struct PromptEncoder: Sendable {
  let tokenizer: Tokenizer
  let encoder: any TextEncoder
  let extractor: FeatureExtractor
  private let promptTokens: Int

  /// - Parameters:
  ///   - checkpoint: The root of the LTX-2 checkpoint, for the projection of the features.
  ///   - configuration: The text configuration of that checkpoint.
  ///   - textEncoder: The folder of the language model, or one file with all of it.
  ///   - dtype: The dtype of the language model's weights; nil for that of the files.
  ///   - storage: The storage of the language model's weights; `.int8` halves its memory.
  ///   - placements: The locations of the language model's layers.
  public init(
    checkpoint: Weights, configuration: TextConfiguration, textEncoder path: String,
    dtype: DType? = nil,
    device: Device = .cpu, storage: WeightStorage = .asStored,
    placements: WeightPlacements = .resident
  ) throws {
    // Small parts come first, so that their errors appear before many gigabytes are loaded.
    tokenizer = try openTokenizer(at: path)
    encoder = try openTextEncoder(
      at: path, dtype: dtype, device: device, storage: storage, placements: placements)
    extractor = try FeatureExtractor(
      checkpoint, configuration: configuration, width: encoder.width,
      hiddenStateCount: encoder.hiddenStateCount)
    promptTokens = configuration.promptTokens
  }

  /// The number of a prompt's tokens beyond the limit, which are truncated.
  public func excessTokens(_ prompt: String) throws -> Int {
    max(0, try tokenizer.promptLength(prompt) - promptTokens)
  }

  /// The ids of a prompt's tokens and their mask, 0 on padding, as the text encoder reads them.
  package func tokens(_ prompt: String) throws -> (ids: [Int], mask: [Int]) {
    try tokenizer.encodePrompt(prompt, maxLength: promptTokens)
  }

  /// - Parameter prompts: encoded as one batch; see `FeatureExtractor` for the memory.
  /// - Returns: features of N prompts, padded on the left to 1024 tokens or the number that the
  ///   checkpoint states, with their mask, on the text encoder's device.
  public func callAsFunction(_ prompts: [String]) throws -> TextFeatures {
    let (ids, mask) = try tokenizer.tensors(prompts, length: promptTokens)
    let tokens = mask.size(1)
    // Only one token of the padding that all prompts share is encoded: nothing attends to padding,
    // and the features of all padding tokens are equal.
    let used = try mask.amax([0]).sum().item()
    let skipped = max(0, tokens - Int(used) - 1)
    let features = try withoutGrad {
      try extractor(
        encoder, ids: ids.narrow(1, skipped, tokens - skipped),
        mask: mask.narrow(1, skipped, tokens - skipped),
        firstPosition: skipped)
    }
    guard skipped > 0 else { return features }
    return try features.map {
      let padding = try $0.narrow(1, 0, 1).expand([$0.size(0), skipped, $0.size(2)])
      return try Tensor.cat([padding, $0], 1)
    } mask: {
      try mask.to($0.device)
    }
  }
}

/// Returns the tokenizer in a text encoder's folder or file.
public func openTokenizer(at path: String) throws -> Tokenizer {
  try TextEncoderFiles(path: path).tokenizer()
}

extension Tokenizer {
  /// Returns prompts as inputs of the text encoder: ids and mask, [N, length], int64, padded on the
  /// left.
  public func tensors(
    _ prompts: [String], length: Int = Tokenizer.promptLimit
  ) throws -> (ids: Tensor, mask: Tensor) {
    guard !prompts.isEmpty else { throw Issue(["prompts"], "are empty") }
    let encoded = try prompts.map { try encodePrompt($0, maxLength: length) }
    let shape = [prompts.count, encoded[0].ids.count]
    return (
      ids: try Tensor(encoded.flatMap(\.ids), shape: shape),
      mask: try Tensor(encoded.flatMap(\.mask), shape: shape)
    )
  }
}
