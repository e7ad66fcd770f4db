// N recordings, F mel frequencies, R frames of the longest, C chunks, L frames or tokens of the
// longest chunk, T encoded tokens, A tokens of the language model, D width, W width of the language
// model.

import NN
import Support
import Torch

/// The audio tower of Qwen2.5-Omni and Qwen3-Omni ("Qwen2.5-Omni Technical Report" and "Qwen3-Omni
/// Technical Report", 2025; `transformers`, `models/qwen2_5_omni` and `models/qwen3_omni_moe`): a
/// Whisper encoder over chunks.
///
/// Positions begin again in each chunk. A chunk attends to itself in Qwen2.5-Omni, and to those in
/// its window in Qwen3-Omni.
public struct AudioTower: Sendable {
  private let configuration: AudioConfiguration
  private let device: Device
  private let stem: AudioTowerStem
  private let layers: [AudioTowerLayer]
  private let norm: LayerNorm
  /// Qwen3-Omni: the layer before the projection.
  private let inner: Linear?
  private let projection: Linear

  /// - Parameter w: The scope `audio_tower` of the thinker.
  /// - Throws: `WeightError` if a tensor is missing or doesn't have the shape in the configuration.
  public init(_ w: Weights, _ c: AudioConfiguration) throws {
    configuration = c
    device = w.device
    stem = try AudioTowerStem(w, c)
    layers = try (0..<c.depth).map { try AudioTowerLayer(w / "layers" / $0, c) }
    norm = try LayerNorm(w / "ln_post", width: c.width, eps: AudioTowerLayer.eps)
    switch c.family {
    case .qwen25:
      inner = nil
      projection = try Linear(w / "proj", inputs: c.width, outputs: c.outputWidth)
    case .qwen3:
      inner = try Linear(w / "proj1", inputs: c.width, outputs: c.width)
      projection = try Linear(w / "proj2", inputs: c.width, outputs: c.outputWidth)
    }
  }

  /// - Parameters:
  ///   - features: [N, F, R], log-mel spectrograms.
  ///   - mask: [N, R], 1 on the frames of each recording, which come first.
  /// - Returns: [A, W], the tokens of all recordings.
  /// - Throws: `Issue` for other shapes, and a mask with frames after its end.
  public func callAsFunction(features: Tensor, mask: Tensor) throws -> Tensor {
    let c = configuration
    let lengths = try frameCounts(features: features, mask: mask)
    let x = try features.to(device, stem.dtype)
    let chunks = lengths.map(c.chunks(of:))
    let pieces = try zip(lengths, chunks).enumerated().flatMap { index, recording in
      try x.select(0, index).narrow(1, 0, recording.0).split(sizes: recording.1, 1)
    }
    guard !pieces.isEmpty else { return try empty() }
    var hidden = try stem(pieces)
    let spans = AttentionSpans(chunks.flatMap(windows(of:)))
    for layer in layers { hidden = try layer(hidden, spans) }
    if c.family == .qwen25 { hidden = try halved(hidden, chunks) }
    guard hidden.size(0) > 0 else { return try empty() }
    hidden = try norm(hidden)
    if let inner { hidden = try inner(hidden).gelu() }
    return try projection(hidden)
  }

  private func empty() throws -> Tensor {
    try Tensor.empty([0, configuration.outputWidth], dtype: stem.dtype, device: device)
  }

  /// The number of frames of each recording.
  private func frameCounts(features: Tensor, mask: Tensor) throws -> [Int] {
    let (shape, bins) = (features.shape, configuration.melBins)
    guard shape.count == 3, shape[1] == bins, mask.shape == [shape[0], shape[2]] else {
      throw Issue(
        ["features"],
        "have shape \(shape) and a mask of shape \(mask.shape) (expected [recordings, \(bins), "
          + "frames] and [recordings, frames])")
    }
    let marks = try mask.array(of: Int.self)
    return try (0..<shape[0]).map { index in
      let row = marks[index * shape[2]..<(index + 1) * shape[2]]
      let count = row.prefix { $0 != 0 }.count
      guard row.dropFirst(count).allSatisfy({ $0 == 0 }) else {
        throw Issue(
          ["mask", .index(index)], "has frames after its end (expected ones, followed by zeros)")
      }
      return count
    }
  }

  /// The numbers of tokens of a recording that attend to each other.
  private func windows(of chunks: [Int]) -> [Int] {
    let c = configuration
    return stride(from: 0, to: chunks.count, by: c.chunksPerWindow).map { start in
      chunks[start..<Swift.min(start + c.chunksPerWindow, chunks.count)]
        .reduce(0) { $0 + c.convolved($1) }
    }
  }

  /// The means of pairs of neighbors in each recording; a single last one is dropped.
  ///
  /// - Parameter x: [T, D]
  private func halved(_ x: Tensor, _ chunks: [[Int]]) throws -> Tensor {
    let counts = chunks.map { $0.reduce(0) { $0 + configuration.convolved($1) } }
    return try Tensor.cat(
      x.split(sizes: counts, 0).map { tokens in
        let pairs = tokens.size(0) / 2
        return try tokens.narrow(0, 0, 2 * pairs).unflatten(0, [pairs, 2]).mean([1])
      })
  }
}

/// One layer of Whisper's encoder (Radford et al., "Robust Speech Recognition via Large-Scale Weak
/// Supervision", 2022), with attention inside spans.
struct AudioTowerLayer: Sendable {
  static let eps = 1e-5

  private let norm1: LayerNorm
  private let norm2: LayerNorm
  private let toQ: Linear
  private let toK: Linear
  private let toV: Linear
  private let toOut: Linear
  private let up: Linear
  private let down: Linear
  private let heads: Int

  init(_ w: Weights, _ c: AudioConfiguration) throws {
    norm1 = try LayerNorm(w / "self_attn_layer_norm", width: c.width, eps: Self.eps)
    norm2 = try LayerNorm(w / "final_layer_norm", width: c.width, eps: Self.eps)
    func projection(_ name: String, bias: Bool = true) throws -> Linear {
      try Linear(w / "self_attn" / name, inputs: c.width, outputs: c.width, bias: bias)
    }
    toQ = try projection("q_proj")
    toK = try projection("k_proj", bias: c.family == .qwen3)
    toV = try projection("v_proj")
    toOut = try projection("out_proj")
    up = try Linear(w / "fc1", inputs: c.width, outputs: c.feedForwardWidth)
    down = try Linear(w / "fc2", inputs: c.feedForwardWidth, outputs: c.width)
    heads = c.heads
  }

  /// - Parameter x: [T, D]
  func callAsFunction(_ x: Tensor, _ spans: AttentionSpans) throws -> Tensor {
    let normed = try norm1(x)
    let attended = try spans.attend(
      split(toQ(normed)), split(toK(normed)), split(toV(normed)))
    let y = try x + toOut(attended)
    return try y + down(up(norm2(y)).gelu())
  }

  /// [T, D] to [T, H, E]
  private func split(_ x: Tensor) throws -> Tensor { try x.unflatten(-1, [heads, -1]) }
}
