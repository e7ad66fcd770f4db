// N prompts, S tokens, D width and L hidden states of the text encoder, Wv/Wa width of video/audio
// features.

import LanguageModels
import NN
import Torch

/// Text as a dataset's cache stores it: read by the text encoder, not yet by the connectors, which
/// training may still change.
public struct TextFeatures: Sendable {
  /// [N, S, Wv]
  public let video: Tensor
  /// [N, S, Wa]; where the streams share their features, the very same tensor.
  public let audio: Tensor
  /// [N, S], int64, 0 on padding, which may be on either side.
  public let mask: Tensor

  public init(video: Tensor, audio: Tensor, mask: Tensor) {
    self.video = video
    self.audio = audio
    self.mask = mask
  }
}

/// Hidden states of all layers of a text encoder to features: normalised layer by layer, laid next
/// to each other, and projected (ltx-core, `text_encoders/gemma/feature_extractor.py`).
public struct FeatureExtractor: Sendable {
  private let projection: Projection
  private let width: Int
  private let hiddenStateCount: Int

  private enum Projection: Sendable {
    case shared(Linear)
    case perStream(video: Linear, audio: Linear)
  }

  /// - Parameters:
  ///   - root: the root of the checkpoint.
  ///   - width: D
  ///   - hiddenStateCount: L
  /// - Throws: `WeightError`, also when the checkpoint was made for another text encoder.
  public init(_ root: Weights, configuration: TextConfiguration, width: Int, hiddenStateCount: Int)
    throws
  {
    let w = root / "text_embedding_projection"
    func linear(_ name: String, outputs: Int, bias: Bool) throws -> Linear {
      let found = try (w / name).shape(of: "weight")
      guard found.last == width * hiddenStateCount else {
        throw WeightError(
          file: w.file, key: "\(w.path).\(name).weight",
          problem:
            "has shape \(found), but the text encoder's \(hiddenStateCount) hidden states of width \(width) "
            + "give \(width * hiddenStateCount) inputs; the checkpoint was made for another text encoder"
        )
      }
      return try Linear(w / name, inputs: width * hiddenStateCount, outputs: outputs, bias: bias)
    }
    projection =
      switch configuration.features {
      case .shared: .shared(try linear("aggregate_embed", outputs: width, bias: false))
      case .perStream(let video, let audio):
        .perStream(
          video: try linear("video_aggregate_embed", outputs: video, bias: true),
          audio: try linear("audio_aggregate_embed", outputs: audio, bias: true))
      }
    try w.requireAllUsed()
    self.width = width
    self.hiddenStateCount = hiddenStateCount
  }

  /// Reads the projections of a checkpoint to look at them, whatever text encoder they are for.
  static func read(_ root: Weights, configuration: TextConfiguration) throws {
    let w = root / Checkpoint.Prefix.textProjection
    switch configuration.features {
    case .shared: _ = try Linear(w / "aggregate_embed", bias: false)
    case .perStream(let video, let audio):
      _ = try Linear(w / "video_aggregate_embed", outputs: video)
      _ = try Linear(w / "audio_aggregate_embed", outputs: audio)
    }
  }

  /// Runs the text encoder on a batch and makes features of what it gives.
  ///
  /// A prompt takes S * D * L numbers of the projection's element type while it is worked on: 0.4
  /// GB for the 1024 tokens that Gemma 3 12B reads in bfloat16, twice that for a moment in LTX-2.3.
  ///
  /// - Parameters:
  ///   - ids: [N, S], int64.
  ///   - mask: [N, S], 0 on padding.
  ///   - firstPosition: where the first token stands, when padding before it is left out.
  ///   - observe: sees each hidden state as the encoder gives it.
  public func callAsFunction(
    _ encoder: any TextEncoder, ids: Tensor, mask: Tensor, firstPosition: Int = 0,
    observe: (Int, Tensor) throws -> Void = { _, _ in }
  ) throws -> TextFeatures {
    guard encoder.width == width, encoder.hiddenStateCount == hiddenStateCount else {
      throw TextError("the features were set up for another text encoder")
    }
    // Each hidden state is normalised into its place as it comes, so that they are never there
    // twice. The layer is the fastest dimension.
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
      throw TextError("the text encoder gave no hidden states")
    }
    let mask = try mask.to(flat.device)
    switch projection {
    case .shared(let linear):
      let features = try linear(flat)
      return TextFeatures(video: features, audio: features, mask: mask)
    case .perStream(let video, let audio):
      return TextFeatures(
        video: try video(flat * rescale(video)), audio: try audio(flat * rescale(audio)), mask: mask
      )
    }
  }

  /// The element type of the projections, and so of the features.
  private var dtype: DType {
    switch projection {
    case .shared(let linear): linear.dtype
    case .perStream(let video, _): video.dtype
    }
  }

  /// Keeps the size of a projection's inputs in proportion to its outputs.
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
      // 8 * (x - mean) / (largest - smallest) over the tokens of the prompt.
      // [N, 1, 1]
      let tokens = try isPadding.logicalNot().sum([1, 2], keepdim: true, dtype: .float32)
      let mean =
        try x.maskedFill(isPadding, 0).sum([1, 2], keepdim: true) / (tokens * Double(width) + 1e-6)
      let smallest = try x.maskedFill(isPadding, Scalar(Double.infinity)).amin(
        [1, 2], keepdim: true)
      let largest = try x.maskedFill(isPadding, Scalar(-Double.infinity)).amax(
        [1, 2], keepdim: true)
      normed = try (x - mean) * 8 / (largest - smallest + 1e-6)
    case .perStream:
      normed = try x.rmsNorm(eps: 1e-6)
    }
    return try normed.maskedFill(isPadding, 0)
  }
}

/// Text that can't be worked on as it is.
public struct TextError: Error, CustomStringConvertible, Sendable {
  public let description: String

  init(_ description: String) { self.description = description }
}
