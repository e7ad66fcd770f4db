import CFFmpeg

/// Whether the times of a file's frames keep to the rate that the file gives.
package enum FrameTiming: Equatable {
  /// Each time is an integer number of frames at the rate, as precisely as the unit of the time
  /// stamps allows.
  case constant
  /// Times of their own.
  case variable

  /// Reads a file's packets without decoding them. What containers say of a constant rate is not to
  /// be relied on.
  ///
  /// - Throws: `MediaError` if the file can't be read.
  package init(path: String, rate: Rational) throws {
    let packets = try PacketReader(file: path, kind: AVMEDIA_TYPE_VIDEO)
    let base = av_q2d(packets.stream.pointee.time_base)
    let unit = base * rate.value
    var stamps: [Double] = []
    while let packet = try packets.next() {
      let stamp = Double(packet.pointee.pts)
      // Times beyond 30 years are damage, which readers leave out, too.
      if packet.pointee.pts != cffmpeg_no_timestamp, abs(stamp * base) < 1e9 {
        stamps.append(stamp)
      }
    }
    guard let first = stamps.min() else {
      self = .constant
      return
    }
    let areOnGrid = stamps.allSatisfy { stamp in
      let frames = (stamp - first) * unit
      return abs(frames - frames.rounded()) <= 1.01 * unit
    }
    self = areOnGrid ? .constant : .variable
  }
}
