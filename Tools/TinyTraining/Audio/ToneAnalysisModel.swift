// B clips, T frames of the spectrogram, P partials.

import DemoData
import LTX
import NN
import Support
import Torch

/// The vocoder's analysis in training: pitch and amplitudes of the partials from the spectrogram.
public final class ToneAnalysisModel: StageModel {
  public let weights: TrainableWeights
  private let configuration: VocoderConfiguration
  private let scope: Weights
  private let logMel: LogMelSpectrogram
  private let codec: AudioCodec?
  private let scenes: ToneScenes
  private let batch: Int
  private let heldOut: ToneBatch

  /// - Parameters:
  ///   - initial: All tensors of the vocoder.
  ///   - codec: The audio VAE that half of the spectrograms go through; nil for none.
  ///   - batch: The clips of a step.
  public init(
    _ initial: [(key: String, tensor: Tensor)], codec: AudioCodec?, seed: UInt64, batch: Int = 16,
    heldOut count: Int = 32
  ) throws {
    let prefix = Checkpoint.Prefix.vocoder
    weights = try TrainableWeights(initial, config: OscillatorVocoder.config, scope: prefix) {
      !OscillatorVocoder.isAnalysis(String($0.dropFirst(prefix.count + 1)))
    }
    configuration = try VocoderConfiguration(weights.configuration)
    scope = weights.root / prefix
    logMel = try LogMelSpectrogram(
      AudioVAEConfiguration(Configuration(json: AudioVAEModel.config, file: "audio VAE")))
    self.codec = codec
    scenes = ToneScenes(seed: seed)
    self.batch = batch
    heldOut = try ToneBatch(ToneScenes(seed: seed, part: .heldOut).scenes(count, draw: seed))
    // Reads the tensors, which makes them parameters.
    _ = try Vocoder(scope, configuration: configuration)
  }

  public var parameters: [Parameter] { weights.parameters }

  public var fingerprint: String {
    "tone analysis, batch \(batch), \(codec.map(\.description) ?? "drawn audio")"
  }

  /// The lengths of clips in seconds; most have that of the world's clips.
  private static let lengths = [
    DemoScene.seconds, DemoScene.seconds, DemoScene.seconds, 0.6, DemoScene.seconds, 1.7,
  ]

  public func loss(step: Int, seed: UInt64) throws -> StageLoss {
    let generator = try Generator(seed: seed)
    let seconds = Self.lengths[step % Self.lengths.count]
    let count = max(1, Int((Double(batch) * DemoScene.seconds / seconds).rounded()))
    let tones = try ToneBatch(scenes.scenes(count, draw: seed), seconds: seconds)
    let mel = try withoutGrad {
      let mel = try logMel(tones.noisyWaveforms(generator), sampleRate: ToneBatch.sampleRate)
      guard let codec else { return mel }
      let part = count / 2
      return try Tensor.cat(
        [codec.decoded(mel.narrow(0, 0, part), generator), mel.narrow(0, part, count - part)], 0)
    }
    let error = try error(of: mel, tones)
    return StageLoss(
      try error.pitch.mean() * 3 + error.amplitudes * 10,
      parts: [("pitch", try error.pitch.mean()), ("amplitudes", error.amplitudes)])
  }

  /// - Returns: The relative errors of the pitch [B, T], less where the tone is silent, and the mean
  ///   error of the amplitudes.
  private func error(
    of mel: Tensor, _ tones: ToneBatch
  ) throws -> (pitch: Tensor, amplitudes: Tensor) {
    let (pitch, wanted) = try withoutGrad {
      (try tones.frequencies(), try TonePartials.amplitudes(tones))
    }
    let output = try analysis(mel)
    let amplitudes = try (output.amplitudes * (2 * OscillatorVocoder.Output.amplitudeUnit)).sin()
    let loudness = try wanted.select(1, 0).sum([1]).clamped(max: 0.1) * 10
    return (
      try (output.pitch / pitch - 1).abs() * loudness,
      try (amplitudes - wanted).abs().mean()
    )
  }

  /// The analysis' output.
  ///
  /// - Returns: The pitch in hertz [B, T], and the amplitudes [B, P, 2, T] in their unit.
  private func analysis(_ mel: Tensor) throws -> (pitch: Tensor, amplitudes: Tensor) {
    // Snakes compute their parameters from the trained logarithms when they are built.
    let features = try Vocoder(scope, configuration: configuration).features(mel, stages: 1)
    let readout = scope / "vocoder" / "ups" / 1
    let x = try features.convTransposed1d(readout.tensor("weight"), readout.tensor("bias"))
    let perFrame = Double.pi * Double(ToneBatch.hop) / Double(ToneBatch.sampleRate)
    let pitch =
      try x.select(1, OscillatorVocoder.Output.pitch)
      * (OscillatorVocoder.Output.pitchUnit / perFrame)
    let amplitudes = try x.narrow(1, OscillatorVocoder.Output.amplitudes, Synthesizer.thetas)
      .unflatten(1, [TonePartials.ratios.count, 2])
    return (pitch, amplitudes)
  }

  public func evaluate() throws -> [StageMetric] {
    let mel = try logMel(heldOut.waveforms, sampleRate: ToneBatch.sampleRate)
    var metrics = try metrics("", mel)
    if let codec { metrics += try self.metrics("decoded_", codec.decoded(mel, nil)) }
    return metrics
  }

  private func metrics(_ prefix: String, _ mel: Tensor) throws -> [StageMetric] {
    let error = try error(of: mel, heldOut)
    let pitch = try analysis(mel).pitch
    let isLoud = try TonePartials.amplitudes(heldOut).select(1, 0).sum([1]).greater(than: 0.03)
    let relative = try (pitch / heldOut.frequencies() - 1).abs().maskedSelect(isLoud)
    let isRight = try relative.less(than: 0.029).to(.float32)
    return [
      StageMetric("\(prefix)pitch_error", try relative.mean().item()),
      StageMetric("\(prefix)pitch_right", try isRight.mean().item()),
      StageMetric("\(prefix)amplitude_error", try error.amplitudes.item()),
    ]
  }
}

/// An audio VAE from a file, for spectrograms like those that generated latents decode to.
public struct AudioCodec {
  private let encoder: AudioEncoder
  private let decoder: AudioDecoder
  public let description: String

  public init(path: String) throws {
    let checkpoint = try Checkpoint(path: path)
    encoder = try checkpoint.audioEncoder(dtype: .float32)
    decoder = try checkpoint.audioDecoder(dtype: .float32)
    description = "audio VAE \(try SHA256.hex(ofFile: path).prefix(16))"
  }

  /// A spectrogram after encoding and decoding.
  ///
  /// - Parameter generator: Adds noise to the latents, as in the VAE's training; nil for none.
  func decoded(_ mel: Tensor, _ generator: Generator?) throws -> Tensor {
    let latent = try encoder.encode(mel)
    guard let generator else { return try fitted(decoder(latent), mel) }
    let level = try generator.uniform([mel.size(0), 1, 1, 1]) * AudioVAEModel.noise
    return try fitted(decoder(latent + generator.normal(latent.shape) * level), mel)
  }

  /// A latent may decode to a few frames more or fewer than were encoded. Missing ones are taken
  /// from the original.
  private func fitted(_ decoded: Tensor, _ mel: Tensor) throws -> Tensor {
    let missing = mel.size(2) - decoded.size(2)
    guard missing > 0 else { return try decoded.narrow(2, 0, mel.size(2)) }
    return try Tensor.cat([decoded, mel.narrow(2, decoded.size(2), missing)], 2)
  }
}
