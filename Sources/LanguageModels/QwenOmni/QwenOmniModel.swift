// N conversations, S tokens, D width of the language model, V vocabulary.

import NN
import Support
import TensorFiles
import Torch

/// The thinker of Qwen2.5-Omni or Qwen3-Omni ("Qwen2.5-Omni Technical Report" and "Qwen3-Omni
/// Technical Report", 2025): images, frames, audio and text in, text out.
///
/// The parts of the checkpoint that speak are not read.
public struct QwenOmniModel: Sendable {
  public let configuration: QwenOmniConfiguration
  private let towers: QwenOmniTowers
  private let decoder: Decoder
  private let dtype: DType
  private let device: Device

  /// Opens a model folder in the layout of `transformers`.
  ///
  /// - Parameters:
  ///   - folder: The folder with `config.json` and safetensors files.
  ///   - dtype: The dtype of weights and computation.
  ///   - use8Bit: Whether the matrices of the language model's layers are quantized to int8 while
  ///     they are loaded. Its embeddings, its last layer, routers and the towers are not.
  ///   - memoryLimit: The memory of the device, in bytes, that weights, the cache of keys and values,
  ///     and activations should take together. If not all weights fit, layers are streamed from the
  ///     file, and of a mixture of experts only those that were used last are kept. Nil for the
  ///     memory that is free; on the CPU only for a mixture of experts, without a limit otherwise.
  /// - Throws: `Issue` for the configuration, `TensorFileError` for a file that is missing or
  ///   damaged, `WeightError` for a tensor that is missing or doesn't fit the configuration.
  public init(
    folder: String, device: Device, dtype: DType, use8Bit: Bool = false, memoryLimit: Int? = nil
  ) throws {
    let c = try QwenOmniConfiguration(folder: folder)
    try device.prepare()
    let source = try DescribedTensors.describing(ShardedSafetensors(folder: folder))
    let storage: WeightStorage = use8Bit ? .int8(excluding: Self.isKept) : .asStored
    let plan = QwenOmniMemory(
      source, c, dtype: dtype, storage: storage,
      limit: try memoryLimit ?? Self.freeBytes(on: device, c))
    let policy = LoadPolicy(
      dtype: dtype, device: device, storage: storage, placements: plan.placements)
    let root = Weights(source, policy)
    let thinker = root / Self.scope
    guard thinker.isPresent else {
      throw WeightError(
        file: source.name, key: Self.scope,
        problem: "has no tensors, so the file is not of an omni model")
    }
    let table = Weights(source) / Self.scope / "model" / "embed_tokens"
    decoder = try Decoder(
      thinker, embedding: table, configuration: c.text, dtype: dtype,
      expertLimit: plan.expertLimit)
    towers = try QwenOmniTowers(thinker, c)
    try thinker.requireAllUsed { key in
      Self.unusedKeys.contains(key) || key.hasSuffix("rotary_emb.inv_freq")
    }
    configuration = c
    self.dtype = dtype
    self.device = device
  }

  /// The limit of memory if none is given.
  private static func freeBytes(on device: Device, _ c: QwenOmniConfiguration) throws -> Int? {
    if let gpu = try device.gpu() { return gpu.freeBytes }
    // A token uses all weights of a dense model, so that limiting them would only cost time.
    let free = HostMemory.usableBytes
    return free > 0 && c.text.layers.contains(where: \.hasExperts) ? free : nil
  }

  /// The prefix of the keys that are read.
  static let scope = "thinker"

  /// Whether a layer's weight stays in the dtype of the file with `use8Bit`.
  @Sendable static func isKept(_ path: String) -> Bool {
    !path.hasPrefix("\(scope).model.layers.") || path.hasSuffix(".mlp.gate")
  }

  /// Keys of the thinker that no layer reads: the table of embeddings is read without the policy,
  /// and the embeddings of audio's start and end are never used.
  private static let unusedKeys: Set = [
    "model.embed_tokens.weight", "audio_tower.audio_bos_eos_token.weight",
  ]

  /// The bytes of the experts that are in memory.
  package var expertBytes: Int { decoder.experts.byteCount }

  /// Computes the embeddings of media.
  ///
  /// - Throws: `Issue` for tensors that don't match each other or the model.
  public func embed(_ media: MediaInputs) throws -> MediaEmbeddings {
    try withInference { try towers(media) }
  }

  /// Returns the logits at all tokens of conversations, [N, S, V] in the model's dtype, 0 on
  /// padding.
  ///
  /// - Parameter media: The embeddings of the conversations' media.
  /// - Throws: `Issue` if the placeholders don't match the media.
  public func logits(_ inputs: CaptionInputs, media: MediaEmbeddings) throws -> Tensor {
    try decoder.logits(prompt(inputs, media))
  }

  /// Answers conversations.
  ///
  /// - Parameter onToken: Called with each step's tokens; nil for an answer that ended before. An
  ///   error that it throws ends decoding.
  /// - Throws: `Issue` if the placeholders don't match the media, and for options out of range.
  public func generate(
    _ inputs: CaptionInputs, _ options: GenerationOptions,
    onToken: ([Int?]) throws -> Void = { _ in }
  ) throws -> GeneratedText {
    // The towers' intermediate tensors are freed before decoding starts.
    let prompt = try prompt(inputs, embed(inputs.media))
    return try decoder.generate(prompt, options, onToken: onToken)
  }

  /// Puts the embeddings of media in the places of their placeholders.
  private func prompt(_ inputs: CaptionInputs, _ media: MediaEmbeddings) throws -> DecoderPrompt {
    let ids = inputs.ids.flatMap { $0 }
    let rows = inputs.ids + inputs.mask
    guard let length = rows.first?.count, length > 0, rows.allSatisfy({ $0.count == length }),
      inputs.mask.count == inputs.ids.count
    else {
      throw Issue(["ids"], "and their mask must have one shape [N, S] with sizes above 0")
    }
    let places = try MediaPlaces(ids, configuration.tokens, media)
    return try withInference {
      let shape = [inputs.ids.count, length, configuration.text.width]
      let text = try decoder.embed(ids)
      let parts = try [media.image, media.video, media.audio].compactMap { $0 }
        .map { try $0.to(device, dtype) }
      let embeddings =
        parts.isEmpty
        ? text
        : try Tensor.cat([text] + parts)
          .indexSelect(0, Tensor(places.embeddings).uploaded(to: device))
      return DecoderPrompt(
        ids: inputs.ids, mask: inputs.mask, embeddings: try embeddings.reshape(shape),
        positions: inputs.positions, deltas: try inputs.delta.array(),
        additions: try additions(media, places, shape))
    }
  }

  /// The additions to the outputs of the first layers, [N, S, D]: 0 except at images and frames.
  private func additions(
    _ media: MediaEmbeddings, _ places: MediaPlaces, _ shape: [Int]
  ) throws -> [Tensor] {
    let (images, videos) = (media.deepstackImage, media.deepstackVideo)
    let count = max(images.count, videos.count)
    guard count > 0 else { return [] }
    let rows = try Tensor(places.additions).uploaded(to: device)
    let zero = try Tensor.zeros([1, configuration.text.width], dtype: dtype, device: device)
    return try (0..<count).map { layer in
      let parts = try [images, videos].filter { $0.count > layer }
        .map { try $0[layer].to(device, dtype) }
      return try Tensor.cat([zero] + parts).indexSelect(0, rows).reshape(shape)
    }
  }
}

/// The rows that stand for the tokens of conversations.
struct MediaPlaces {
  /// The row of each token in the embeddings of text, images, frames and audio, in this order.
  private(set) var embeddings: [Int]
  /// The row of each token in the additions: a row for all other tokens, then images, then frames.
  private(set) var additions: [Int]

  /// - Throws: `Issue` if there are more or fewer placeholders than embeddings.
  init(_ ids: [Int], _ tokens: QwenOmniTokens, _ media: MediaEmbeddings) throws {
    embeddings = Array(ids.indices)
    additions = Array(repeating: 0, count: ids.count)
    let kinds = [
      ("images", tokens.image, media.image), ("video frames", tokens.video, media.video),
      ("audio", tokens.audio, media.audio),
    ]
    var next = ids.count
    for (name, placeholder, tensor) in kinds {
      let places = ids.indices.filter { ids[$0] == placeholder }
      let count = tensor?.size(0) ?? 0
      guard places.count == count else {
        throw Issue(
          ["ids"],
          "have \(places.count) placeholders of \(name) (expected \(count), the number of their "
            + "embeddings)")
      }
      for (index, place) in places.enumerated() {
        embeddings[place] = next + index
        if placeholder != tokens.audio { additions[place] = next + index - ids.count + 1 }
      }
      next += count
    }
  }
}
