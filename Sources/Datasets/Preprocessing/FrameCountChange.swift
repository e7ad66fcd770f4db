import Foundation
import Media

/// How many frames a clip has, and how many it has at the rate that it is brought to.
struct FrameCountChange {
  /// Frames in the file, and their rate as the container says.
  let source: Int
  let rate: Double
  /// Frames at the new rate.
  let frames: Int
  let newRate: Double
  /// Whether the rate was asked for with `--fps`; else it is the clip's own true rate.
  let isAsked: Bool

  /// `49 frames at 30 fps are 41 at --fps 25`; nil where the count or the rate stays.
  var words: String? {
    guard source != frames, Self.text(rate) != Self.text(newRate) else { return nil }
    let counted =
      source == 1
      ? "1 frame at \(Self.text(rate)) fps is" : "\(source) frames at \(Self.text(rate)) fps are"
    return
      "\(counted) \(frames) at \(isAsked ? "--fps \(Self.text(newRate))" : "\(Self.text(newRate)) fps")"
  }

  private static func text(_ rate: Double) -> String { String(format: "%.5g", rate) }
}

extension ClipReader {
  /// A note about a clip's bucket: that `--fps` made it a shorter one, or that it holds no motion.
  ///
  /// - Parameters:
  ///   - available: frames of the clip where they were counted, at the rate of the bucket.
  ///   - ownBucket: the bucket for the clip with all its own frames.
  func bucketNotes(
    _ bucket: ResolutionBucket, _ reader: VideoReader, _ available: Int?,
    _ change: FrameCountChange?,
    _ ownBucket: ResolutionBucket?
  ) -> [String] {
    var notes: [String] = []
    if let words = change?.words, let ownBucket, ownBucket.frames > bucket.frames {
      notes.append("\(words), so it falls to the bucket \(bucket) instead of \(ownBucket)")
    }
    let count = available ?? reader.frameCount.value
    guard bucket.frames == 1, !reader.isImage, count != 1 else { return notes }
    let shortest = buckets.map(\.frames).filter { $0 > 1 }.min()
    let frames = count.map { "its \($0) frames" } ?? "its frames"
    switch shortest {
    case nil:
      notes.append(
        "only the first of \(frames) is used, as a still image: all buckets have 1 frame")
    case let shortest? where shortest > count ?? .max:
      notes.append(
        "only the first of \(frames) is used, as a still image: the shortest bucket with motion takes \(shortest). "
          + "Add a shorter one to --resolution-buckets, or remove the row")
    default:
      notes.append(
        "only the first of \(frames) is used, as a still image: with --compat the aspect alone chooses the bucket "
          + "\(bucket)")
    }
    return notes
  }
}
