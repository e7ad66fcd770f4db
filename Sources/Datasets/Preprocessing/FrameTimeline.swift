import Media

/// Frames of a video as they come, or at a steady rate.
enum FrameTimeline {
  /// The first frames, and by how much their times leave a steady rate.
  ///
  /// - Returns: `count` frames, fewer where the video ends; and the largest distance, in frames, of a frame's time from
  ///   that of the rate. Containers round time stamps and miscount lengths, so less than one is no sign of anything.
  static func first<Result>(
    _ count: Int, of reader: VideoReader, _ make: (RGBFrame) throws -> Result
  ) throws -> (frames: [Result], drift: Double) {
    let rate = reader.frameRate.value
    var frames: [Result] = []
    var drift = 0.0
    while frames.count < count, let frame = try reader.next() {
      drift = max(drift, abs(frame.seconds * rate - Double(frames.count)))
      frames.append(try make(frame))
    }
    return (frames, drift)
  }

  /// Frame k is the one that is on the screen at k / `rate` seconds, for half a frame's time is nothing.
  ///
  /// - Returns: `count` frames, fewer where the video ends.
  static func steady<Result>(
    _ count: Int, of reader: VideoReader, rate: Double, _ make: (RGBFrame) throws -> Result
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
      // The last frame stays for as long as the video's own rate gives it.
      let end = shown.seconds + 1 / reader.frameRate.value
      guard next != nil || Double(frames.count) / rate < end - 1e-6 else { break }
      let frame = try made ?? make(shown)
      made = frame
      frames.append(frame)
    }
    return frames
  }
}
