// F mel frequencies, L frames or tokens of the longest chunk, T encoded tokens, D width.

import Foundation
import NN
import Torch

/// The convolutions of an audio tower, and the positions that are added to their outputs.
///
/// Chunks are padded with zeros to the longest one of the request. Qwen2.5-Omni sets the padding to
/// zero again between its two convolutions. Qwen3-Omni does not, so that the last tokens of a
/// shorter chunk depend on whether there is a longer one.
struct AudioTowerStem: Sendable {
  private let convolutions: [Convolution]
  /// Qwen3-Omni: channels and mel frequencies to the width.
  private let projection: Linear?
  private let configuration: AudioConfiguration

  private struct Convolution: Sendable {
    let weight: WeightSlot
    let bias: WeightSlot

    init(_ w: Weights, shape: [Int]) throws {
      weight = try w.slot("weight", shape: shape)
      bias = try w.slot("bias", shape: [shape[0]])
    }
  }

  /// The number of chunks that are computed together, which bounds the memory.
  private static let batch = 32

  init(_ w: Weights, _ c: AudioConfiguration) throws {
    configuration = c
    switch c.family {
    case .qwen25:
      convolutions = [
        try Convolution(w / "conv1", shape: [c.width, c.melBins, 3]),
        try Convolution(w / "conv2", shape: [c.width, c.width, 3]),
      ]
      projection = nil
    case .qwen3:
      convolutions = try (1...3).map { index in
        try Convolution(
          w / "conv2d\(index)", shape: [c.channels, index == 1 ? 1 : c.channels, 3, 3])
      }
      let bins = (0..<3).reduce(c.melBins) { bins, _ in (bins + 1) / 2 }
      projection = try Linear(
        w / "conv_out", inputs: c.channels * bins, outputs: c.width, bias: false)
    }
  }

  var dtype: DType { convolutions[0].weight.tensor.dtype }

  /// - Parameter chunks: The frames of each chunk, [F, up to L]; at least one.
  /// - Returns: [T, D], the tokens of all chunks without padding.
  func callAsFunction(_ chunks: [Tensor]) throws -> Tensor {
    let longest = chunks.reduce(0) { Swift.max($0, $1.size(1)) }
    let positions = try Self.positions(configuration.convolved(longest), configuration.width)
      .to(chunks[0].device, dtype)
    var tokens: [Tensor] = []
    for start in stride(from: 0, to: chunks.count, by: Self.batch) {
      let part = chunks[start..<Swift.min(start + Self.batch, chunks.count)]
      let padded = try Tensor.stack(part.map { try $0.pad([0, longest - $0.size(1)]) })
      let lengths = part.map { $0.size(1) }
      let output =
        try configuration.family == .qwen25
        ? encoded(padded, lengths: lengths) : encoded(padded)
      let placed = try output + positions
      for (index, length) in lengths.enumerated() {
        tokens.append(try placed.select(0, index).narrow(0, 0, configuration.convolved(length)))
      }
    }
    return try Tensor.cat(tokens)
  }

  /// Qwen2.5-Omni.
  ///
  /// - Parameter x: [chunks, F, L]
  /// - Returns: [chunks, tokens, D]
  private func encoded(_ x: Tensor, lengths: [Int]) throws -> Tensor {
    let frames = x.size(2)
    let marks = lengths.flatMap { length in (0..<frames).map { $0 < length ? Float(1) : 0 } }
    let mask = try Tensor(marks, shape: [lengths.count, 1, frames]).to(x.device, x.dtype)
    let (first, second) = (convolutions[0], convolutions[1])
    let y = try x.conv1d(first.weight.tensor, first.bias.tensor, padding: [1]).gelu() * mask
    return try y.conv1d(second.weight.tensor, second.bias.tensor, stride: [2], padding: [1]).gelu()
      .transpose(1, 2)
  }

  /// Qwen3-Omni.
  ///
  /// - Parameter x: [chunks, F, L]
  /// - Returns: [chunks, tokens, D]
  private func encoded(_ x: Tensor) throws -> Tensor {
    var y = try x.unsqueeze(1)
    for layer in convolutions {
      y = try y.conv2d(layer.weight.tensor, layer.bias.tensor, stride: [2, 2], padding: [1, 1])
        .gelu()
    }
    y = try y.permute([0, 3, 1, 2]).flatten(from: 2, through: 3)
    return try projection?(y) ?? y
  }

  /// Sines and cosines of falling frequencies (Vaswani et al., "Attention Is All You Need", 2017).
  ///
  /// - Returns: [count, width], float32.
  private static func positions(_ count: Int, _ width: Int) throws -> Tensor {
    let half = width / 2
    let step = log(10_000) / Double(half - 1)
    let frequencies = try (Tensor.arange(to: Scalar(half), dtype: .float32) * -step).exp()
    let angles = try Tensor.arange(to: Scalar(count), dtype: .float32).unsqueeze(1) * frequencies
    return try Tensor.cat([angles.sin(), angles.cos()], 1)
  }
}
