import Media

/// Reads the frames of a video one after another, or at a steady rate.
enum FrameTimeline {
  /// Reads the first frames, and derives the rate from their times.
  ///
  /// - Returns: `count` frames, or fewer if the video ends.
  static func first<Result>(
    _ count: Int, of reader: VideoReader, _ make: (VideoFrame) throws -> Result
  ) throws -> (frames: [Result], clock: FrameClock.Reading) {
    var frames: [Result] = []
    var times: [Double] = []
    while frames.count < count, let frame = try reader.nextFrame() {
      times.append(frame.seconds)
      frames.append(try make(frame))
    }
    let clock = FrameClock(declared: reader.declaredRates, unit: reader.timeUnit).read(times)
    guard clock != .asDeclared, let last = times.last else { return (frames, .asDeclared) }
    guard Double(frames.count - 1) / last > reader.frameRate.value / 100, last < 1e5 else {
      throw MediaError(
        .decoding, file: reader.path,
        "the times of its first \(frames.count) frames jump by \(last < 1e9 ? "\(Int(last)) s" : "years")",
        remedy: "Convert the file again, or cut it there.")
    }
    return (frames, clock)
  }

  /// Reads frames at a steady rate. Frame k is the one on the screen at k / `rate` seconds, within
  /// half a frame's time.
  ///
  /// - Parameter length: the seconds for which the last frame is shown.
  /// - Returns: `count` frames, or fewer if the video ends.
  static func steady<Result>(
    _ count: Int, of reader: VideoReader, rate: Double, length: Double,
    _ make: (VideoFrame) throws -> Result
  ) throws -> [Result] {
    var frames: [Result] = []
    guard var shown = try reader.nextFrame() else { return [] }
    var made: Result?
    var next = try reader.nextFrame()
    while frames.count < count {
      let time = (Double(frames.count) + 0.5) / rate
      while let following = next, following.seconds < time {
        (shown, made) = (following, nil)
        next = try reader.nextFrame()
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
