// B batch, C channels, N samples.

import NN
import Torch

/// x + sin²(αx) / β between a doubling and a halving of the rate, so that the overtones which it makes are cut off and
/// do not fold back as wrong tones (BigVGAN, section 3.2; ltx-core, `audio_vae/vocoder.py`).
struct AntialiasedSnake: Sendable {
  /// [1, C, 1] each: the checkpoint holds logarithms.
  private let alpha: Tensor
  private let inverseBeta: Tensor
  /// [C, 1, 12] each, the same for all channels; the first one times 2, which makes up for the zeros between samples.
  private let upsampling: Tensor
  private let downsampling: Tensor

  private static let taps = 12

  init(_ w: Weights, channels: Int) throws {
    let shape = [1, channels, 1]
    alpha = try (w / "act").tensor("alpha", shape: [channels]).exp().reshape(shape)
    inverseBeta = try ((w / "act").tensor("beta", shape: [channels]).exp() + 1e-9).reciprocal().reshape(shape)
    func filter(_ w: Weights) throws -> Tensor {
      try w.tensor("filter", shape: [1, 1, Self.taps]).expand([channels, 1, Self.taps]).contiguous()
    }
    upsampling = try filter(w / "upsample") * 2
    downsampling = try filter(w / "downsample" / "lowpass")
  }

  /// - Parameter x: [B, C, N]
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let channels = x.size(1)
    // Beyond its ends, the sound is taken to stay as it is there; 2 * 5 + (12 - 2) / 2 samples of that are cut again.
    let doubled = try x.pad([5, 5], mode: "replicate").convTransposed1d(
      upsampling, stride: [2], groups: channels
    ).narrow(2, 15, 2 * x.size(2))
    let bent = try doubled.addingProduct((doubled * alpha).sin().square(), inverseBeta)
    return try bent.pad([5, 6], mode: "replicate").conv1d(downsampling, stride: [2], groups: channels)
  }
}
