// B batch, S text tokens, D width of the connector, R registers.

import NN
import Support
import Torch

/// A small transformer between the text encoder and one modality of the audio-video transformer
/// (ltx-core, `text_encoders/gemma/embeddings_connector.py`).
///
/// Prompts of any length become contexts of one length, padded with learned registers.
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
  /// Fixed: not in the configuration.
  private static let ropeTheta = 10000.0

  /// - Parameter w: The scope of the connector, `model.diffusion_model.video_embeddings_connector`.
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
  /// - Returns: [B, S, D]; the transformer attends to all of it.
  /// - Throws: `Issue` if S isn't a multiple of the number of registers.
  func callAsFunction(_ features: Tensor, isText: Tensor) throws -> Tensor {
    let tokens = features.size(1)
    let count = registers.size(0)
    guard features.size(2) == configuration.width else {
      throw Issue(
        ["text features"],
        "have shape \(features.shape), expected a width of \(configuration.width)")
    }
    guard count > 0, tokens.isMultiple(of: count) else {
      throw Issue(
        ["text features"], "must have a multiple of \(count) tokens (got \(tokens))")
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

  /// A token's position is its index: a span of length 0.
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

/// The text contexts that the transformer attends to.
///
/// Every token counts, because registers replace the padding. The transformer therefore gets no
/// mask: GPUs have faster attention without one, and the numbers are the same.
public struct TextContexts: Sendable {
  /// [B, S, D]; nil for a modality whose connector was not built.
  public let byModality: PerModality<Tensor?>

  public init(_ contexts: PerModality<Tensor?>) { byModality = contexts }

  /// [B, S], int64: all ones, the mask that upstream returns with the contexts.
  public var mask: Tensor {
    get throws {
      let shape = byModality.values().first.map { Array($0.shape.prefix(2)) } ?? [0, 0]
      return try .ones(shape, dtype: .int64)
    }
  }

  /// Returns the contexts on a device.
  public func to(_ device: Device) throws -> TextContexts { try mapTensors { try $0.to(device) } }

  /// Returns the results of a function of each context.
  public func mapTensors(_ change: (Tensor) throws -> Tensor) rethrows -> TextContexts {
    TextContexts(try byModality.map { try $0.map(change) })
  }
}

/// The text connectors of the modalities.
public struct TextConnectors: Sendable {
  private let connectors: PerModality<EmbeddingsConnector?>

  /// - Parameters:
  ///   - w: The transformer's scope, `model.diffusion_model`, which contains the connectors.
  ///   - modalities: The modalities to build; weights of the other one are not read.
  public init(_ w: Weights, configuration c: TextConfiguration, modalities: Set<Modality> = .both)
    throws
  {
    connectors = try PerModality { modality in
      modalities.contains(modality)
        ? try EmbeddingsConnector(
          w / "\(modality)_embeddings_connector", configuration: c.connectors[modality]) : nil
    }
  }

  /// - Parameter features: Features padded on either side to a multiple of the number of registers,
  ///   which is 128 in the published files.
  /// - Throws: `Issue` if shapes don't fit.
  public func callAsFunction(_ features: TextFeatures) throws -> TextContexts {
    // Sorting and gathering need the mask on the features' device.
    let mask = try features.mask.to(features.byModality.video.device)
    for (modality, tensor) in features.byModality.pairs {
      guard tensor.rank == 3, mask.rank == 2, Array(tensor.shape.prefix(2)) == mask.shape else {
        throw Issue(
          [.name("\(modality) text features")],
          "have shape \(tensor.shape) and a mask of \(mask.shape), "
            + "expected [B, S, D] and [B, S]")
      }
    }
    // The text comes first, in its original order, then the padding.
    let (isText, order) = try mask.notEqual(to: 0).to(.int64).sort(
      stable: true, -1, descending: true)
    return TextContexts(
      try connectors.compactMap { modality, connector in
        let features = features.byModality[modality]
        return try connector(
          features.gather(1, order.unsqueeze(-1).expand(features.shape)),
          isText: isText.notEqual(to: 0).unsqueeze(-1))
      })
  }
}
