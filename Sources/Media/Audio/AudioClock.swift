/// Places decoded audio on the container's clock by its time stamps.
///
/// Time stamps are coarser than samples and may jitter. Audio continues seamlessly as long as its
/// time stamps deviate by no more than their resolution, or recover within 0.3 s. A lasting
/// deviation is followed: a step becomes a gap or an overlap at the sample where it happens, and
/// slow drift is followed by stretching audio by at most 0.5 %.
///
/// All positions and counts are in samples; position 0 is the clock's zero.
struct AudioClock {
  /// The placement of a frame.
  struct Placement: Equatable {
    /// The position of the first sample of the frame that is kept.
    var start: Int
    /// The samples at the frame's beginning that overlap earlier audio and are dropped; all of them
    /// for a repeated frame.
    var skip = 0
    /// The number of samples to add to the frame (or to remove, if negative) by stretching it.
    var stretch = 0
  }

  /// A discontinuity of the time stamps.
  enum Event: Equatable {
    /// The time stamps skip `count` samples at a position.
    case gap(at: Int, count: Int)
    /// The audio at a position repeats `count` samples of earlier positions.
    case overlap(at: Int, count: Int)
    /// The clock jumps back by `count` samples, too many for an overlap, and is followed from
    /// there.
    case restart(at: Int, count: Int)
  }

  private struct Frame {
    /// The number of samples before the frame.
    let raw: Int
    let count: Int
    /// The time stamp minus `raw`; nil without a time stamp.
    let offset: Double?
  }

  private let rate: Double
  /// The maximum deviation, in samples, that the resolution of the time stamps explains.
  private let resolution: Double
  private var raw = 0
  /// The position of a frame minus its `raw`.
  private var shift = 0
  private var isPlaced = false
  /// The end of the audio placed so far.
  private var end = Int.min
  /// Frames whose deviation has not been classified yet.
  private var pending: [Frame] = []
  /// The time stamps of the last half second, as raw positions and offsets.
  private var history: [(raw: Double, offset: Double)] = []
  /// The tolerance that jitter adds to `resolution`.
  private var jitter = 0.0
  private var largestJitter = 0.0
  private var isDrifting = false
  private var debt = 0.0
  /// The offset added to time stamps after the clock was restarted.
  private var rebase = 0.0
  private(set) var events: [Event] = []
  /// The number of samples added and removed by stretching, at the position of the last one.
  private(set) var drift: (added: Int, removed: Int) = (0, 0)

  /// Jumps back by more seconds than this are a new clock, not an overlap. FFmpeg has the same
  /// limit.
  private static let longestOverlap = 10.0
  /// Deviations that last this many seconds are real.
  private static let patience = 0.3
  /// The maximum time to wait for missing time stamps, in seconds.
  private static let stamplessLimit = 2.0
  /// The maximum stretching.
  private static let stretchLimit = 1.0 / 200

  /// - Parameters:
  ///   - rate: The sample rate.
  ///   - tick: The resolution of the time stamps in seconds.
  init(rate: Int, tick: Double) {
    self.rate = Double(rate)
    // Files that were remuxed from a container with millisecond time stamps keep that precision in
    // a finer unit.
    resolution = max(tick, 0.001) * Double(rate) + 2
  }

  /// The largest deviation, in seconds, of a time stamp that was considered wrong; 0 if all are
  /// within their resolution.
  var jitterSeconds: Double { largestJitter / rate }

  /// Adds a frame.
  ///
  /// - Parameter stamp: The position of its first sample; nil if the file has no time stamp.
  /// - Returns: The placements of the next frames, in order, as far as they are certain.
  mutating func add(stamp: Double?, count: Int) -> [Placement] {
    let offset = stamp.flatMap { abs($0) < 1e14 ? $0 - Double(raw) + rebase : nil }
    let frame = Frame(raw: raw, count: count, offset: offset)
    raw += count
    return take(frame)
  }

  /// - Returns: The placements of all remaining frames.
  mutating func finish() -> [Placement] {
    if !isPlaced { return begin(at: 0) }
    var placements: [Placement] = []
    while !pending.isEmpty { placements += resolve() }
    return placements
  }

  private var limit: Double { resolution + jitter }

  private mutating func begin(at offset: Double) -> [Placement] {
    (isPlaced, shift) = (true, Int(offset.rounded()))
    let frames = pending
    pending = []
    return frames.map { accept($0) }
  }

  private mutating func take(_ frame: Frame) -> [Placement] {
    guard isPlaced else {
      pending.append(frame)
      if let offset = frame.offset { return begin(at: offset) }
      return Double(raw) >= Self.stamplessLimit * rate ? begin(at: 0) : []
    }
    guard let offset = frame.offset else {
      if pending.isEmpty { return [accept(frame)] }
      pending.append(frame)
      return resolvedIfCertain()
    }
    if follows(offset) {
      // The deviating time stamps in between were wrong.
      let frames = pending.map { ($0, true) } + [(frame, false)]
      pending = []
      return frames.map { accept($0, isOutlier: $1) }
    }
    pending.append(frame)
    return resolvedIfCertain()
  }

  /// Returns whether a time stamp means that audio continues: it is near the expected position, or
  /// deviates by as much as the previous time stamps.
  private func follows(_ offset: Double) -> Bool {
    if abs(offset - Double(shift)) <= limit { return true }
    guard let last = history.last else { return false }
    return abs(offset - last.offset) <= resolution
  }

  private mutating func resolvedIfCertain() -> [Placement] {
    guard let first = pending.first else { return [] }
    let waited = Double(raw - first.raw) / rate
    let isKnown = pending.count(where: { $0.offset != nil }) >= 3
    return isKnown && waited >= Self.patience || waited >= Self.stamplessLimit ? resolve() : []
  }

  /// Places pending frames; afterwards there are fewer of them, or none.
  private mutating func resolve() -> [Placement] {
    let frames = pending
    pending = []
    let known = frames.enumerated().compactMap { index, frame in
      frame.offset.map { (index: index, deviation: $0 - Double(shift)) }
    }
    guard let first = known.first else { return frames.map { accept($0) } }
    // Several steps in sequence: missing or repeated packets.
    let steps = zip(known, known.dropFirst()).map { $1.deviation - $0.deviation }
    let rises = steps.allSatisfy { $0 >= -limit } && first.deviation > 0
    let falls = steps.allSatisfy { $0 <= limit } && first.deviation < 0
    if rises || falls {
      let level = known.prefix { abs($0.deviation - first.deviation) <= limit }
      return jump(frames, from: 0, known: level.map(\.deviation), upTo: level.last?.index ?? 0)
    }
    // One step, and a few time stamps that are clearly wrong.
    let middle = Self.median(known.map(\.deviation))
    let near = known.filter { abs($0.deviation - middle) <= limit }
    if let start = near.first?.index, abs(middle) > limit,
      4 * near.count >= 3 * (frames.count - start)
    {
      return jump(frames, from: start, known: near.map(\.deviation), upTo: frames.count - 1)
    }
    // Jitter, unless all deviations have the same sign.
    let deviations = known.map(\.deviation)
    let spread = (deviations.max() ?? 0) - (deviations.min() ?? 0)
    if abs(middle) > spread {
      return jump(frames, from: 0, known: deviations, upTo: frames.count - 1)
    }
    jitter = max(jitter, min(spread / 2, 0.05 * rate))
    return frames.map { accept($0, isOutlier: true) }
  }

  /// Accepts frames, with a step at the frame that the deviations indicate. Frames after `last` are
  /// added again.
  private mutating func jump(
    _ frames: [Frame], from start: Int, known: [Double], upTo last: Int
  ) -> [Placement] {
    var placements = frames[..<start].map { accept($0, isOutlier: true) }
    let frame = frames[start]
    let deviation = Self.median(known)
    // Whole packets are missing or repeated; their length is more accurate than the time stamps.
    let packets = (deviation / Double(frame.count)).rounded() * Double(frame.count)
    let step = Int(
      (abs(deviation - packets) <= resolution && packets != 0 ? packets : deviation).rounded())
    let position = frame.raw + shift
    history = []
    isDrifting = false
    if Double(-step) > Self.longestOverlap * rate {
      events.append(.restart(at: position, count: -step))
      rebase -= Double(step)
      let corrected = frames[start...].map {
        Frame(raw: $0.raw, count: $0.count, offset: $0.offset.map { $0 - Double(step) })
      }
      return placements + corrected.flatMap { take($0) }
    }
    shift += step
    events.append(step > 0 ? .gap(at: position, count: step) : .overlap(at: position, count: -step))
    placements += frames[start...last].map { accept($0) }
    for frame in frames[(last + 1)...] { placements += take(frame) }
    return placements
  }

  private mutating func accept(_ frame: Frame, isOutlier: Bool = false) -> Placement {
    if let offset = frame.offset {
      if isOutlier {
        largestJitter = max(largestJitter, abs(offset - Double(shift)))
      } else {
        remember(Double(frame.raw), offset)
      }
    }
    stepIfStretchingCannotFollow(frame)
    let position = frame.raw + shift
    let skip = end == .min ? 0 : min(frame.count, max(0, end - position))
    var placement = Placement(start: position + skip, skip: skip)
    if skip == 0 { placement.stretch = stretch(frame) }
    shift += placement.stretch
    end = max(end, position + frame.count + placement.stretch)
    return placement
  }

  private mutating func stepIfStretchingCannotFollow(_ frame: Frame) {
    guard isDrifting, history.count >= 6 else { return }
    let deviation = trend(at: Double(frame.raw)) - Double(shift)
    guard abs(deviation) > 0.04 * rate else { return }
    let step = Int(deviation.rounded())
    let position = frame.raw + shift
    events.append(step > 0 ? .gap(at: position, count: step) : .overlap(at: position, count: -step))
    shift += step
    (isDrifting, debt) = (false, 0)
  }

  private mutating func remember(_ raw: Double, _ offset: Double) {
    history.append((raw, offset))
    while history.count > 8, raw - history[0].raw > 0.5 * rate { history.removeFirst() }
  }

  /// The number of samples by which a frame grows to follow drifting stamps.
  private mutating func stretch(_ frame: Frame) -> Int {
    guard history.count >= 6 else { return 0 }
    let deviation = trend(at: Double(frame.raw + frame.count)) - Double(shift)
    if !isDrifting {
      guard abs(deviation) > 0.8 * resolution else { return 0 }
      (isDrifting, debt) = (true, 0)
    }
    let limit = Self.stretchLimit * Double(frame.count)
    debt += min(limit, max(-limit, deviation * Double(frame.count) / (0.25 * rate)))
    if abs(deviation) < 0.05 * resolution { (isDrifting, debt) = (false, 0) }
    let samples = Int(debt)
    debt -= Double(samples)
    if samples > 0 { drift.added += samples } else { drift.removed -= samples }
    return samples
  }

  /// The value, at a raw position, of the regression line through the last time stamps' offsets.
  private func trend(at raw: Double) -> Double {
    let count = Double(history.count)
    let (x, y) = (
      history.reduce(0) { $0 + $1.raw } / count, history.reduce(0) { $0 + $1.offset } / count
    )
    var (products, squares) = (0.0, 0.0)
    for entry in history {
      products += (entry.raw - x) * (entry.offset - y)
      squares += (entry.raw - x) * (entry.raw - x)
    }
    return squares > 0 ? y + products / squares * (raw - x) : y
  }

  private static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    return sorted.isEmpty ? 0 : sorted[sorted.count / 2]
  }
}
