import CFFmpeg

/// How the times of a file's frames go with the rate that the file gives.
enum FrameTiming: Equatable {
  /// Each time is a whole number of frames at the rate, as far as the unit of the time stamps allows.
  case constant
  /// Times of their own, which have that rate in the mean.
  case variable
  /// The frames last longer than they can at the rate: its times are wrong, or the rate is.
  case contradictory

  /// Reads a file's packets without decoding them. What containers say of a constant rate is not to be relied on.
  ///
  /// - Throws: `MediaError` if the file can't be read.
  init(path: String, rate: Rational) throws {
    let decoder = try StreamDecoder(file: path, kind: AVMEDIA_TYPE_VIDEO)
    let unit = av_q2d(decoder.stream.pointee.time_base) * rate.value
    var stamps: [Int64] = []
    var count = 0
    while let stamp = try decoder.nextPacketTime() {
      count += 1
      if let stamp { stamps.append(stamp) }
    }
    guard let first = stamps.min(), let last = stamps.max() else {
      self = .constant
      return
    }
    if Double(last - first) * unit >= Double(count) {
      self = .contradictory
      return
    }
    let areOnGrid = stamps.allSatisfy { stamp in
      let frames = Double(stamp - first) * unit
      return abs(frames - frames.rounded()) <= 1.01 * unit
    }
    self = areOnGrid ? .constant : .variable
  }
}
