import DemoData
import Foundation

/// The parameters of a clip's tone as classifiers hear them.
public struct AudioVerdict: Sendable {
  /// Nil for silence.
  public let register: DemoScene.Register?
  public let contour: DemoScene.Contour?
  /// The median of the fundamental frequency, in hertz, weighted by loudness.
  public let frequency: Double?
  /// The change of the pitch over the clip, in octaves.
  public let octaves: Double?
  /// The fundamental frequency over time. Silent parts are left out.
  public let track: [PitchTrack.Point]

  /// - Parameter channels: Samples of each channel, from -1 to 1.
  public init(channels: [[Float]], sampleRate: Int) {
    let track = PitchTrack(channels: channels, sampleRate: sampleRate).points
    self.track = track
    let loudness = track.reduce(0) { $0 + $1.level }
    guard loudness > 0, track.count > 3 else {
      (register, contour, frequency, octaves) = (nil, nil, nil, nil)
      return
    }
    var passed = 0.0
    let middle = track.sorted { $0.frequency < $1.frequency }
      .first {
        passed += $0.level
        return 2 * passed >= loudness
      }
    let frequency = middle?.frequency ?? track[0].frequency
    self.frequency = frequency
    // The limit is halfway between the two registers, in octaves.
    register = frequency > 381 ? .high : .low
    let octaves = Self.change(of: track)
    self.octaves = octaves
    contour = octaves > 0.2 ? .rising : octaves < -0.2 ? .falling : .steady
  }

  /// The difference between the median pitches of the last and the first third. The tone moves by
  /// 0.8 times the whole distance between them.
  private static func change(of track: [PitchTrack.Point]) -> Double {
    let third = max(1, track.count / 3)
    let median = { (part: ArraySlice<PitchTrack.Point>) -> Double in
      let pitches = part.map { log2($0.frequency) }.sorted()
      return pitches[pitches.count / 2]
    }
    return (median(track.suffix(third)) - median(track.prefix(third))) / 0.8
  }
}

/// The fundamental frequency of a tone over time: the strongest peak of the spectrum, or a
/// subharmonic of it that is about as strong.
public struct PitchTrack: Sendable {
  public struct Point: Sendable, Equatable {
    public let seconds: Double
    /// In hertz.
    public let frequency: Double
    public let level: Double
  }

  public let points: [Point]

  private static let lowest = 130.0
  private static let stepsPerOctave = 24.0
  private static let steps = 74  // up to 1,080 Hz
  private static let windowSeconds = 0.064
  private static let hopSeconds = 0.025

  public init(channels: [[Float]], sampleRate: Int) {
    let (samples, rate) = Self.mono(channels, sampleRate)
    let length = Int(Self.windowSeconds * rate)
    guard length > 8, samples.count >= length else {
      points = []
      return
    }
    let frequencies = (0..<Self.steps).map { Self.lowest * exp2(Double($0) / Self.stepsPerOctave) }
    let window = (0..<length).map {
      Float(0.5 - 0.5 * cos(2 * .pi * (Double($0) + 0.5) / Double(length)))
    }
    var points: [Point] = []
    for start in stride(
      from: 0, through: samples.count - length, by: max(1, Int(Self.hopSeconds * rate)))
    {
      var part = Array(samples[start..<start + length])
      for index in part.indices { part[index] *= window[index] }
      let levels = frequencies.map { Self.level(part, $0 / rate) }
      guard let frequency = Self.fundamental(levels) else { continue }
      points.append(
        Point(
          seconds: (Double(start) + Double(length) / 2) / rate, frequency: frequency,
          level: levels.max() ?? 0))
    }
    // Parts that are 40 dB below the loudest count as silence.
    let loudest = points.map(\.level).max() ?? 0
    self.points = points.filter { $0.level > loudest / 100 }
  }

  /// The mean of the channels, at a rate of about 8 kHz.
  private static func mono(_ channels: [[Float]], _ sampleRate: Int) -> ([Float], rate: Double) {
    let factor = max(1, sampleRate / 8000)
    let count = (channels.map(\.count).min() ?? 0) / factor
    var samples = [Float](repeating: 0, count: count)
    for channel in channels {
      channel.withUnsafeBufferPointer { channel in
        for index in 0..<count {
          var sum: Float = 0
          for place in index * factor..<(index + 1) * factor { sum += channel[place] }
          samples[index] += sum
        }
      }
    }
    return (samples, Double(sampleRate) / Double(factor))
  }

  /// The level of a frequency, given in cycles per sample (Goertzel's algorithm).
  private static func level(_ samples: [Float], _ frequency: Double) -> Double {
    let factor = Float(2 * cos(2 * .pi * frequency))
    var (last, before): (Float, Float) = (0, 0)
    samples.withUnsafeBufferPointer { buffer in
      guard let samples = buffer.baseAddress else { return }
      var index = 0
      while index < buffer.count {
        let next = samples[index] + factor * last - before
        before = last
        last = next
        index += 1
      }
    }
    return Double(max(0, last * last + before * before - factor * last * before)).squareRoot()
      / Double(samples.count)
  }

  private static func fundamental(_ levels: [Double]) -> Double? {
    guard var peak = levels.indices.max(by: { levels[$0] < levels[$1] }), levels[peak] > 1e-5
    else { return nil }
    // The second and third harmonic may be the stronger ones.
    for ratio in [3.0, 2.0] {
      let place = peak - Int((log2(ratio) * stepsPerOctave).rounded())
      let near = max(0, place - 1)..<max(0, min(levels.count, place + 2))
      guard let below = near.max(by: { levels[$0] < levels[$1] }),
        levels[below] > 0.7 * levels[peak]
      else { continue }
      peak = below
      break
    }
    var place = Double(peak)
    if peak > 0, peak < levels.count - 1 {
      let (left, middle, right) = (levels[peak - 1], levels[peak], levels[peak + 1])
      let curvature = left - 2 * middle + right
      if curvature < 0 { place += min(0.5, max(-0.5, (left - right) / (2 * curvature))) }
    }
    return lowest * exp2(place / stepsPerOctave)
  }
}
