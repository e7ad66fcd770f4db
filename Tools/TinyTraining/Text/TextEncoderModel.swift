// N captions, S tokens, D width, V vocabulary.

import DemoData
import LTX
import LanguageModels
import NN
import Support
import Torch

/// The small Gemma 3 of the tiny model as a causal language model of the world's captions.
///
/// Its states learn to predict the next token and, by a second table that is not part of the model,
/// to recall the tokens before them: a language model alone forgets a word that predicts nothing
/// more, such as the color after the sentence about it.
public final class TextEncoderModel: StageModel {
  /// The tokens of a batch's captions, [N, S], with their mask.
  private typealias Batch = (ids: Tensor, mask: Tensor)

  private let sizes: TinyGemma
  private let tokenizer: TinyTokenizer
  private let captions: CaptionSource
  private let reader: Tokenizer
  private let weights: TrainableWeights
  private let model: GemmaModel
  /// [V, D], which also predicts the next token.
  private let embedding: Tensor
  /// [V, D]
  private let recallTable: Tensor
  private let batchSize: Int
  private let heldOut: Batch

  public let parameters: [Parameter]
  public let fingerprint: String

  private static let scope = "language_model.model"
  private static let embeddingKey = "\(scope).embed_tokens.weight"
  private static let recallKey = "recall.weight"
  /// The weight of the loss of recalled tokens.
  private static let recallShare = 0.5

  /// - Parameters:
  ///   - seed: The seed of the initial weights and of the captions.
  ///   - batchSize: N, the number of captions of a step.
  public init(seed: UInt64, sizes: TinyGemma = .demo, batchSize: Int = 32) throws {
    self.sizes = sizes
    self.batchSize = batchSize
    captions = CaptionSource(seed: seed)
    tokenizer = TinyTokenizer(
      sentences: captions.vocabularySentences(), merges: Self.maxMerges)
    reader = try Tokenizer(json: Array(tokenizer.tokenizerJSON().utf8), file: "tokenizer.json")
    let drawn = RandomWeights.Drawn(
      try Generator(seed: RandomSeed.mix(seed, "text encoder")), purpose: .training)
    try sizes.draw(RandomWeights(into: drawn), tokenizer: tokenizer)
    // The slots of norms hold a tensor computed from the weight, so that they can't be trained.
    weights = try TrainableWeights(
      drawn.tensors, config: sizes.config(tokenizer), scope: Self.scope
    ) { $0.contains("norm.") }
    model = try GemmaModel(weights.root, configuration: GemmaConfiguration(weights.configuration))
    guard let table = weights.parameters.first(where: { $0.key == Self.embeddingKey }) else {
      throw Issue(["text encoder"], "has no embedding that can be trained")
    }
    embedding = table.tensor
    recallTable = try Tensor.zeros(embedding.shape).asLeaf()
    parameters = weights.parameters + [Parameter(key: Self.recallKey, tensor: recallTable)]
    heldOut = try Self.batch(captions.heldOut(Self.heldOutCount).map(\.caption), reader)
    fingerprint =
      "text encoder, seed \(seed), width \(sizes.width), layers \(sizes.layers), "
      + "feed-forward \(sizes.feedForwardWidth), batch \(batchSize)"
  }

  /// The max number of pieces of words; with bytes, letters and control tokens, the vocabulary then
  /// has 1024 rows.
  private static let maxMerges = 500
  private static let heldOutCount = 256

  private static func batch(_ captions: [String], _ tokenizer: Tokenizer) throws -> Batch {
    let (ids, mask) = try tokenizer.tensors(captions, length: TinyTransformer.demoPromptTokens)
    // Columns that are padding in every caption are left out.
    let used = Int(try mask.amax([0]).sum().item())
    let skipped = mask.size(1) - used
    return (try ids.narrow(1, skipped, used), try mask.narrow(1, skipped, used))
  }

  public func loss(step: Int, seed: UInt64) throws -> StageLoss {
    let losses = try losses(Self.batch(captions.batch(batchSize, seed: seed), reader))
    return StageLoss(
      try losses.next + losses.recall * Self.recallShare,
      parts: [("next_token_loss", losses.next), ("recall_loss", losses.recall)])
  }

  public func evaluate() throws -> [StageMetric] {
    let losses = try losses(heldOut)
    return [
      StageMetric("held_out_loss", try losses.next.item()),
      StageMetric("held_out_recall_loss", try losses.recall.item()),
    ]
  }

  /// The mean cross-entropy of the next token, and of the tokens that a state has seen, which count
  /// equally.
  private func losses(_ batch: Batch) throws -> (next: Tensor, recall: Tensor) {
    let tokens = batch.ids.size(1)
    var last: Tensor?
    try model.forEachHiddenState(ids: batch.ids, mask: batch.mask) { _, state in last = state }
    guard let states = last else { throw Issue(["text encoder"], "returned no states") }
    let weight = try batch.mask.to(.float32)
    let predicted = try Self.logProbabilities(
      states.narrow(1, 0, tokens - 1).matmul(embedding.transpose(0, 1)))
    let next = try batch.ids.narrow(1, 1, tokens - 1)
    let nextLoss = try Self.mean(
      predicted.gather(-1, next.unsqueeze(-1)).squeeze(-1), weight.narrow(1, 0, tokens - 1))

    let recalled = try Self.logProbabilities(states.matmul(recallTable.transpose(0, 1)))
    let all = try Tensor.arange(to: Scalar(embedding.size(0)), dtype: .int64)
    let isToken = try batch.ids.unsqueeze(-1).equal(to: all).to(.float32) * weight.unsqueeze(-1)
    let seen = try isToken.cumsum(1).greater(than: 0).to(.float32)
    let share = try seen / seen.sum([-1], keepdim: true).clamped(min: 1)
    return (nextLoss, try Self.mean((recalled * share).sum([-1]), weight))
  }

  private static func logProbabilities(_ logits: Tensor) throws -> Tensor {
    let highest = try logits.detach().amax([-1], keepdim: true)
    return try logits - (logits - highest).exp().sum([-1], keepdim: true).log() - highest
  }

  /// The negative mean of the values whose weight is 1.
  private static func mean(_ values: Tensor, _ weight: Tensor) throws -> Tensor {
    try (values * weight).sum() * -1 / weight.sum()
  }

  /// Writes the folder of the text encoder, in bfloat16.
  ///
  /// - Parameter values: The trained tensors, or their averages.
  public func write(_ values: [Parameter], to folder: String) throws {
    try TextEncoderFolder.write(
      weights.tensors(values), sizes: sizes, tokenizer: tokenizer, to: folder)
  }
}
