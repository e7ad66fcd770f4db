/// Sound, spectrograms or latents that the audio models can't take as they are.
public enum AudioError: Error, Equatable, CustomStringConvertible, Sendable {
  /// `expected` in words; `found` is the shape that was given.
  case shape(expected: String, found: [Int])
  case sampleRate(Int)
  /// Sound that is shorter than the spectrogram's window reaches.
  case tooShort(samples: Int, sampleRate: Int, minimum: Int)

  public var description: String {
    switch self {
    case .shape(let expected, let found):
      return "expected \(expected), but the shape is \(found)"
    case .sampleRate(let rate):
      return
        "a sample rate of \(rate) is not possible; it must be from 1 to \(SincResampler.highestRate) samples per second"
    case .tooShort(let samples, let rate, let minimum):
      return
        "sound of \(samples) samples at \(rate) samples per second is too short for a spectrogram; give at least "
        + "\(minimum) samples, or make it longer with silence"
    }
  }
}
