// F mel frequencies, R frames of the longest recording, N recordings.

import Foundation
import NN
import Support
import Torch

/// Log-mel spectrograms as Whisper's encoder reads them, always in float32 (`transformers`,
/// `WhisperFeatureExtractor`).
struct LogMelFeatures: Sendable {
  let sampleRate: Int
  private let hop: Int
  private let fftLength: Int
  /// Qwen2.5-Omni: the number of samples that are heard; longer recordings are cut, and shorter
  /// ones continue in silence.
  private let limit: Int?
  /// [fftLength], periodic Hann
  private let window: Tensor
  /// [fftLength / 2 + 1, F]
  private let filters: Tensor

  /// - Parameter c: `preprocessor_config.json`.
  /// - Throws: `Issue` for a value of the wrong type, invalid, or not supported.
  init(_ c: Configuration, family: QwenOmniFamily) throws {
    sampleRate = try c.positive("sampling_rate", default: 16_000)
    hop = try c.positive("hop_length", default: 160, upTo: 1 << 16)
    fftLength = try c.positive("n_fft", default: 400, upTo: 1 << 16)
    guard sampleRate == Self.supportedRate else {
      throw c.error("sampling_rate", "is \(sampleRate); only \(Self.supportedRate) is supported")
    }
    guard fftLength.isMultiple(of: 2) else {
      throw c.error("n_fft", "is \(fftLength); only even lengths are supported")
    }
    guard try c.double("dither", default: 0) == 0 else {
      throw c.error("dither", "is not 0; noise is not supported")
    }
    limit =
      family == .qwen25
      ? try c.positive("chunk_length", default: 300, upTo: 3600) * sampleRate : nil
    window = try MelFilters.hannWindow(fftLength)
    filters = try MelFilters.slaney(
      sampleRate: sampleRate, fftLength: fftLength,
      melBins: c.positive("feature_size", default: 128, upTo: 4096), precision: .float64)
  }

  static let supportedRate = 16_000

  /// The seconds of a recording that are heard; nil for all.
  var heardSeconds: Int? { limit.map { $0 / sampleRate } }

  /// - Parameter recordings: Mono samples, -1 to 1, at the sample rate.
  /// - Returns: The spectrograms, [N, F, R], 0 behind the end of each recording, and the number of
  ///   frames of each.
  /// - Throws: `Issue` for a recording that is too short.
  func callAsFunction(_ recordings: [[Float]]) throws -> (features: Tensor, frames: [Int]) {
    let longest = recordings.reduce(0) { max($0, $1.count) }
    // The length of the signals that transformers processes.
    let length = limit ?? longest
    let counts = recordings.map { samples in
      min((min(samples.count, length) + hop - 1) / hop, length / hop)
    }
    let most = counts.reduce(0, max)
    guard most > 0, length > fftLength / 2 else {
      throw Issue(
        ["audio"], "has \(longest) samples (expected more than \(max(hop - 1, fftLength / 2)))",
        suggestion: "Leave out so short a recording, or add silence at its end.")
    }
    let features = try zip(recordings, counts).map { samples, count in
      let spectrogram = try spectrogram(samples, length: length).narrow(1, 0, count)
      return try spectrogram.pad([0, most - count])
    }
    return (try Tensor.stack(features), counts)
  }

  /// The spectrogram of a recording that continues in silence up to `length` samples.
  ///
  /// - Returns: [F, at least the recording's frames]
  private func spectrogram(_ samples: [Float], length: Int) throws -> Tensor {
    // Frames of nothing but silence are not computed: they have the value of the floor, which is
    // below any other. A window begins half its length before the time of its frame.
    let heard = min(samples.count, length)
    let needed = min(length, (heard + hop - 1) / hop * hop + (fftLength / hop + 2) * hop)
    let signal = try Tensor(Array(samples.prefix(heard))).pad([0, needed - heard])
    let magnitude = try signal.shortTimeFourier(
      size: fftLength, hop: hop, window: window, complex: true
    ).abs()
    // The last frame lies at the end of the signal.
    let power = try magnitude.narrow(1, 0, needed / hop).square()
    let mel = try filters.transpose(0, 1).matmul(power).clamped(min: 1e-10).log() / log(10.0)
    let floor = try mel.max().item() - Self.range
    return try (mel.clamped(min: Scalar(floor)) + 4) / 4
  }

  /// The distance between the loudest and the quietest value, as a power of ten.
  private static let range = 8.0
}
