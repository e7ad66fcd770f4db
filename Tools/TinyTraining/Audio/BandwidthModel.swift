// B clips, N samples.

import DemoData
import LTX
import NN
import Support
import Torch

/// The extension from 16 to 48 kHz in training: drawn audio at the lower rate, compared with the
/// same audio at the higher rate.
///
/// The world's tones end at 4.5 kHz, so all that the extension has to learn is to add nothing.
public final class BandwidthModel: StageModel {
  public let weights: TrainableWeights
  private let configuration: VocoderConfiguration
  private let scope: Weights
  private let scenes: ToneScenes
  private let batch: Int
  private let heldOut: [DemoScene]

  private static let seconds = 0.3

  /// - Parameter initial: All tensors of the vocoder.
  public init(
    _ initial: [(key: String, tensor: Tensor)], seed: UInt64, batch: Int = 4,
    heldOut count: Int = 16
  ) throws {
    let prefix = Checkpoint.Prefix.vocoder
    weights = try TrainableWeights(initial, config: OscillatorVocoder.config, scope: prefix) {
      !$0.hasPrefix("\(prefix).bwe_generator.") || $0.hasSuffix("filter")
    }
    configuration = try VocoderConfiguration(weights.configuration)
    scope = weights.root / prefix
    scenes = ToneScenes(seed: seed)
    self.batch = batch
    heldOut = ToneScenes(seed: seed, part: .heldOut).scenes(count, draw: seed)
    _ = try Vocoder(scope, configuration: configuration)
  }

  public var parameters: [Parameter] { weights.parameters }

  public var fingerprint: String { "bandwidth extension, batch \(batch)" }

  public func loss(step: Int, seed: UInt64) throws -> StageLoss {
    let difference = try difference(scenes.scenes(batch, draw: seed))
    // The spectrum's magnitudes weigh the high frequencies as much as the low ones.
    let magnitude = try difference.flatten(from: 0, through: 1)
      .shortTimeFourier(
        size: 512, hop: 256, window: MelFilters.hannWindow(512), complex: true
      ).abs()
    return StageLoss(try difference.square().mean() * 1000 + magnitude.square().mean())
  }

  /// The extended audio minus the drawn one.
  private func difference(_ scenes: [DemoScene]) throws -> Tensor {
    let low = try ToneBatch.waveforms(
      scenes, seconds: Self.seconds, sampleRate: ToneBatch.sampleRate)
    let high = try ToneBatch.waveforms(
      scenes, seconds: Self.seconds, sampleRate: configuration.sampleRate)
    return try Vocoder(scope, configuration: configuration).extended(low) - high
  }

  public func evaluate() throws -> [StageMetric] {
    [StageMetric("held_out_difference", try difference(heldOut).abs().mean().item())]
  }
}
