import Foundation
import Media

/// The number of frames of a clip, before and after its frame rate is converted.
struct FrameCountChange {
  /// The frames in the file, and their rate from the container.
  let source: Int
  let rate: Double
  /// The frames at the new rate.
  let frames: Int
  let newRate: Double
  /// Whether the rate was requested; otherwise it is the clip's true rate.
  let isAsked: Bool

  /// `49 frames at 30 fps are 41 at the requested 25 fps`; nil if neither the count nor the rate
  /// changes.
  var words: String? {
    guard source != frames, Self.text(rate) != Self.text(newRate) else { return nil }
    let counted =
      source == 1
      ? "1 frame at \(Self.text(rate)) fps is" : "\(source) frames at \(Self.text(rate)) fps are"
    return
      "\(counted) \(frames) at \(isAsked ? "the requested " : "")\(Self.text(newRate)) fps"
  }

  private static func text(_ rate: Double) -> String { String(format: "%.5g", rate) }
}

extension ClipReader {
  /// Returns notes about a clip's bucket: that another frame rate has led to a shorter one, or that
  /// the clip becomes a still image.
  ///
  /// - Parameters:
  ///   - available: The frames of the clip, at the rate of the bucket, if they were counted.
  ///   - ownBucket: The bucket for the clip at its own rate.
  func bucketNotes(
    _ bucket: ResolutionBucket, _ reader: VideoReader, _ available: Int?,
    _ change: FrameCountChange?,
    _ ownBucket: ResolutionBucket?
  ) -> [String] {
    var notes: [String] = []
    if let words = change?.words, let ownBucket, ownBucket.frames > bucket.frames {
      notes.append("\(words), so it gets the bucket \(bucket) instead of \(ownBucket)")
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
        "only the first of \(frames) is used, as a still image: the shortest bucket with motion needs "
          + "\(shortest). Add a shorter bucket or remove the row")
    default:
      notes.append(
        "only the first of \(frames) is used, as a still image: in upstream mode the aspect ratio alone "
          + "chooses the bucket \(bucket)")
    }
    return notes
  }
}
