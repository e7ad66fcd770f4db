import CFFmpeg

/// The positions where a video's packets can be cut: its keyframes according to the container, and
/// the packets hidden by edit lists.
package struct KeyframeIndex {
  /// The presentation times of keyframes on the container's clock, in order, including those that
  /// edit lists hide.
  private let keys: [Double]
  /// The presentation time of the first packet.
  private let first: Double
  /// Whether packets in the middle are hidden, which a copy can't express.
  package let hidesFrames: Bool
  /// Whether packets before the first frame are hidden.
  package let hidesStart: Bool
  /// The number of hidden packets after the last shown one in decoding order.
  package let hiddenEnd: Int
  /// The total number of packets.
  package let count: Int

  /// Reads a file's packets without decoding them.
  ///
  /// - Throws: `MediaError` if the file can't be read.
  package init(path: String) throws {
    let reader = try PacketReader(file: path, kind: AVMEDIA_TYPE_VIDEO)
    var keys: [Double] = []
    var places: [(seconds: Double, isHidden: Bool)] = []
    var count = 0
    while let packet = try reader.next() {
      count += 1
      guard let seconds = reader.seconds(of: packet) else { continue }
      if packet.pointee.flags & AV_PKT_FLAG_KEY != 0 { keys.append(seconds) }
      places.append((seconds, packet.pointee.flags & AV_PKT_FLAG_DISCARD != 0))
    }
    self.keys = keys.sorted()
    first = places.first?.seconds ?? 0
    self.count = count
    let shown = places.indices.filter { !places[$0].isHidden }
    let times = shown.map { places[$0].seconds }
    if let from = shown.first, let to = shown.last, let start = times.min(), let end = times.max() {
      hidesFrames = places[from...to].contains {
        $0.isHidden && $0.seconds > start && $0.seconds < end
      }
      hidesStart = places.contains { $0.isHidden && $0.seconds < start }
      hiddenEnd = places.count - 1 - to
    } else {
      (hidesFrames, hidesStart, hiddenEnd) = (false, false, 0)
    }
  }

  /// The keyframe from which a frame is decoded.
  ///
  /// - Parameters:
  ///   - seconds: The presentation time of the frame.
  ///   - times: The presentation times of all frames, in order.
  package func keyframe(before seconds: Double, among times: [Double]) -> Keyframe {
    let key = keys.last { $0 <= seconds + 1e-6 }
    let packet = key ?? first
    // If edit lists hide the keyframe, use the first frame after it that is shown.
    let index = times.firstIndex { $0 >= packet - 1e-6 } ?? 0
    return Keyframe(
      index: index, seconds: times.indices.contains(index) ? times[index] : seconds,
      packetSeconds: packet,
      isFileStart: key == nil)
  }
}

/// A packet where decoding can begin.
package struct Keyframe: Equatable {
  /// The index and time of the first frame shown from there.
  package let index: Int
  package let seconds: Double
  /// The presentation time of the packet on the container's clock, which is before the frame if
  /// edit lists hide the packet.
  package let packetSeconds: Double
  /// Whether this is the start of a file that doesn't begin with a keyframe.
  package let isFileStart: Bool

  package init(index: Int, seconds: Double, packetSeconds: Double, isFileStart: Bool) {
    self.index = index
    self.seconds = seconds
    self.packetSeconds = packetSeconds
    self.isFileStart = isFileStart
  }
}
