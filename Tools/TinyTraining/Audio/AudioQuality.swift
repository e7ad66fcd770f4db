// B clips, N samples, T frames of a spectrum, P partials.

import DemoData
import DemoJudges
import Foundation
import LTX
import Media
import NN
import Support
import Torch

/// Measures decoded audio of held-out scenes, with the models that generation uses.
public struct AudioQuality {
  private let encoder: AudioEncoder
  private let decoder: AudioDecoder
  private let vocoder: Vocoder
  private let scenes: [DemoScene]

  /// - Parameters:
  ///   - audioVAE, vocoder: The files of the components.
  ///   - clips: The number of held-out scenes.
  public init(audioVAE: String, vocoder: String, clips: Int = 60, seed: UInt64 = 1) throws {
    let checkpoint = try Checkpoint(path: audioVAE)
    encoder = try checkpoint.audioEncoder(dtype: .float32)
    decoder = try checkpoint.audioDecoder(dtype: .float32)
    self.vocoder = try Checkpoint(path: vocoder).vocoder()
    scenes = ToneScenes(seed: seed, part: .heldOut).scenes(clips, draw: seed)
  }

  /// The metrics of the vocoder on the spectrograms of drawn audio, and of VAE and vocoder.
  public func measure() throws -> [StageMetric] {
    try withoutGrad {
      var direct = Totals()
      var decoded = Totals()
      var spectrum = 0.0
      for first in stride(from: 0, to: scenes.count, by: 8) {
        let part = Array(scenes[first..<min(first + 8, scenes.count)])
        let (mel, reconstruction) = try spectrograms(part)
        spectrum += try (mel - reconstruction).abs().mean().item() * Double(part.count)
        try direct.add(part, audio: vocoder(mel), rate: vocoder.sampleRate)
        try decoded.add(part, audio: vocoder(reconstruction), rate: vocoder.sampleRate)
      }
      return [StageMetric("spectrogram_error", spectrum / Double(scenes.count))]
        + direct.metrics("vocoder_") + decoded.metrics("both_")
    }
  }

  private func spectrograms(_ scenes: [DemoScene]) throws -> (mel: Tensor, decoded: Tensor) {
    let rate = DemoScene.sampleRate
    let mel = try encoder.spectrogram(
      ToneBatch.waveforms(scenes, sampleRate: rate), sampleRate: rate)
    return (mel, try decoder(encoder.encode(mel)).narrow(2, 0, mel.size(2)))
  }

  /// Writes WAV files of drawn audio and of what VAE and vocoder make of it.
  ///
  /// - Parameter clips: The number of scenes of each style.
  public func writeSamples(_ clips: Int = 2, to folder: String) throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for style in DemoScene.Style.allCases {
      let chosen = scenes.filter { $0.style == style }.prefix(clips)
      for (number, scene) in chosen.enumerated() {
        let name = "\(folder)/\(style.rawValue)-\(scene.size.rawValue)-\(scene.direction.rawValue)"
        let audio = try withoutGrad { try vocoder(spectrograms([scene]).decoded) }
        let rate = DemoScene.sampleRate
        try WAVWriter.write(scene.audio(), sampleRate: rate, to: "\(name)-\(number)-drawn.wav")
        try WAVWriter.write(
          Self.channels(audio.select(0, 0)), sampleRate: rate, to: "\(name)-\(number).wav")
      }
    }
  }

  /// - Parameter audio: [2, N]
  fileprivate static func channels(_ audio: Tensor) throws -> [[Float]] {
    try (0..<audio.size(0)).map { try audio.select(0, $0).contiguous().array() }
  }
}

/// Sums over clips.
private struct Totals {
  private var clips = 0.0
  private var (rightFrames, frames, cents) = (0.0, 0.0, 0.0)
  private var (registers, contours, timbres) = (0.0, 0.0, 0.0)
  private var (envelopeError, envelope) = (0.0, 0.0)
  private var (noise, energy) = (0.0, 0.0)

  /// - Parameter audio: [B, 2, N] at `rate`.
  mutating func add(_ scenes: [DemoScene], audio: Tensor, rate: Int) throws {
    let tones = try ToneBatch(scenes)
    let low = try SincResampler.resample(audio, from: rate, to: ToneBatch.sampleRate)
      .narrow(2, 0, tones.sampleCount)
    try addPitch(low, tones)
    try addTimbre(low, tones)
    try addEnvelope(low, tones)
    for (index, scene) in scenes.enumerated() {
      let verdict = try AudioVerdict(
        channels: AudioQuality.channels(audio.select(0, index)), sampleRate: rate)
      clips += 1
      if verdict.register == scene.register { registers += 1 }
      if verdict.contour == scene.contour { contours += 1 }
    }
  }

  private static let window = 1024
  private static let binWidth = Double(ToneBatch.sampleRate) / Double(window)

  /// The magnitudes of the sum of both channels: [B][T][frequencies].
  private static func spectra(_ audio: Tensor) throws -> [[[Float]]] {
    let spectrum = try audio.sum([1]).shortTimeFourier(
      size: window, hop: ToneBatch.hop, window: MelFilters.hannWindow(window), complex: true
    ).abs().transpose(1, 2)
    let (clips, frames) = (spectrum.size(0), spectrum.size(1))
    return try (0..<clips).map { clip in
      try (0..<frames).map { try spectrum.select(0, clip).select(0, $0).contiguous().array() }
    }
  }

  /// Compares the strongest frequency of each frame, which is the fundamental in all timbres, and
  /// adds up the energy between the partials.
  private mutating func addPitch(_ audio: Tensor, _ tones: ToneBatch) throws {
    let own = try Self.spectra(audio)
    let drawn = try Self.spectra(tones.waveforms)
    for (clip, scene) in tones.scenes.enumerated() {
      let loudest = drawn[clip].map { $0.max() ?? 0 }.max() ?? 0
      for (frame, spectrum) in own[clip].enumerated() {
        guard let peak = drawn[clip][frame].max(), peak > loudest / 30 else { continue }
        let time = Double(frame * ToneBatch.hop) / Double(tones.sampleCount)
        let wanted = scene.frequency(at: min(1, time))
        let difference = abs(1200 * log2(Self.strongest(spectrum) / wanted))
        frames += 1
        cents += min(difference, 1200)
        if difference < 50 { rightFrames += 1 }
        let partials = TonePartials.indices(scene.style).map {
          TonePartials.ratios[$0] * wanted / Self.binWidth
        }
        for (bin, level) in spectrum.enumerated() {
          let power = Double(level * level)
          energy += power
          if !partials.contains(where: { abs($0 - Double(bin)) < 5 }) { noise += power }
        }
      }
    }
  }

  /// The strongest frequency between 140 and 950 Hz, between bins by a parabola.
  private static func strongest(_ spectrum: [Float]) -> Double {
    let bins = 9..<61
    guard let peak = bins.max(by: { spectrum[$0] < spectrum[$1] }) else { return 1 }
    let levels = (-1...1).map { log(Double(spectrum[peak + $0]) + 1e-9) }
    let curvature = levels[0] - 2 * levels[1] + levels[2]
    let offset = curvature < 0 ? (levels[0] - levels[2]) / (2 * curvature) : 0
    return (Double(peak) + min(1, max(-1, offset))) * binWidth
  }

  /// Finds the style whose partials are most like those of the audio.
  private mutating func addTimbre(_ audio: Tensor, _ tones: ToneBatch) throws {
    let ratios = try Tensor(TonePartials.ratios, shape: [1, TonePartials.ratios.count, 1])
    let cycles = try tones.cycles().unsqueeze(1) * ratios
    func profile(_ audio: Tensor) throws -> Tensor {
      let sum = try TonePartials.amplitudes(audio, cycles: cycles, frames: tones.frameCount)
        .sum([2, 3])
      return try sum / sum.sum([1], keepdim: true).clamped(min: 1e-6)
    }
    let own = try profile(audio)
    let distances: [[Float]] = try DemoScene.Style.allCases.map { style -> [Float] in
      var scenes = tones.scenes
      for index in scenes.indices { scenes[index].style = style }
      return try (profile(ToneBatch(scenes).waveforms) - own).abs().sum([1]).array()
    }
    for (clip, scene) in tones.scenes.enumerated() {
      let nearest = distances.indices.min { distances[$0][clip] < distances[$1][clip] }
      if nearest.map({ DemoScene.Style.allCases[$0] }) == scene.style { timbres += 1 }
    }
  }

  /// Compares the levels of both channels in windows of 20 ms.
  private mutating func addEnvelope(_ audio: Tensor, _ tones: ToneBatch) throws {
    let window = 2 * ToneBatch.hop
    func levels(_ audio: Tensor) throws -> Tensor {
      let count = audio.size(2) / window
      return try audio.narrow(2, 0, count * window).unflatten(2, [count, window]).square()
        .mean([3]).sqrt()
    }
    let (own, drawn) = (try levels(audio), try levels(tones.waveforms))
    envelopeError += try (own - drawn).abs().sum().item()
    envelope += try drawn.sum().item()
  }

  func metrics(_ prefix: String) -> [StageMetric] {
    [
      ("pitch_right", rightFrames / frames), ("cents", cents / frames),
      ("register_right", registers / clips), ("contour_right", contours / clips),
      ("timbre_right", timbres / clips), ("envelope_error", envelopeError / envelope),
      ("noise_decibels", 10 * log10(noise / energy)),
    ].map { StageMetric(prefix + $0.0, $0.1) }
  }
}
