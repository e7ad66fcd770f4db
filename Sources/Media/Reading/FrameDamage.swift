import CFFmpeg

/// The damaged frames of a video, as reported by its decoder.
public struct FrameDamage: Equatable, Sendable {
  /// Frames that the decoder marks as damaged or concealed, or reports errors for: indices in
  /// decoding order from 0.
  public let damaged: [Int]
  /// Frames after which others are missing because their data can't be decoded; -1 for before the
  /// first one.
  public let missingAfter: [Int]
  /// The first keyframe after the last damaged frame; frames before it are predicted from damaged
  /// ones. Nil if none of the frames read is one.
  public let nextKeyframe: Int?

  public var isEmpty: Bool { damaged.isEmpty && missingAfter.isEmpty }

  /// A clause, such as `frames 3 to 7 are damaged, and those up to the keyframe 25 may show it`.
  public var description: String {
    var clauses: [String] = []
    if let last = damaged.last {
      let verb =
        damaged.count == 1 ? "frame \(damaged[0]) is" : "frames \(Self.ranges(damaged)) are"
      var clause = "\(verb) damaged"
      if let nextKeyframe, nextKeyframe > last + 1 {
        clause += ", and those up to the keyframe \(nextKeyframe) may show it"
      } else if nextKeyframe == nil {
        clause += ", and those after may show it"
      }
      clauses.append(clause)
    }
    if missingAfter.contains(-1) { clauses.append("frames before the first one can't be decoded") }
    let after = missingAfter.filter { $0 >= 0 }
    if !after.isEmpty {
      clauses.append(
        "frames are missing after frame\(after.count == 1 ? "" : "s") \(Self.ranges(after))")
    }
    return clauses.joined(separator: "; ")
  }

  /// `3 to 7, 9 and 12`.
  private static func ranges(_ numbers: [Int]) -> String {
    var ranges: [ClosedRange<Int>] = []
    for number in numbers {
      if let last = ranges.last, number == last.upperBound + 1 {
        ranges[ranges.count - 1] = last.lowerBound...number
      } else {
        ranges.append(number...number)
      }
    }
    var texts = ranges.map {
      $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound) to \($0.upperBound)"
    }
    if texts.count > 8 { texts = texts.prefix(8) + ["\(texts.count - 8) more places"] }
    guard texts.count > 1 else { return texts.joined() }
    return texts.dropLast().joined(separator: ", ") + " and " + (texts.last ?? "")
  }

  /// The last of some ascending numbers that is below a limit.
  private static func last(of numbers: [Int64], before limit: Int64) -> Int64? {
    var (low, high) = (0, numbers.count)
    while low < high {
      let middle = (low + high) / 2
      if numbers[middle] < limit { low = middle + 1 } else { high = middle }
    }
    return low > 0 ? numbers[low - 1] : nil
  }

  /// Decodes a file's first frames on one thread, so that each error belongs to a packet.
  ///
  /// - Parameter count: The number of frames to check.
  /// - Throws: The errors of `StreamDecoder`.
  static func find(path: String, count: Int) throws -> FrameDamage {
    let decoder = try StreamDecoder(file: path, kind: AVMEDIA_TYPE_VIDEO, threads: 1)
    var frames: [(stamp: Int64, isDamaged: Bool, isKey: Bool)] = []
    while frames.count < count, let frame = try decoder.next() {
      frames.append(
        (
          frame.pointee.best_effort_timestamp, cffmpeg_is_damaged(frame) != 0,
          cffmpeg_is_key(frame) != 0
        ))
    }
    var damaged = Set(frames.indices.filter { frames[$0].isDamaged })
    var missing: Set<Int> = []
    let stamps = frames.map(\.stamp).filter { $0 != cffmpeg_no_timestamp }
    let usual = zip(stamps.dropFirst(), stamps).map { $0 &- $1 }.sorted()
    let step = usual.isEmpty ? 0 : usual[usual.count / 2]
    var places: [Int64: Int] = [:]
    for (place, frame) in frames.enumerated() where places[frame.stamp] == nil {
      places[frame.stamp] = place
    }
    let inOrder = places.keys.filter { $0 != cffmpeg_no_timestamp }.sorted()
    for (stamp, isKey) in decoder.troubledStamps {
      if let place = places[stamp] {
        damaged.insert(place)
      } else if let before = Self.last(of: inOrder, before: stamp), let place = places[before] {
        guard place + 1 < frames.count else {
          // Frames beyond the last checked one don't matter.
          if frames.count < count { missing.insert(place) }
          continue
        }
        // A frame may consist of two packets.
        let gap = frames[place + 1].stamp &- frames[place].stamp
        if gap > step + step / 2 { missing.insert(place) } else { damaged.insert(place) }
      } else if isKey || stamp == cffmpeg_no_timestamp {
        // Frames that can't be decoded because the file begins between keyframes are not damaged.
        if stamp == cffmpeg_no_timestamp, !frames.isEmpty {
          damaged.insert(0)
        } else {
          missing.insert(-1)
        }
      }
    }
    if decoder.hasContainerErrors {
      // Packets that the demuxer couldn't find leave gaps.
      for (place, pair) in zip(frames, frames.dropFirst()).enumerated()
      where pair.0.stamp != cffmpeg_no_timestamp && pair.1.stamp != cffmpeg_no_timestamp {
        if pair.1.stamp &- pair.0.stamp > step + step / 2 { missing.insert(place) }
      }
    }
    let last = damaged.max() ?? -1
    return FrameDamage(
      damaged: damaged.sorted(), missingAfter: missing.sorted(),
      nextKeyframe: frames.indices.first { $0 > last && frames[$0].isKey })
  }
}
