import Foundation
import NN
import Support
import TensorFiles
import Testing
import Torch

@testable import LTX

@Suite struct AudioTests {
  /// Random weights as a checkpoint.
  private final class Drawn: TensorSource {
    let name = "drawn"
    let tensors: [String: Tensor]
    let metadata: [String: String] = [:]

    init(_ drawn: RandomWeights.Drawn) {
      tensors = Dictionary(uniqueKeysWithValues: drawn.tensors.map { ($0.key, $0.tensor) })
    }

    var entries: [String: TensorEntry] {
      tensors.mapValues { TensorEntry(dtype: $0.dtype, shape: $0.shape, range: 0..<0) }
    }

    func tensor(_ key: String) throws -> Tensor { try #require(tensors[key]) }
  }

  private static let config = """
    {"audio_vae": \(TinyAudioVAE().config), "vocoder": \(TinyVocoder.config)}
    """

  private static func configuration(_ json: String = config) throws -> Configuration {
    try Configuration(json: json, file: "test")
  }

  private let encoder: AudioEncoder
  private let decoder: AudioDecoder

  init() throws {
    let drawn = RandomWeights.Drawn(try Generator(seed: 3))
    try TinyAudioVAE().draw(RandomWeights(into: drawn) / "audio_vae", .ltx2)
    let w = Weights(Drawn(drawn), LoadPolicy(dtype: .float32)) / "audio_vae"
    let configuration = try AudioVAEConfiguration(Self.configuration())
    encoder = try AudioEncoder(w, configuration: configuration)
    decoder = try AudioDecoder(w, configuration: configuration)
    #expect(w.unusedKeys == [])
  }

  private func sine(_ frequency: Double, samples: Int, rate: Int) throws -> Tensor {
    let seconds = try Tensor.arange(to: Scalar(samples), dtype: .float64) / Double(rate)
    return try (seconds * (2 * Double.pi * frequency)).sin().to(.float32).reshape([1, 1, samples])
  }

  @Test func aLatentHasTheSizesOfTheModel() throws {
    let audio = try Tensor.cat(
      [sine(300, samples: 8000, rate: 16000), sine(2000, samples: 8000, rate: 16000)], 1)
    let mel = try encoder.spectrogram(audio, sampleRate: 16000)
    #expect(mel.shape == [1, 2, 51, 64])
    // The tones are at the positions of Slaney's scale: 4.5 and 25.1 of 45.2 mels, in 65 steps.
    let loudest: [Int] = try mel.mean([2]).argmax(-1).array()
    #expect(loudest == [5, 35])
    let latent = try encoder.encode(mel)
    #expect(latent.shape == [1, 2, 13, 16])
    let back = try decoder(latent)
    #expect(back.shape == [1, 2, 49, 64])
    #expect(try back.isFinite().all().item() == 1)
    #expect(try decoder(latent.slice(2, to: 1)).shape == [1, 2, 1, 64])
    let tokens = encoder.configuration.tokens
    #expect(tokens.rate == 25 && encoder.configuration.frequencyBins == 16)
  }

  @Test func earlierLatentsDoNotSeeLaterAudio() throws {
    let generator = try Generator(seed: 1)
    let mel = try generator.normal([1, 2, 40, 64])
    let changed = try Tensor.cat([mel.slice(2, to: 20), generator.normal([1, 2, 20, 64])], 2)
    let (a, b) = (try encoder.encode(mel), try encoder.encode(changed))
    #expect(try Tensor.isEqual(a.slice(2, to: 5), b.slice(2, to: 5)))
    #expect(try !Tensor.isEqual(a.slice(2, from: 6), b.slice(2, from: 6)))
  }

  @Test func monoIsTakenForBothChannels() throws {
    let mono = try sine(500, samples: 4000, rate: 16000)
    let mel = try encoder.spectrogram(mono, sampleRate: 16000)
    #expect(mel.shape == [1, 2, 26, 64])
    let both = try encoder.spectrogram(mono.repeated([1, 2, 1]), sampleRate: 16000)
    #expect(try Tensor.isEqual(mel.slice(1, to: 1), mel.slice(1, from: 1)))
    // The products differ in their numbers of rows, and libraries round some rows differently.
    // Levels are compared, because a logarithm is unbounded near silence.
    let (one, two) = (try mel.exp(), try both.exp())
    #expect(try (one - two).abs().max().item() <= 1e-6 * one.max().item())
  }

  // 16001 and 48001 have no common divisor with 16000, so that filters are computed separately.
  @Test(arguments: [44100, 48000, 22050, 8000, 16001, 48001])
  func aToneKeepsItsPitchWhenResampled(rate: Int) throws {
    let audio = try sine(440, samples: rate / 2, rate: rate)
    let got = try SincResampler.resample(audio, from: rate, to: 16000)
    #expect(abs(got.size(2) - 8000) <= 1)
    let want = try sine(440, samples: got.size(2), rate: 16000)
    let error = try (got - want).slice(2, from: 200, to: 7800).abs().max().item()
    #expect(error < 2e-3)
  }

  @Test func bothWaysOfResamplingAgree() throws {
    // Just above and below the size at which one table of filters becomes too large.
    let audio = try Generator(seed: 2).normal([2, 2, 6000])
    for (old, new) in [(2893, 2896), (2897, 2898), (1, 3), (3, 1)] {
      let a = try SincResampler.resample(audio, from: old, to: new)
      let b = try SincResampler.resample(audio, from: old, to: new, largestTable: 0)
      #expect(a.shape == b.shape && a.size(2) == (6000 * new + old - 1) / old)
      #expect(try (a - b).abs().max().item() < 2e-5)
    }
  }

  @Test func vocodersMakeAudioOfTheRightLength() throws {
    let generator = try Generator(seed: 5)
    let mel = try generator.normal([1, 2, 11, 64]) - 4
    for (config, factor, draw) in [
      (Self.config, 240, TinyVocoder.draw),
      (
        "{\"vocoder\": \(TinyBandwidthExtendingVocoder().config)}", 480,
        TinyBandwidthExtendingVocoder().draw
      ),
    ] {
      let drawn = RandomWeights.Drawn(generator)
      try draw(RandomWeights(into: drawn) / "vocoder")
      let w = Weights(Drawn(drawn), LoadPolicy(dtype: .float32)) / "vocoder"
      let vocoder = try Vocoder(w, configuration: VocoderConfiguration(Self.configuration(config)))
      #expect(vocoder.sampleRate == factor * 100 && vocoder.melBins == 64)
      #expect(w.unusedKeys.allSatisfy { $0.hasSuffix("inverse_basis") })
      let audio = try vocoder(mel)
      #expect(audio.shape == [1, 2, 11 * factor])
      let (loudness, peak) = (try audio.square().mean().item(), try audio.abs().max().item())
      #expect(loudness > 1e-4 && loudness < 0.7 && peak <= 1)
      // Only a few samples reach the ends of the range.
      #expect(try audio.abs().greaterOrEqual(to: 1).to(.float32).mean().item() < 0.2)
      #expect(throws: Support.Issue.self) { try vocoder(mel.slice(3, to: 32)) }
    }
  }

  @Test func mismatchedInputsAreReported() throws {
    let audio = try Tensor.zeros([1, 2, 4000])
    for rate in [0, -1] {
      let error = #expect(throws: Support.Issue.self) { try encoder(audio, sampleRate: rate) }
      #expect(error?.subject == ["sampleRate"])
    }
    let empty = #expect(throws: Support.Issue.self) {
      try encoder(audio.slice(2, to: 0), sampleRate: 16000)
    }
    #expect(empty?.problem.contains("at least 513") == true)
    let short = #expect(throws: Support.Issue.self) {
      try encoder(audio.slice(2, to: 1536), sampleRate: 48000)
    }
    #expect(short?.problem.contains("at least 1537") == true)
    #expect(throws: Never.self) { try encoder(audio.slice(2, to: 1537), sampleRate: 48000) }
    #expect(throws: Support.Issue.self) {
      try encoder(audio.repeated([1, 2, 1]), sampleRate: 16000)
    }
    #expect(throws: Support.Issue.self) { try encoder.encode(Tensor.zeros([1, 2, 8, 63])) }
    let error = #expect(throws: Support.Issue.self) { try decoder(Tensor.zeros([1, 2, 3, 15])) }
    #expect(error?.description.contains("[1, 2, 3, 15]") == true)
  }

  @Test(arguments: [
    ("\"z_channels\": 2", "\"z_channels\": 3", "ddconfig.ch"),
    ("\"pixel\"", "\"batch\"", "ddconfig.norm_type"),
    ("\"pixel\"", "\"group\"", "ddconfig.norm_type"),
    ("\"height\"", "\"depth\"", "ddconfig.causality_axis"),
    ("\"double_z\": true", "\"double_z\": false", "ddconfig.double_z"),
    ("\"resblock\": \"1\"", "\"resblock\": \"2\"", "vocoder.resblock"),
    ("\"stereo\": true\n", "\"stereo\": false\n", "vocoder.stereo"),
    ("[3, 7, 11]", "[3, 6, 11]", "vocoder.resblock_kernel_sizes"),
    ("[16, 15, 8, 4, 4]", "[16, 15, 8, 4]", "vocoder.upsample_kernel_sizes"),
  ])
  func aConfigurationThatIsNotSupportedNamesItsKey(change: (String, String, String)) throws {
    let json = Self.config.replacingOccurrences(of: change.0, with: change.1)
    #expect(json != Self.config)
    let config = try Self.configuration(json)
    let error = #expect(throws: Support.Issue.self) {
      _ = try AudioVAEConfiguration(config)
      _ = try VocoderConfiguration(config)
    }
    #expect(
      error?.subject.pathDescription.hasSuffix(change.2) == true, "\(String(describing: error))")
  }

  /// Axes, norms and attention that published checkpoints don't use: the sizes match, and every
  /// weight is used.
  @Test(arguments: ["null", "\"width\"", "\"width-compatibility\""])
  func otherVariantsHaveTheirSizes(axis: String) throws {
    let json = Self.config.replacingOccurrences(of: "\"height\"", with: axis)
      .replacingOccurrences(of: "\"attn_resolutions\": []", with: "\"attn_resolutions\": [64]")
      .replacingOccurrences(
        of: "\"mid_block_add_attention\": false", with: "\"mid_block_add_attention\": true")
    let configuration = try AudioVAEConfiguration(Self.configuration(json))
    let generator = try Generator(seed: 8)
    let drawn = RandomWeights.Drawn(generator)
    let root = RandomWeights(into: drawn) / "audio_vae"
    try TinyAudioVAE().draw(root, .ltx2)
    var places = ["encoder.mid.attn_1", "decoder.mid.attn_1"]
    places +=
      (0..<2).map { "encoder.down.2.attn.\($0)" } + (0..<3).map { "decoder.up.2.attn.\($0)" }
    for place in places {
      for name in ["q", "k", "v", "proj_out"] {
        try (root / place / name).convolution(128, 128, kernel: [1, 1])
      }
    }
    let w = Weights(Drawn(drawn), LoadPolicy(dtype: .float32)) / "audio_vae"
    let encoder = try AudioEncoder(w, configuration: configuration)
    let decoder = try AudioDecoder(w, configuration: configuration)
    #expect(w.unusedKeys == [])
    let latent = try encoder.encode(generator.normal([1, 2, 24, 64]))
    #expect(latent.shape == [1, 2, 6, 16])
    let mel = try decoder(latent)
    #expect(mel.shape == [1, 2, axis == "null" ? 24 : 21, 64])
    #expect(try mel.isFinite().all().item() == 1)
  }
}
