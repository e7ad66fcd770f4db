// C channels, N samples.

import NN
import Torch

/// x + sin²(αx) / β between a doubling and a halving of the rate, so that the overtones that it
/// adds are cut off and don't alias (BigVGAN, section 3.2; ltx-core, `audio_vae/vocoder.py`).
struct AntialiasedSnake: Sendable {
  /// [C] each: the checkpoint holds logarithms.
  private let alpha: Tensor
  private let inverseBeta: Tensor
  /// [12] each; the first one times 2, to compensate for the zeros between samples.
  private let upsampling: Tensor
  private let downsampling: Tensor

  private static let taps = 12

  init(_ w: Weights, channels: Int) throws {
    alpha = try (w / "act").tensor("alpha", shape: [channels]).exp()
    inverseBeta = try ((w / "act").tensor("beta", shape: [channels]).exp() + 1e-9).reciprocal()
    func filter(_ w: Weights) throws -> Tensor {
      try w.tensor("filter", shape: [1, 1, Self.taps]).flatten().contiguous()
    }
    upsampling = try filter(w / "upsample") * 2
    downsampling = try filter(w / "downsample" / "lowpass")
  }

  /// - Parameter x: [B, C, N]
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try x.antialiasedSnake(
      alpha: alpha, inverseBeta: inverseBeta, up: upsampling, down: downsampling)
  }
}
