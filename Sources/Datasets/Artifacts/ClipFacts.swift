/// The facts about a sample's clip, from reading it or from the file of its latents.
struct ClipFacts: Equatable, Sendable {
  let bucket: ResolutionBucket
  let frameRate: Double
  let shape: Clip.Shape
  let available: Clip.FrameSupply
  let hasAudio: Bool
  /// A clause that names the damaged frames; nil if there are none.
  let damage: String?

  /// Whether the clip is an image, which can have no audio.
  var isImage: Bool { bucket.frames == 1 && frameRate == 1 && !hasAudio }

  /// The length of the bucket's frames, in seconds.
  var seconds: Double { Double(bucket.frames) / frameRate }

  init(_ clip: Clip) {
    bucket = clip.bucket
    frameRate = clip.frameRate
    shape = clip.shape
    available = clip.available
    hasAudio = clip.hasAudio
    damage = clip.damage
  }

  /// Reads the facts from the metadata of latents; nil if they don't record all of them.
  init?(_ fingerprint: Fingerprint) {
    guard let bucket = fingerprint[.bucket].flatMap(ResolutionBucket.init(text:)),
      let rate = fingerprint[.framesPerSecond].flatMap(Double.init), rate > 0,
      let shape = fingerprint[.sourceSize].flatMap(Clip.Shape.init),
      let available = fingerprint[.sourceFrames].flatMap(Clip.FrameSupply.init),
      let audio = fingerprint[.sourceAudio]
    else { return nil }
    (self.bucket, frameRate, self.shape, self.available) = (bucket, rate, shape, available)
    hasAudio = audio == "yes"
    damage = fingerprint[.sourceDamage]
  }

  /// The facts for the metadata of the latents.
  var fields: [Fingerprint.Key: String] {
    var fields: [Fingerprint.Key: String] = [
      .bucket: "\(bucket)", .framesPerSecond: "\(frameRate)", .sourceSize: "\(shape)",
      .sourceFrames: "\(available)", .sourceAudio: hasAudio ? "yes" : "no",
    ]
    fields[.sourceDamage] = damage
    return fields
  }

  /// Whether a clip would still be scaled to this size, as far as that is known without reading it.
  ///
  /// - Parameter keepsMotion: As in `best`.
  func remains(among buckets: [ResolutionBucket], keepsMotion: Bool) -> Bool {
    func best(_ frames: Int?) -> ResolutionBucket? {
      buckets.best(
        width: shape.width, height: shape.height, frames: frames, keepsMotion: keepsMotion)
    }
    switch available {
    case _ where isImage: return best(1) == bucket
    case .exactly(let count): return best(count) == bucket
    case .atLeast(let count):
      // If a longer bucket would fit better, it is unknown whether there are enough frames.
      return best(nil) == bucket && bucket.frames <= count
    }
  }
}
