// N prompts, S tokens, D width and L hidden states of the text encoder, Wv/Wa width of video/audio
// features.

import LanguageModels
import NN
import Support
import Torch

/// Text features as a dataset's cache stores them: after the text encoder, before the connectors,
/// which training may change.
public struct TextFeatures: Sendable {
  /// [N, S, Wv] and [N, S, Wa]; the same object if the modalities share their features.
  public let byModality: PerModality<Tensor>
  /// [N, S], int64, 0 on padding, which may be on either side.
  public let mask: Tensor

  public init(_ features: PerModality<Tensor>, mask: Tensor) {
    byModality = features
    self.mask = mask
  }

  /// Applies functions to the features of each modality, once if they are shared, and to the mask.
  public func map(
    _ transform: (Tensor) throws -> Tensor, mask transformMask: (Tensor) throws -> Tensor
  ) rethrows -> TextFeatures {
    let video = try transform(byModality.video)
    let isShared = byModality.audio === byModality.video
    return TextFeatures(
      PerModality(video: video, audio: isShared ? video : try transform(byModality.audio)),
      mask: try transformMask(mask))
  }
}

/// Turns the hidden states of all layers of a text encoder into features: normalizes each layer,
/// concatenates and projects them (ltx-core, `text_encoders/gemma/feature_extractor.py`).
public struct FeatureExtractor: Sendable {
  private let projection: Projection
  private let width: Int
  private let hiddenStateCount: Int

  private enum Projection: Sendable {
    case shared(Linear)
    case perModality(video: Linear, audio: Linear)
  }

  /// - Parameters:
  ///   - root: the root of the checkpoint.
  ///   - width: D
  ///   - hiddenStateCount: L
  /// - Throws: `WeightError`, also if the checkpoint was made for another text encoder.
  public init(_ root: Weights, configuration: TextConfiguration, width: Int, hiddenStateCount: Int)
    throws
  {
    let w = root / Checkpoint.Prefix.textProjection
    try Self.requireFit(
      root, configuration: configuration, width: width, hiddenStateCount: hiddenStateCount)
    func linear(_ name: String, outputs: Int, bias: Bool) throws -> Linear {
      try Linear(w / name, inputs: width * hiddenStateCount, outputs: outputs, bias: bias)
    }
    projection =
      switch configuration.features {
      case .shared: .shared(try linear("aggregate_embed", outputs: width, bias: false))
      case .perModality(let video, let audio):
        .perModality(
          video: try linear("video_aggregate_embed", outputs: video, bias: true),
          audio: try linear("audio_aggregate_embed", outputs: audio, bias: true))
      }
    try w.requireAllUsed()
    self.width = width
    self.hiddenStateCount = hiddenStateCount
  }

  /// Checks that the projections have as many inputs as a text encoder gives, without reading them.
  ///
  /// - Throws: `WeightError` if the checkpoint was made for another text encoder.
  static func requireFit(
    _ root: Weights, configuration: TextConfiguration, width: Int, hiddenStateCount: Int
  ) throws {
    let w = root / Checkpoint.Prefix.textProjection
    for name in configuration.features.projections {
      let found = try (w / name).shape(of: "weight")
      guard found.last == width * hiddenStateCount else {
        throw WeightError(
          file: w.file, key: "\(w.path).\(name).weight",
          problem:
            "has shape \(found), but the text encoder's \(hiddenStateCount) hidden states of width \(width) "
            + "give \(width * hiddenStateCount) inputs; the checkpoint was made for another text encoder"
        )
      }
    }
  }

  /// Reads the projections of a checkpoint for inspection, regardless of their text encoder.
  static func read(_ root: Weights, configuration: TextConfiguration) throws {
    let w = root / Checkpoint.Prefix.textProjection
    switch configuration.features {
    case .shared: _ = try Linear(w / "aggregate_embed", bias: false)
    case .perModality(let video, let audio):
      _ = try Linear(w / "video_aggregate_embed", outputs: video)
      _ = try Linear(w / "audio_aggregate_embed", outputs: audio)
    }
  }

  /// Runs the text encoder on a batch and turns its hidden states into features.
  ///
  /// A prompt temporarily takes S * D * L values of the projection's dtype: 0.4 GB for the 1024
  /// tokens of Gemma 3 12B in bfloat16, and briefly twice that in LTX-2.3.
  ///
  /// - Parameters:
  ///   - ids: [N, S], int64.
  ///   - mask: [N, S], 0 on padding.
  ///   - firstPosition: the first token's position, if padding before it was skipped.
  ///   - observe: called with each hidden state.
  public func callAsFunction(
    _ encoder: any TextEncoder, ids: Tensor, mask: Tensor, firstPosition: Int = 0,
    observe: (Int, Tensor) throws -> Void = { _, _ in }
  ) throws -> TextFeatures {
    guard encoder.width == width, encoder.hiddenStateCount == hiddenStateCount else {
      throw Issue("the text features were built for another text encoder")
    }
    // Each hidden state is normalized into its place at once, so that two copies of all layers
    // never exist. The layer is the fastest dimension.
    var flat: Tensor?
    var isPadding: Tensor?
    try encoder.forEachHiddenState(ids: ids, mask: mask, firstPosition: firstPosition) {
      layer, state in
      try observe(layer, state)
      let padding = try isPadding ?? mask.to(state.device).equal(to: 0).unsqueeze(-1)
      isPadding = padding
      let all =
        try flat
        ?? Tensor.empty(state.shape + [hiddenStateCount], dtype: dtype, device: state.device)
      flat = all
      try all.select(3, layer).copy_(normalized(state, isPadding: padding))
    }
    guard let flat = try flat?.flatten(from: 2, through: 3) else {
      throw Issue("the text encoder returned no hidden states")
    }
    let mask = try mask.to(flat.device)
    switch projection {
    case .shared(let linear):
      let features = try linear(flat)
      return TextFeatures(PerModality(video: features, audio: features), mask: mask)
    case .perModality(let video, let audio):
      return TextFeatures(
        PerModality(
          video: try video(flat * rescale(video)), audio: try audio(flat * rescale(audio))),
        mask: mask)
    }
  }

  /// The dtype of the projections, and so of the features.
  private var dtype: DType {
    switch projection {
    case .shared(let linear): linear.dtype
    case .perModality(let video, _): video.dtype
    }
  }

  /// The factor by which a projection's inputs are scaled to match its outputs.
  private func rescale(_ linear: Linear) -> Double {
    (Double(linear.outputs) / Double(width)).squareRoot()
  }

  /// One hidden state in float32, 0 on padding.
  ///
  /// - Parameters:
  ///   - state: [N, S, D]
  ///   - isPadding: [N, S, 1]
  func normalized(_ state: Tensor, isPadding: Tensor) throws -> Tensor {
    let x = try state.to(.float32)
    let normed: Tensor
    switch projection {
    case .shared:
      // 8 * (x - mean) / (max - min) over the tokens of the prompt.
      // [N, 1, 1]
      let tokens = try isPadding.logicalNot().sum([1, 2], keepdim: true, dtype: .float32)
      let mean =
        try x.maskedFill(isPadding, 0).sum([1, 2], keepdim: true) / (tokens * Double(width) + 1e-6)
      let smallest = try x.maskedFill(isPadding, Scalar(Double.infinity)).amin(
        [1, 2], keepdim: true)
      let largest = try x.maskedFill(isPadding, Scalar(-Double.infinity)).amax(
        [1, 2], keepdim: true)
      normed = try (x - mean) * 8 / (largest - smallest + 1e-6)
    case .perModality:
      normed = try x.rmsNorm(eps: 1e-6)
    }
    return try normed.maskedFill(isPadding, 0)
  }
}
