import Media

/// Frames of a video as they come, or at a steady rate.
enum FrameTimeline {
  /// The first frames, and the rate at which they really come where it is not the one that the container tells.
  ///
  /// Containers round time stamps and miscount lengths, so frames that are never further than one frame's time from a
  /// steady rate are taken to keep it.
  ///
  /// - Returns: `count` frames, fewer where the video ends; and frames a second by their times, nil if the container's
  ///   rate holds.
  static func first<Result>(
    _ count: Int, of reader: VideoReader, _ make: (RGBFrame) throws -> Result
  ) throws -> (frames: [Result], trueRate: Double?) {
    let rate = reader.frameRate.value
    var frames: [Result] = []
    var (drift, last) = (0.0, 0.0)
    while frames.count < count, let frame = try reader.next() {
      drift = max(drift, abs(frame.seconds * rate - Double(frames.count)))
      last = frame.seconds
      frames.append(try make(frame))
    }
    guard drift > 1, last > 0 else { return (frames, nil) }
    let trueRate = Double(frames.count - 1) / last
    guard trueRate > rate / 100, last < 1e5 else {
      throw MediaError(
        .decoding, file: reader.path,
        "the times of its first \(frames.count) frames jump by \(last < 1e9 ? "\(Int(last)) s" : "years")",
        remedy: "Convert the file anew, or cut it there.")
    }
    return (frames, trueRate)
  }

  /// Frame k is the one that is on the screen at k / `rate` seconds, for half a frame's time is nothing.
  ///
  /// - Parameter length: seconds that the last frame stays.
  /// - Returns: `count` frames, fewer where the video ends.
  static func steady<Result>(
    _ count: Int, of reader: VideoReader, rate: Double, length: Double, _ make: (RGBFrame) throws -> Result
  ) throws -> [Result] {
    var frames: [Result] = []
    guard var shown = try reader.next() else { return [] }
    var made: Result?
    var next = try reader.next()
    while frames.count < count {
      let time = (Double(frames.count) + 0.5) / rate
      while let following = next, following.seconds < time {
        (shown, made) = (following, nil)
        next = try reader.next()
      }
      let end = shown.seconds + length
      guard next != nil || Double(frames.count) / rate < end - 1e-6 else { break }
      let frame = try made ?? make(shown)
      made = frame
      frames.append(frame)
    }
    return frames
  }
}
