import DemoData
import Torch

/// The clips whose audio trains the audio VAE and the vocoder: 60 % plain, 20 % sketch, 20 % snow.
struct ToneScenes: Sendable {
  let seed: UInt64
  var part = DemoWorld.Part.training

  /// Random scenes.
  ///
  /// - Parameter draw: The seed of the choice.
  func scenes(_ count: Int, draw: UInt64) -> [DemoScene] {
    (0..<count).map { place in
      let number = RandomSeed.mix(draw, "scene", place)
      let style: DemoScene.Style =
        switch number % 5 {
        case 0: .sketch
        case 1: .snow
        default: .plain
        }
      return DemoWorld(seed: seed, style: style, part: part).scene(Int(number >> 16))
    }
  }
}

// B clips, N samples, T frames of the spectrogram.

/// The audio of scenes of equal length, at the rate of the spectrogram.
struct ToneBatch {
  static let sampleRate = 16_000
  static let hop = 160

  let scenes: [DemoScene]
  let seconds: Double
  /// [B, 2, N]
  let waveforms: Tensor

  init(_ scenes: [DemoScene], seconds: Double = DemoScene.seconds) throws {
    self.scenes = scenes
    self.seconds = seconds
    waveforms = try Self.waveforms(scenes, seconds: seconds, sampleRate: Self.sampleRate)
  }

  /// The audio of scenes at any rate: [B, 2, N].
  static func waveforms(
    _ scenes: [DemoScene], seconds: Double = DemoScene.seconds, sampleRate: Int
  ) throws -> Tensor {
    let channels = scenes.map { $0.audio(seconds: seconds, sampleRate: sampleRate) }
    let count = channels.first?.first?.count ?? 0
    return try Tensor(channels.flatMap { $0.flatMap(\.self) }, shape: [scenes.count, 2, count])
  }

  /// The number of samples of a clip.
  var sampleCount: Int { waveforms.size(2) }
  /// The number of the spectrogram's frames.
  var frameCount: Int { 1 + sampleCount / Self.hop }

  /// The fundamental frequencies in the middle of the samples that a vocoder computes from each
  /// frame: [B, T], in hertz.
  func frequencies() throws -> Tensor {
    let length = Double(sampleCount)
    let values = scenes.flatMap { scene in
      (0..<frameCount).map { frame in
        Float(scene.frequency(at: min(1, (Double(frame) + 0.5) * Double(Self.hop) / length)))
      }
    }
    return try Tensor(values, shape: [scenes.count, frameCount])
  }

  /// The cycles of the fundamental since the beginning, for each sample: [B, N], float64.
  func cycles() throws -> Tensor {
    let step = 8
    let count = sampleCount
    let values = scenes.flatMap { scene in
      var phase = 0.0
      var values: [Double] = []
      values.reserveCapacity(count)
      for first in stride(from: 0, to: count, by: step) {
        let time = (Double(first) + Double(step) / 2) / Double(count)
        let cycles = scene.frequency(at: time) / Double(Self.sampleRate)
        for _ in first..<min(count, first + step) {
          values.append(phase)
          phase += cycles
        }
      }
      return values
    }
    return try Tensor(values, shape: [scenes.count, count])
  }

  /// The waveforms with white noise, 50 to 80 dB below full scale: the level that lossy compression
  /// and generated spectrograms leave, where the drawn audio is silent.
  func noisyWaveforms(_ generator: Generator) throws -> Tensor {
    let levels = try generator.uniform([scenes.count, 1, 1]) * -1.5 - 2.5
    return try waveforms + generator.normal(waveforms.shape) * Tensor.pow(10, levels)
  }
}
