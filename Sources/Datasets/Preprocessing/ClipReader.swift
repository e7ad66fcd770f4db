import Inference
import Media
import Torch

/// A clip, ready for the video VAE.
struct Clip: Sendable {
  /// [1, 3, F, H, W], float32, -1 to 1.
  let pixels: Tensor
  /// Frames per second, as the container says; 1 for a picture.
  let frameRate: Double
}

/// Reads clips in the size of the bucket that suits each best.
struct ClipReader: Sendable {
  let buckets: [ResolutionBucket]

  /// Looks at a clip without decoding it.
  ///
  /// - Returns: whether it has sound.
  /// - Throws: `MediaError` for a file that is missing, no media, or too short for every bucket.
  func check(_ path: String) throws -> Bool {
    let reader = try VideoReader(path: path)
    switch reader.frameCount {
    case .declared(let count): try requireLength(count, path)
    // Estimates are off by a few frames; what seems too short is counted, which is soon done.
    case .estimated(let count) where count < shortest:
      try requireLength(VideoReader.countFrames(path: path), path)
    case .estimated, .unknown: break
    }
    return reader.hasAudio
  }

  /// The first frames of a clip, as many as its bucket has, scaled and cut to the bucket's size.
  ///
  /// The bucket depends on how many frames can really be decoded, which the container only claims to know. So the one
  /// for a long clip is tried, and only if the clip ends before it is full, the clip is read again for a shorter one.
  ///
  /// - Throws: `MediaError` as `check`, and for what can't be decoded.
  func read(_ path: String) throws -> Clip {
    var available: Int?
    var ending = Ending.complete
    while true {
      let reader = try VideoReader(path: path)
      guard let bucket = buckets.best(width: reader.width, height: reader.height, frames: available) else {
        throw tooShort(available ?? 0, path, ending)
      }
      var frames: [Tensor] = []
      while frames.count < bucket.frames, let frame = try reader.next() {
        frames.append(try FrameTensors.filled(frame, (bucket.width, bucket.height)))
      }
      if frames.count == bucket.frames {
        return Clip(pixels: try FrameTensors.stack(frames), frameRate: reader.frameRate.value)
      }
      available = frames.count
      ending = reader.ending
    }
  }

  private var shortest: Int { buckets.map(\.frames).min() ?? 1 }

  private func requireLength(_ count: Int, _ path: String) throws {
    if count < shortest { throw tooShort(count, path, .complete) }
  }

  private func tooShort(_ count: Int, _ path: String, _ ending: Ending) -> MediaError {
    var what = "has \(count) frame\(count == 1 ? "" : "s"), but the shortest bucket takes \(shortest)"
    if case .damaged(let reason) = ending { what += " (\(reason))" }
    return MediaError(
      .badOption, file: path, what, remedy: "Add a shorter bucket to --resolution-buckets, or remove the row."
    )
  }
}
