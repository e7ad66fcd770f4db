import Foundation

/// The audio of a file on the container's clock, with every sample at the time that the time stamps
/// give it.
///
/// This is the only code that decides where audio belongs, for preprocessing, generation and
/// splitting. `AudioClock` distinguishes jitter from gaps, overlaps and drift.
package final class AudioTimeline {
  /// Audio at its position. Chunks are in ascending order and don't overlap; there is a gap if one
  /// starts after the end of the previous one.
  package struct Chunk {
    /// The position of the first sample on the container's clock, in samples.
    package let start: Int
    /// [channel][sample]
    package let channels: [[Float]]

    package var count: Int { channels[0].count }
    package var end: Int { start + count }
  }

  package let reader: AudioReader
  private var clock: AudioClock
  /// Decoded chunks that are not placed yet.
  private var waiting: [AudioChunk] = []
  /// Decoded chunks and their placements. For stretching, the second one is known before the first
  /// is returned.
  private var placed: [(chunk: AudioChunk, placement: AudioClock.Placement)] = []
  private var isAtEnd = false
  /// The error that ends the audio early, thrown after everything before it was returned.
  private var failure: MediaError?
  /// The last returned samples, by channel.
  private var tail: [[Float]] = []

  /// A gap longer than this, in seconds, counts as damage.
  fileprivate static let longestGap = 600
  /// The number of gaps and overlaps that a note lists individually.
  private static let listed = 3

  package init(_ reader: AudioReader) {
    self.reader = reader
    clock = AudioClock(rate: reader.sampleRate, tick: reader.tick)
  }

  var sampleRate: Int { reader.sampleRate }

  /// The next chunk; nil at the end.
  ///
  /// - Throws: `MediaError` of kind `.decoding` if time stamps jump by more than ten minutes; the
  ///   errors of `AudioReader.next`.
  package func next() throws -> Chunk? {
    while true {
      while placed.count < 2, !isAtEnd { try readMore() }
      guard !placed.isEmpty else {
        if let failure { throw failure }
        return nil
      }
      let (chunk, placement) = placed.removeFirst()
      guard placement.skip < chunk.sampleCount else { continue }
      let following = placed.first?.chunk ?? waiting.first
      var channels = chunk.channels
      if placement.skip > 0 {
        channels = channels.map { Array($0.dropFirst(placement.skip)) }
      } else if placement.stretch != 0 {
        channels = channels.enumerated().map { index, samples in
          AudioStretcher.stretch(
            samples, by: placement.stretch, before: tail.isEmpty ? [] : tail[index][...],
            after: following?.channels[index].prefix(AudioStretcher.reach) ?? [])
        }
      }
      tail = chunk.channels.map { Array($0.suffix(AudioStretcher.reach)) }
      return Chunk(start: placement.start, channels: channels)
    }
  }

  private func readMore() throws {
    let placements: [AudioClock.Placement]
    let known = clock.events.count
    if let chunk = try reader.next() {
      waiting.append(chunk)
      placements = clock.add(stamp: chunk.stamp, count: chunk.sampleCount)
    } else {
      isAtEnd = true
      placements = clock.finish()
    }
    placed += zip(waiting, placements).map { ($0, $1) }
    waiting.removeFirst(placements.count)
    for case .gap(let at, let count) in clock.events[known...]
    where count > Self.longestGap * sampleRate {
      failure = jump(of: count)
      isAtEnd = true
      placed.removeAll { $0.placement.start > at }
      waiting = []
    }
  }

  fileprivate func jump(of count: Int) -> MediaError {
    MediaError(
      .decoding, file: reader.path, "its audio's time stamps jump by \(count / sampleRate) s",
      remedy: "Convert the file again.")
  }

  /// The start of the file on the container's clock, in seconds: its first frame if it has a video,
  /// otherwise its first audio, except for priming before 0.
  ///
  /// - Throws: `MediaError` for a video that can't be read.
  func fileStart() throws -> Double {
    if reader.hasVideo {
      let video = try VideoReader(path: reader.path)
      _ = try video.nextDecoded()
      if let seconds = video.firstSeconds { return seconds }
    }
    guard let start = reader.rawContainerStart else { return 0 }
    // Less than a second before 0 is encoder priming that the decoder may not have dropped.
    return start < 0 && start > -1 && !reader.wrapsAround ? 0 : start
  }

  /// Notes about the time stamps so far, a clause each.
  ///
  /// - Parameters:
  ///   - origin: The position that times are counted from, in samples.
  ///   - end: The end of the positions that matter.
  package func notes(from origin: Int, to end: Int = .max) -> [String] {
    func seconds(_ samples: Int) -> String {
      String(format: "%.2f s", Double(samples) / Double(sampleRate))
    }
    func list(_ entries: [(at: Int, count: Int)]) -> String {
      let shown = entries.prefix(Self.listed).map {
        "\(seconds($0.count)) at \(seconds(max(0, $0.at - origin)))"
      }
      let more = entries.count - shown.count
      let sum = entries.reduce(0) { $0 + $1.count }
      return shown.joined(separator: ", ")
        + (more > 0 ? " and \(more) more, \(seconds(sum)) in all" : "")
    }
    var (gaps, overlaps): ([(at: Int, count: Int)], [(at: Int, count: Int)]) = ([], [])
    var notes: [String] = []
    for event in clock.events {
      switch event {
      case .gap(let at, let count)
      where at + count > origin && at < end && count <= Self.longestGap * sampleRate:
        gaps.append((at, count))
      case .overlap(let at, let count) where at >= origin && at < end:
        // One overlap may begin with several steps.
        if let last = overlaps.last, at - last.at < sampleRate / 20 {
          overlaps[overlaps.count - 1].count += count
        } else {
          overlaps.append((at, count))
        }
      case .restart(let at, let count) where at >= origin && at < end:
        notes.append(
          "its audio's clock steps back by \(seconds(count)) at \(seconds(at - origin)); audio continues without a gap"
        )
      case .gap, .overlap, .restart: break
      }
    }
    if !overlaps.isEmpty {
      notes.insert(
        "its audio overlaps itself by \(list(overlaps)); the repeated part was cut", at: 0)
    }
    if !gaps.isEmpty {
      notes.insert(
        "its audio has \(gaps.count == 1 ? "a gap" : "gaps") of \(list(gaps)), filled with silence",
        at: 0)
    }
    let drift = clock.drift.added - clock.drift.removed
    if abs(drift) > sampleRate / 200 {
      notes.append(
        "its audio drifts from its time stamps by \(seconds(abs(drift))), and was stretched to follow them"
      )
    }
    if clock.jitterSeconds >= 0.01 {
      notes.append(
        String(
          format: "time stamps of its audio jitter by up to %.0f ms, which was passed over",
          clock.jitterSeconds * 1000))
    }
    return notes
  }
}

/// A segment of a file's audio, with each sample at its time.
struct PlacedAudio {
  /// [channel][sample] from the beginning of the segment, with silence where the file has no audio.
  /// Ends with the audio or with the segment.
  var channels: [[Float]]
  let sampleRate: Int
  /// The start of the file's first audio, in seconds from the beginning of the segment; negative if
  /// the audio begins earlier. Nil for a file without samples.
  let firstSeconds: Double?
  /// A clause about the parts that couldn't be decoded.
  let damage: String?
  /// Notes for the user, a clause each.
  package let notes: [String]

  /// The start of a segment.
  enum Start {
    /// Seconds from the beginning of the file.
    case file(plus: Double)
    /// Seconds on the container's clock.
    case clock(Double)
  }

  /// - Parameters:
  ///   - count: The number of samples in the segment; nil for all that follow.
  /// - Throws: The errors of `AudioTimeline.next`; `MediaError` for samples that are not finite.
  init(_ timeline: AudioTimeline, from start: Start, count: Int?) throws {
    let reader = timeline.reader
    let rate = Double(reader.sampleRate)
    let origin: Int
    switch start {
    case .file(let seconds): origin = Int(((try timeline.fileStart() + seconds) * rate).rounded())
    case .clock(let seconds): origin = Int((seconds * rate).rounded())
    }
    var channels: [[Float]] = []
    var first: Int?
    var isAtEnd = false
    while count.map({ channels.first?.count ?? 0 < $0 }) ?? true {
      guard let chunk = try timeline.next() else {
        isAtEnd = true
        break
      }
      first = first ?? chunk.start
      if channels.isEmpty { channels = Array(repeating: [], count: chunk.channels.count) }
      if let count, chunk.start - origin >= count { break }
      let filled = channels[0].count
      // Negative if audio begins later, positive if some lies before the segment.
      let skipped = filled - (chunk.start - origin)
      guard skipped < chunk.count else { continue }
      guard count != nil || -skipped <= AudioTimeline.longestGap * reader.sampleRate else {
        throw timeline.jump(of: -skipped)
      }
      for index in channels.indices {
        if skipped < 0 { channels[index] += [Float](repeating: 0, count: -skipped) }
        channels[index] += chunk.channels[index].dropFirst(max(0, skipped))
      }
    }
    if let count {
      for index in channels.indices where channels[index].count > count {
        channels[index].removeLast(channels[index].count - count)
      }
    }
    self.channels = channels
    sampleRate = reader.sampleRate
    firstSeconds = first.map { Double($0 - origin) / rate }
    damage = isAtEnd ? reader.ending.damage : reader.damageSoFar
    notes =
      [reader.trackNote, reader.change].compactMap { $0 }
      + timeline.notes(from: origin, to: count.map { origin + $0 } ?? .max)
    for samples in channels {
      guard let index = samples.firstIndex(where: { !$0.isFinite }) else { continue }
      let place = String(format: "%.2f s", Double(index) / rate)
      throw MediaError(
        .decoding, file: reader.path,
        "its audio has samples that are not finite numbers (the first at \(place))",
        remedy: "Convert the audio again.")
    }
  }
}
