import Foundation

/// The level of samples over all channels, used to detect silence.
public struct SampleLevel: Equatable, Sendable {
  /// The largest sample, in dB of full scale; minus infinity for digital silence.
  public let peak: Double
  /// The root mean square, in dB of full scale; minus infinity for digital silence.
  public let rms: Double

  /// The RMS level, in dB of full scale, below which audio is silent: below the noise of a quiet
  /// room in a recording, and well above the rounding noise of 16 bits.
  public static let silence = -70.0

  public init(peak: Double, rms: Double) { (self.peak, self.rms) = (peak, rms) }

  /// - Parameter channels: [channel][sample], finite.
  public init(_ channels: [[Float]]) {
    var (largest, sum, count) = (Float(0), 0.0, 0)
    for samples in channels {
      count += samples.count
      samples.withUnsafeBufferPointer { samples in
        for sample in samples {
          largest = max(largest, abs(sample))
          sum += Double(sample) * Double(sample)
        }
      }
    }
    peak = largest > 0 ? 20 * log10(Double(largest)) : -.infinity
    rms = sum > 0 ? 10 * log10(sum / Double(count)) : -.infinity
  }

  /// Whether the audio is silent.
  public var isSilent: Bool { rms < Self.silence }

  /// The problem of silent audio, as a clause; nil for audio that is not silent.
  public var silenceNote: String? {
    guard isSilent else { return nil }
    return rms == -.infinity
      ? "its audio is digital silence"
      : String(format: "its audio is nearly silent (%.1f dBFS RMS)", rms)
  }
}
