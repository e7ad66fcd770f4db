// B batch, T tokens, C latent channels, D width, S text tokens, W context width, A axes.

import BlockExecution
import NN
import Support
import Torch

/// The input of one modality to the transformer.
public struct ModalityInput: Sendable {
  /// [B, T, C]
  public var latent: Tensor
  /// [B, T], or [B, 1] if all tokens of a sample share a timestep: sigmas in [0, 1].
  public var timesteps: Tensor
  /// [B]: the sample's sigma.
  public var sigma: Tensor
  /// [B, A, T, 2]: the start and end of each token, in seconds and pixels.
  public var positions: Tensor
  /// [B, S, W], from the text connectors.
  public var context: Tensor
  /// [B, S], 0 for text tokens that are masked out; nil for none.
  public var contextMask: Tensor?
  /// [B, T, T] in [0, 1]: the strength of the attention between tokens; nil for full attention.
  public var selfAttentionMask: Tensor?
  /// [B, T], above 0 for tokens that show a single pixel frame; nil for none. A model without the
  /// embedding ignores it.
  public var keyframesMask: Tensor?
  /// A disabled modality is not updated, but the other one still attends to it.
  public var isEnabled: Bool

  public init(
    latent: Tensor, timesteps: Tensor, sigma: Tensor, positions: Tensor, context: Tensor,
    contextMask: Tensor? = nil,
    selfAttentionMask: Tensor? = nil, keyframesMask: Tensor? = nil, isEnabled: Bool = true
  ) {
    self.latent = latent
    self.timesteps = timesteps
    self.sigma = sigma
    self.positions = positions
    self.context = context
    self.contextMask = contextMask
    self.selfAttentionMask = selfAttentionMask
    self.keyframesMask = keyframesMask
    self.isEnabled = isEnabled
  }
}

/// The joint audio-video diffusion transformer. It predicts the velocity noise - x of each token.
public struct Transformer: Sendable {
  public let configuration: TransformerConfiguration
  public let modalities: Set<Modality>
  public let blocks: BlockStack<TransformerBlock>
  /// All trained parameters, of the blocks and the other layers, in the order of building.
  public let parameters: [Parameter]
  private let ends: PerModality<ModalityEnds?>

  /// - Parameters:
  ///   - w: The scope of the transformer in the checkpoint, `model.diffusion_model`.
  ///   - modalities: The modalities to build; weights of the other one are not read.
  public init(
    _ w: Weights, configuration c: TransformerConfiguration, modalities: Set<Modality> = .both
  )
    throws
  {
    configuration = c
    self.modalities = modalities
    ends = try PerModality { modality in
      modalities.contains(modality)
        ? try ModalityEnds(w, modality, isJoint: modalities == .both, configuration: c) : nil
    }
    blocks = try BlockStack(w / "transformer_blocks", count: c.blocks) { w, index in
      try TransformerBlock(w, index: index, configuration: c, modalities: modalities)
    }
    parameters = w.parameters
    try w.requireScaledFP8MarkerFits()
    try w.requireAllUsed {
      KnowinglyUnused.transformer($0) || KnowinglyUnused.otherModality($0, building: modalities)
    }
  }

  /// Returns the velocity of each given modality: [B, T, C].
  ///
  /// - Throws: `Issue` if a modality is given that the model was not built for, or its sizes don't
  ///   fit.
  public func callAsFunction(
    _ inputs: PerModality<ModalityInput?>, perturbations: Perturbations = .none
  ) throws -> PerModality<Tensor?> {
    let prepared = try prepare(inputs, perturbations: perturbations)
    return try finish(blocks(prepared.states, prepared.conditioning), prepared)
  }

  /// The results of the layers before the blocks.
  public struct Prepared: Sendable {
    public let states: HiddenStates
    public let conditioning: Conditioning
    /// The timesteps' embeddings, [B, T or 1, D], by which the output layers are modulated.
    let embeddings: PerModality<Tensor?>
  }

  /// Runs the layers before the blocks.
  public func prepare(
    _ inputs: PerModality<ModalityInput?>, perturbations: Perturbations = .none
  ) throws -> Prepared {
    guard let latent = inputs.values().first?.latent else {
      throw Issue("neither video nor audio is given")
    }
    let prepared = try inputs.compactMap { modality, input in
      guard let ends = ends[modality] else {
        throw Issue("the model was built without \(modality)")
      }
      return try ends.prepare(input, other: inputs[modality.other])
    }
    return try Prepared(
      states: prepared.map { $0?.hidden },
      conditioning: Conditioning(
        modalities: prepared.map { $0?.conditioning },
        perturbations: perturbations.placed(like: latent, blocks: configuration.blocks)),
      embeddings: prepared.map { $0?.embedding })
  }

  /// Runs the layers after the blocks.
  public func finish(_ states: HiddenStates, _ prepared: Prepared) throws -> PerModality<Tensor?> {
    try states.compactMap { modality, x in
      try prepared.embeddings[modality].flatMap { try ends[modality]?.finish(x, $0) }
    }
  }
}

/// The layers of one modality before and after the blocks.
private struct ModalityEnds: Sendable {
  private let sizes: TransformerConfiguration.Sizes
  private let rotated: TransformerConfiguration.RotatedAttention
  private let configuration: TransformerConfiguration
  private let patchify: Linear
  /// [1, D], added to the tokens that show a single pixel frame.
  private let keyframeEmbedding: Tensor?
  private let adaLN: AdaLNSingle
  private let promptAdaLN: AdaLNSingle?
  private let captionProjection: CaptionProjection?
  private let crossAdaLN: AdaLNSingle?
  private let crossGateAdaLN: AdaLNSingle?
  /// [2, D]: shift and scale.
  private let table: Tensor
  private let output: Linear
  private let rotaryCache = RotaryCache()
  private let crossRotaryCache = RotaryCache()

  /// - Parameter isJoint: Builds the modulation of cross-modal attention.
  init(
    _ w: Weights, _ modality: Modality, isJoint: Bool, configuration c: TransformerConfiguration
  ) throws {
    let prefix = modality.keyPrefix
    sizes = c.sizes[modality]
    rotated = modality == .video ? .video : .audio
    configuration = c
    let width = sizes.width
    patchify = try Linear(w / "\(prefix)patchify_proj", inputs: sizes.inputs, outputs: width)
    keyframeEmbedding =
      modality == .video && c.hasKeyframeEmbedding
      ? try w.tensor(TransformerConfiguration.keyframeEmbeddingKey, shape: [1, width]) : nil
    adaLN = try AdaLNSingle(
      w / "\(prefix)adaln_single", width: width,
      vectors: BlockModulation.rowCount(modulatesText: c.hasPromptModulation))
    promptAdaLN =
      c.hasPromptModulation && c.hasPromptAdaLN
      ? try AdaLNSingle(w / "\(prefix)prompt_adaln_single", width: width, vectors: 2) : nil
    captionProjection = try c.captionChannels.map {
      try CaptionProjection(w / "\(prefix)caption_projection", inputs: $0, width: width)
    }
    crossAdaLN =
      isJoint
      ? try AdaLNSingle(
        w / "av_ca_\(modality)_scale_shift_adaln_single", width: width, vectors: 4) : nil
    let direction = modality == .video ? "a2v" : "v2a"
    crossGateAdaLN =
      isJoint
      ? try AdaLNSingle(w / "av_ca_\(direction)_gate_adaln_single", width: width, vectors: 1) : nil
    table = try w.tensor("\(prefix)scale_shift_table", shape: [2, width])
    output = try Linear(w / "\(prefix)proj_out", inputs: width, outputs: sizes.outputs)
  }

  func prepare(
    _ m: ModalityInput, other: ModalityInput?
  ) throws -> (hidden: Tensor, conditioning: ModalityConditioning, embedding: Tensor) {
    let batch = m.latent.size(0)
    let tokens = m.latent.size(1)
    try require(m.latent, "latent", [batch, tokens, sizes.inputs])
    try require(m.timesteps, "timesteps", [batch, m.timesteps.size(-1) == 1 ? 1 : tokens])
    try require(m.sigma, "sigma", [batch])
    try require(m.positions, "positions", [batch, sizes.maxPositions.count, tokens, 2])
    try require(
      m.context, "context", [batch, -1, configuration.captionChannels ?? sizes.contextWidth])
    if let mask = m.keyframesMask { try require(mask, "keyframes_mask", [batch, tokens]) }
    let dtype = m.latent.dtype
    let scaled = try m.timesteps * configuration.timestepScale
    let (modulation, embedding) = try adaLN(scaled, dtype: dtype)
    let prompt = try promptAdaLN?(m.sigma.unsqueeze(-1) * configuration.timestepScale, dtype: dtype)
      .modulation
    // Scale and shift come from the modality's own timesteps, the gate from the other modality's
    // sigma.
    let crossModulation = other == nil ? nil : try crossAdaLN?(scaled, dtype: dtype).modulation
    let crossGate = try other.flatMap {
      try crossGateAdaLN?($0.sigma.unsqueeze(-1) * configuration.crossTimestepScale, dtype: dtype)
        .modulation
    }
    let conditioning = ModalityConditioning(
      modulation: modulation,
      context: try captionProjection?(m.context) ?? m.context,
      promptModulation: prompt,
      crossModulation: crossModulation,
      crossGate: crossGate,
      contextMask: try m.contextMask.map { try contextBias($0, dtype) },
      selfAttentionMask: try m.selfAttentionMask.map { try selfAttentionBias($0, dtype) },
      positions: try rotaryCache.embedding(of: m.positions, dtype: dtype) {
        try configuration.rotaryEmbedding(rotated, positions: m.positions, dtype: dtype)
      },
      crossPositions: other == nil
        ? nil
        : try crossRotaryCache.embedding(of: m.positions, dtype: dtype) {
          try configuration.rotaryEmbedding(
            .crossModal, positions: m.positions.slice(1, from: 0, to: 1), dtype: dtype)
        },
      isEnabled: m.isEnabled)
    return (try marked(patchify(m.latent), m.keyframesMask), conditioning, embedding)
  }

  /// The projected tokens [B, T, D], with the embedding added where the mask [B, T] is above 0.
  private func marked(_ x: Tensor, _ mask: Tensor?) throws -> Tensor {
    guard let keyframeEmbedding, let mask else { return x }
    return try x.addingProduct(
      mask.greater(than: 0).to(x.dtype).unsqueeze(-1), keyframeEmbedding.to(x.dtype))
  }

  func finish(_ x: Tensor, _ embedding: Tensor) throws -> Tensor {
    let rows = try (embedding.unsqueeze(2) + table.to(x.dtype)).unbind(2)
    let (shift, scale) = (rows[0], rows[1])
    let normed = try x.layerNorm([sizes.width], eps: configuration.normEps)
    return try output(normed.modulated(scale: scale, shift: shift))
  }

  /// [B, S] of 0 and 1 to [B, 1, 1, S], 0 and the lowest number.
  private func contextBias(_ mask: Tensor, _ dtype: DType) throws -> Tensor {
    try ((mask.to(dtype) - 1) * dtype.largestFinite).unsqueeze(1).unsqueeze(1)
  }

  /// [B, T, T] in [0, 1] to [B, 1, T, T]: the logarithm, the lowest number for 0.
  private func selfAttentionBias(_ mask: Tensor, _ dtype: DType) throws -> Tensor {
    let logarithm = try mask.clamped(min: Scalar(dtype.smallestNormal)).log().to(dtype)
    return try logarithm.maskedFill(mask.lessOrEqual(to: 0), Scalar(-dtype.largestFinite))
      .unsqueeze(1)
  }

  private func require(_ tensor: Tensor, _ name: String, _ shape: [Int]) throws {
    let found = tensor.shape
    guard found.count == shape.count, zip(found, shape).allSatisfy({ $1 == -1 || $0 == $1 }) else {
      throw Issue.shape(.name(name), found, expected: "\(shape)")
    }
  }
}

/// Projects text features to the modality's width: linear, GELU, linear. Only LTX-2 has it inside
/// the transformer.
private struct CaptionProjection: Sendable {
  private let linear1: Linear
  private let linear2: Linear

  init(_ w: Weights, inputs: Int, width: Int) throws {
    linear1 = try Linear(w / "linear_1", inputs: inputs, outputs: width)
    linear2 = try Linear(w / "linear_2", inputs: width, outputs: width)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try linear2(linear1(x).gelu(approximate: "tanh"))
  }
}
