// B batch, S text tokens, D width of the connector, R registers.

import NN
import Torch

/// A small transformer between the text encoder and one stream of the audio-video transformer:
/// prompts of any length become contexts of one length, the rest filled with learned registers
/// (ltx-core, `text_encoders/gemma/embeddings_connector.py`).
public struct EmbeddingsConnector: Sendable {
  private struct Block: Sendable {
    let attention: Attention
    let feedForward: FeedForward
  }

  private let blocks: [Block]
  /// [R, D]
  private let registers: Tensor
  private let configuration: TextConfiguration.Connector

  private static let eps = 1e-6
  /// Not in the configuration.
  private static let ropeTheta = 10000.0

  /// - Parameter w: the scope of the connector, `model.diffusion_model.video_embeddings_connector`.
  public init(_ w: Weights, configuration c: TextConfiguration.Connector) throws {
    registers = try w.tensor("learnable_registers", shape: [-1, c.width])
    blocks = try (0..<c.layers).map { index in
      let block = w / "transformer_1d_blocks" / index
      return Block(
        attention: try Attention(
          block / "attn1", width: c.width, contextWidth: c.width, heads: c.heads,
          headWidth: c.headWidth,
          eps: Self.eps, isGated: c.isGated),
        feedForward: try FeedForward(block / "ff", width: c.width, bias: c.feedForwardBias))
    }
    configuration = c
    try w.requireAllUsed()
  }

  /// - Parameters:
  ///   - features: [B, S, D], text first.
  ///   - isText: [B, S, 1], true on text, false on padding.
  /// - Returns: [B, S, D], all of it to be attended to.
  /// - Throws: `TextError` when S is no multiple of the registers.
  func callAsFunction(_ features: Tensor, isText: Tensor) throws -> Tensor {
    let tokens = features.size(1)
    let count = registers.size(0)
    guard features.size(2) == configuration.width else {
      throw TextError(
        "text features are \(features.shape); the connector takes a width of \(configuration.width)"
      )
    }
    guard count > 0, tokens.isMultiple(of: count) else {
      throw TextError("\(tokens) text tokens are no multiple of the connector's \(count) registers")
    }
    let filling = try registers.to(features.dtype).repeated([tokens / count, 1]).unsqueeze(0)
    var x = try Tensor.select(where: isText, features, else: filling)
    let positions = try rotation(tokens: tokens, like: x)
    for block in blocks {
      x = try x + block.attention(x.rmsNorm(eps: Self.eps), positions: positions)
      x = try x + block.feedForward(x.rmsNorm(eps: Self.eps))
    }
    return try x.rmsNorm(eps: Self.eps)
  }

  /// A token's position is its index: a span of no length.
  private func rotation(tokens: Int, like x: Tensor) throws -> RotaryEmbedding {
    let indices = try Tensor.arange(to: Scalar(tokens), dtype: .float32, device: x.device)
    return try RotaryEmbedding(
      positions: Tensor.stack([indices, indices], -1).unsqueeze(0).unsqueeze(0),
      width: configuration.width,
      heads: configuration.heads, maxPositions: [configuration.maxPosition], theta: Self.ropeTheta,
      isDoublePrecision: configuration.hasDoublePrecisionFrequencies, layout: configuration.rope,
      dtype: x.dtype)
  }
}

/// Text as the transformer attends to it.
public struct TextContexts: Sendable {
  /// [B, S, D] of the video stream; nil where the connectors were built without it.
  public let video: Tensor?
  public let audio: Tensor?
  /// [B, S], int64: all ones, for registers stand where padding was.
  public let mask: Tensor

  public init(video: Tensor?, audio: Tensor?, mask: Tensor) {
    self.video = video
    self.audio = audio
    self.mask = mask
  }

  /// The same on a device.
  public func to(_ device: Device) throws -> TextContexts {
    TextContexts(
      video: try video?.to(device), audio: try audio?.to(device), mask: try mask.to(device))
  }
}

/// The connectors of both streams.
public struct TextConnectors: Sendable {
  private let video: EmbeddingsConnector?
  private let audio: EmbeddingsConnector?

  /// - Parameters:
  ///   - w: the transformer's scope, `model.diffusion_model`, which the connectors lie in.
  ///   - modalities: which of them to build; the other is not read.
  public init(_ w: Weights, configuration c: TextConfiguration, modalities: Set<Modality> = .both)
    throws
  {
    video =
      modalities.contains(.video)
      ? try EmbeddingsConnector(w / "video_embeddings_connector", configuration: c.video) : nil
    audio =
      modalities.contains(.audio)
      ? try EmbeddingsConnector(w / "audio_embeddings_connector", configuration: c.audio) : nil
  }

  /// - Parameter features: padded on either side to a multiple of the registers, 128 in the
  ///   published files.
  /// - Throws: `TextError` when shapes don't fit.
  public func callAsFunction(_ features: TextFeatures) throws -> TextContexts {
    // Sorted and gathered with, so it has to lie where the features do.
    let mask = try features.mask.to(features.video.device)
    for (name, tensor) in [("video", features.video), ("audio", features.audio)] {
      guard tensor.rank == 3, mask.rank == 2, Array(tensor.shape.prefix(2)) == mask.shape else {
        throw TextError(
          "the \(name) features are \(tensor.shape) and their mask \(mask.shape); expected [B, S, D] and [B, S]"
        )
      }
    }
    // Text first, in its own order, then the padding.
    let (isText, order) = try mask.notEqual(to: 0).to(.int64).sort(
      stable: true, -1, descending: true)
    func connect(_ connector: EmbeddingsConnector?, _ features: Tensor) throws -> Tensor? {
      try connector?(
        features.gather(1, order.unsqueeze(-1).expand(features.shape)),
        isText: isText.notEqual(to: 0).unsqueeze(-1))
    }
    return TextContexts(
      video: try connect(video, features.video), audio: try connect(audio, features.audio),
      mask: try Tensor.ones(mask.shape, dtype: .int64, device: mask.device))
  }
}
