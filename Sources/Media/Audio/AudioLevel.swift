import CFFmpeg
import Foundation

/// The loudness of an audio track.
public struct AudioLevel: Equatable, Sendable {
  /// The integrated loudness by ITU-R BS.1770-4 in LUFS; nil for less than 0.4 s, or if all audio
  /// is below -70 LUFS.
  public let loudness: Double?
  /// The largest sample in dB of full scale, without interpolation; nil for digital silence.
  public let peak: Double?

  /// Measures the first audio stream of a file from start to end.
  ///
  /// - Throws: `MediaError` for a file without audio (`.noStream`) or one that can't be decoded.
  public static func measure(path: String) throws -> AudioLevel {
    let reader = try AudioReader(path: path)
    var meter = LoudnessMeter(sampleRate: reader.sampleRate, weights: reader.loudnessWeights)
    while let chunk = try reader.next() { meter.append(chunk.channels) }
    return meter.level
  }
}

/// The meter of ITU-R BS.1770-4. Each channel passes through the standard's two filters; power is
/// averaged over blocks of 400 ms that overlap by three quarters. Quiet blocks are dropped: first
/// those below -70 LUFS, then those more than 10 LU below the mean of the rest.
public struct LoudnessMeter {
  /// A second-order filter with a0 = 1.
  private struct Section {
    var (b0, b1, b2, a1, a2) = (1.0, 0.0, 0.0, 0.0, 0.0)

    /// The standard specifies its two filters for 48 kHz; these are the underlying analog filters,
    /// transformed to the sample rate (bilinear, with prewarping).
    static func shelf(_ rate: Double) -> Section {
      let (frequency, gain, q) = (1681.974450955533, 3.999843853973347, 0.7071752369554196)
      let k = tan(.pi * frequency / rate)
      let high = pow(10, gain / 20)
      let band = pow(high, 0.4996667741545416)
      let a0 = 1 + k / q + k * k
      return Section(
        b0: (high + band * k / q + k * k) / a0, b1: 2 * (k * k - high) / a0,
        b2: (high - band * k / q + k * k) / a0, a1: 2 * (k * k - 1) / a0,
        a2: (1 - k / q + k * k) / a0)
    }

    static func highPass(_ rate: Double) -> Section {
      let (frequency, q) = (38.13547087602444, 0.5003270373238773)
      let k = tan(.pi * frequency / rate)
      let a0 = 1 + k / q + k * k
      // Like the table in the standard, this is not divided by a0.
      return Section(b0: 1, b1: -2, b2: 1, a1: 2 * (k * k - 1) / a0, a2: (1 - k / q + k * k) / a0)
    }
  }

  private let sections: [Section]
  private let weights: [Double]
  /// The number of samples in a quarter of a block.
  private let quarter: Int
  /// [channel]: two values per section.
  private var states: [[Double]]
  private var power = 0.0
  private var filled = 0
  /// The weighted mean power of each quarter.
  private var quarters: [Double] = []
  private var largest: Float = 0

  /// - Parameter channelCount: The number of channels, in FFmpeg's default layout for it: mono,
  ///   stereo, 2.1, 4.0, 5.0, 5.1, …
  public init(sampleRate: Int, channelCount: Int) {
    var layout = AVChannelLayout()
    av_channel_layout_default(&layout, Int32(channelCount))
    defer { av_channel_layout_uninit(&layout) }
    self.init(sampleRate: sampleRate, weights: Self.weights(of: layout))
  }

  /// The weight of each channel in the sum of powers: 0 for low frequencies, 1.41 beside and behind
  /// the listener, 1 otherwise.
  static func weights(of layout: AVChannelLayout) -> [Double] {
    var layout = layout
    var usual = AVChannelLayout()
    defer { av_channel_layout_uninit(&usual) }
    if layout.order == AV_CHANNEL_ORDER_UNSPEC {
      av_channel_layout_default(&usual, layout.nb_channels)
      layout = usual
    }
    return (0..<max(0, layout.nb_channels)).map { index in
      switch av_channel_layout_channel_from_index(&layout, UInt32(index)) {
      case AV_CHAN_LOW_FREQUENCY, AV_CHAN_LOW_FREQUENCY_2: 0
      case AV_CHAN_BACK_LEFT, AV_CHAN_BACK_CENTER, AV_CHAN_BACK_RIGHT, AV_CHAN_SIDE_LEFT,
        AV_CHAN_SIDE_RIGHT,
        AV_CHAN_TOP_BACK_LEFT, AV_CHAN_TOP_BACK_CENTER, AV_CHAN_TOP_BACK_RIGHT,
        AV_CHAN_SURROUND_DIRECT_LEFT,
        AV_CHAN_SURROUND_DIRECT_RIGHT:
        1.41
      default: 1
      }
    }
  }

  init(sampleRate: Int, weights: [Double]) {
    let rate = Double(sampleRate)
    sections = [.shelf(rate), .highPass(rate)]
    self.weights = weights
    quarter = max(1, sampleRate / 10)
    states = Array(repeating: [0, 0, 0, 0], count: weights.count)
  }

  /// - Parameter channels: [channel][sample], of equal length and with the number of channels
  ///   above.
  public mutating func append(_ channels: [[Float]]) {
    guard channels.count == weights.count, let count = channels.first?.count else { return }
    var start = 0
    while start < count {
      let end = min(count, start + quarter - filled)
      for (channel, samples) in channels.enumerated() {
        power += weights[channel] * filter(samples[start..<end], channel)
      }
      filled += end - start
      start = end
      if filled == quarter {
        quarters.append(power / Double(quarter))
        (power, filled) = (0, 0)
      }
    }
  }

  /// - Returns: The sum of squares of the filtered samples.
  private mutating func filter(_ samples: ArraySlice<Float>, _ channel: Int) -> Double {
    var (s, sum) = (
      (states[channel][0], states[channel][1], states[channel][2], states[channel][3]), 0.0
    )
    let (shelf, pass) = (sections[0], sections[1])
    samples.withUnsafeBufferPointer { samples in
      for sample in samples where sample.isFinite {
        largest = max(largest, abs(sample))
        let x = Double(sample)
        let y = shelf.b0 * x + s.0
        s.0 = shelf.b1 * x - shelf.a1 * y + s.1
        s.1 = shelf.b2 * x - shelf.a2 * y
        let z = pass.b0 * y + s.2
        s.2 = pass.b1 * y - pass.a1 * z + s.3
        s.3 = pass.b2 * y - pass.a2 * z
        sum += z * z
      }
    }
    states[channel] = [s.0, s.1, s.2, s.3]
    return sum
  }

  /// The level of everything appended so far.
  public var level: AudioLevel {
    let blocks =
      quarters.count < 4
      ? [] : (0...quarters.count - 4).map { quarters[$0..<$0 + 4].reduce(0, +) / 4 }
    let audible = blocks.filter { Self.loudness($0) > -70 }
    var loudness: Double?
    if !audible.isEmpty {
      let gate = Self.loudness(audible.reduce(0, +) / Double(audible.count)) - 10
      let kept = audible.filter { Self.loudness($0) > gate }
      loudness = kept.isEmpty ? nil : Self.loudness(kept.reduce(0, +) / Double(kept.count))
    }
    return AudioLevel(loudness: loudness, peak: largest > 0 ? 20 * log10(Double(largest)) : nil)
  }

  private static func loudness(_ power: Double) -> Double {
    power > 0 ? -0.691 + 10 * log10(power) : -.infinity
  }
}
