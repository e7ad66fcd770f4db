// B batch, T spectrogram frames, M mel frequencies.

import NN
import Support
import Torch

/// Turns log-mel spectrograms into stereo audio: HiFi-GAN in LTX-2, BigVGAN v2 with bandwidth
/// extension in LTX-2.3. The checkpoint's configuration decides which one it is.
public struct Vocoder: Sendable {
  /// The channels of the audio: left and right.
  static let channels = 2

  public let configuration: VocoderConfiguration
  /// The number of the spectrograms' frequencies.
  public let melBins: Int
  private let generator: WaveGenerator
  private let bandwidthExtension: BandwidthExtension?

  /// - Parameter w: The scope of the vocoder. With bandwidth extension, weights must be in float32:
  ///   rounding errors accumulate over its hundred convolutions (`Checkpoint.vocoder` ensures it).
  /// - Throws: `WeightError` if the checkpoint doesn't fit the configuration.
  public init(_ w: Weights, configuration: VocoderConfiguration) throws {
    self.configuration = configuration
    let first = configuration.bandwidthExtension == nil ? w : w / "vocoder"
    // The number of frequencies isn't in the configuration.
    let shape = try (first / "conv_pre").shape(of: "weight")
    guard shape.count == 3, shape[1] > 0, shape[1].isMultiple(of: Self.channels) else {
      throw WeightError(
        file: w.file, key: "\(first.path).conv_pre.weight",
        problem: "has shape \(shape); expected [channels, \(Self.channels) x mel frequencies, 7]")
    }
    melBins = shape[1] / Self.channels
    generator = try WaveGenerator(first, inputs: shape[1], configuration: configuration.generator)
    bandwidthExtension = try configuration.bandwidthExtension.map {
      try BandwidthExtension(w, configuration: $0)
    }
    try w.requireAllUsed(except: KnowinglyUnused.vocoder)
  }

  /// The audio's samples per second.
  public var sampleRate: Int { configuration.sampleRate }

  /// - Parameter mel: A log-mel spectrogram [B, 2, T, M].
  /// - Returns: Audio [B, 2, samples] from -1 to 1, in the dtype that the vocoder computes in.
  /// - Throws: `Issue` for a spectrogram of another shape.
  public func callAsFunction(_ mel: Tensor) throws -> Tensor {
    let audio = try generator(input(mel))
    return try bandwidthExtension?(audio) ?? audio
  }

  /// The features of the first generator's first stages, for their training.
  ///
  /// - Returns: [B, C, samples at the rate of the last of these stages].
  package func features(_ mel: Tensor, stages: Int) throws -> Tensor {
    try generator.features(input(mel), stages: stages)
  }

  /// Audio of the first generator's rate at the vocoder's rate, with the frequencies that the
  /// extension adds: [B, 2, samples].
  package func extended(_ audio: Tensor) throws -> Tensor {
    try bandwidthExtension?(audio) ?? audio
  }

  /// [B, both channels' frequencies, T]
  private func input(_ mel: Tensor) throws -> Tensor {
    let shape = mel.shape
    guard shape.count == 4, shape[1] == Self.channels, shape[3] == melBins,
      shape.allSatisfy({ $0 > 0 })
    else {
      throw Issue.shape(
        "spectrogram", shape, expected: "[batch, \(Self.channels), frames, \(melBins)]")
    }
    return try mel.to(generator.device, generator.dtype).transpose(2, 3)
      .flatten(from: 1, through: 2).contiguous()
  }
}
