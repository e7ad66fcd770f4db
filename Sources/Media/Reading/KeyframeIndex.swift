import CFFmpeg

/// The points where the packets of a video can be cut: its keyframes by the container, and the
/// packets that its edit lists hide.
package struct KeyframeIndex {
  /// When keyframes are shown, on the container's clock, in order; those that edit lists hide are
  /// among them.
  private let keys: [Double]
  /// When the first packet is shown.
  private let first: Double
  /// Whether packets in the middle are not shown, which a copy can't say.
  package let hidesFrames: Bool
  /// Whether packets before the first frame are not shown.
  package let hidesStart: Bool
  /// Packets after the last one in decoding order that is shown.
  package let hiddenEnd: Int
  /// Packets in all.
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
  ///   - seconds: when the frame is shown.
  ///   - times: when all frames are shown, in order.
  package func keyframe(before seconds: Double, among times: [Double]) -> Keyframe {
    let key = keys.last { $0 <= seconds + 1e-6 }
    let packet = key ?? first
    // If edit lists hide the keyframe, the first frame after it that is shown.
    let index = times.firstIndex { $0 >= packet - 1e-6 } ?? 0
    return Keyframe(
      index: index, seconds: times.indices.contains(index) ? times[index] : seconds,
      packetSeconds: packet,
      isFileStart: key == nil)
  }
}

/// A packet that decoding can begin at.
package struct Keyframe: Equatable {
  /// The first frame that is shown from there on, and when.
  package let index: Int
  package let seconds: Double
  /// When the packet would be shown, on the container's clock: before the frame where edit lists
  /// hide it.
  package let packetSeconds: Double
  /// Whether this is the start of a file that begins with packets that are not keyframes.
  package let isFileStart: Bool

  package init(index: Int, seconds: Double, packetSeconds: Double, isFileStart: Bool) {
    self.index = index
    self.seconds = seconds
    self.packetSeconds = packetSeconds
    self.isFileStart = isFileStart
  }
}
