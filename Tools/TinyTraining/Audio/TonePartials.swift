// B clips, N samples, T frames of the spectrogram, P partials.

import DemoData
import NN
import Torch

/// The partials of the world's tones, of all timbres.
enum TonePartials {
  /// Their frequencies, relative to the fundamental's.
  static let ratios: [Double] = [1, 2, 3, 5, 2.756, 5.404]

  /// The partials of a timbre.
  static func indices(_ style: DemoScene.Style) -> [Int] {
    switch style {
    case .plain: [0, 1, 2]
    case .sketch: [0, 2, 3]
    case .snow: [0, 4, 5]
    }
  }

  /// The samples of the window that an amplitude is measured in.
  private static let window = 3 * ToneBatch.hop

  /// The amplitudes of the partials around the middle of the samples that a vocoder computes from
  /// each frame; 0 for partials of other timbres.
  ///
  /// - Returns: [B, P, 2, T]
  static func amplitudes(_ batch: ToneBatch) throws -> Tensor {
    let (clips, frames) = (batch.scenes.count, batch.frameCount)
    let chosen = batch.scenes.map { indices($0.style) }
    let own = chosen[0].count
    let ratio = try Tensor(chosen.joined().map { ratios[$0] }, shape: [clips, own, 1])
    let measured = try amplitudes(
      batch.waveforms, cycles: batch.cycles().unsqueeze(1) * ratio, frames: frames)
    var places = [Float](repeating: 0, count: clips * ratios.count * own)
    for (clip, indices) in chosen.enumerated() {
      for (place, index) in indices.enumerated() {
        places[(clip * ratios.count + index) * own + place] = 1
      }
    }
    return try Tensor(places, shape: [clips, ratios.count, own])
      .matmul(measured.flatten(from: 2)).reshape([clips, ratios.count, 2, frames])
  }

  /// The amplitudes of sinusoids of known phases in audio.
  ///
  /// - Parameters:
  ///   - waveforms: [B, 2, N]
  ///   - cycles: [B, P, N], float64
  /// - Returns: [B, P, 2, T]
  static func amplitudes(_ waveforms: Tensor, cycles: Tensor, frames: Int) throws -> Tensor {
    let shape = cycles.shape
    let angles = try (cycles - cycles.floor()).to(.float32) * (2 * Double.pi)
    let kernel = try MelFilters.hannWindow(window).reshape([1, 1, window])
    let padding = [ToneBatch.hop, ToneBatch.hop * (frames + 1) - shape[2]]
    func part(_ wave: Tensor) throws -> Tensor {
      try (wave.unsqueeze(2) * waveforms.unsqueeze(1)).reshape([-1, 1, shape[2]]).pad(padding)
        .conv1d(kernel, stride: [ToneBatch.hop]).square()
    }
    let energy = try part(angles.cos()) + part(angles.sin())
    return try energy.sqrt().reshape([shape[0], shape[1], 2, frames])
      * (4 / Double(window))
  }
}
