import Foundation
import LTX
import Media

/// What is known of a sample's clip, from reading it or from the file of its latents.
struct ClipFacts: Equatable, Sendable {
  let bucket: ResolutionBucket
  let frameRate: Double
  let shape: Clip.Shape
  let available: Clip.FrameSupply
  let hasAudio: Bool
  /// Which of its frames are damaged, a clause; nil if none is.
  let damage: String?

  /// A picture, which can have no sound.
  var isImage: Bool { bucket.frames == 1 && frameRate == 1 && !hasAudio }

  /// Length of the bucket's frames, in seconds.
  var seconds: Double { Double(bucket.frames) / frameRate }

  init(_ clip: Clip) {
    bucket = clip.bucket
    frameRate = clip.frameRate
    shape = clip.shape
    available = clip.available
    hasAudio = clip.hasAudio
    damage = clip.damage
  }

  /// Nil where the file does not say all of it.
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

  /// For the metadata of the latents.
  var fields: [Fingerprint.Key: String] {
    var fields: [Fingerprint.Key: String] = [
      .bucket: "\(bucket)", .framesPerSecond: "\(frameRate)", .sourceSize: "\(shape)",
      .sourceFrames: "\(available)", .sourceAudio: hasAudio ? "yes" : "no",
    ]
    fields[.sourceDamage] = damage
    return fields
  }

  /// Whether a clip would still be brought to this size, as far as that can be told without reading
  /// it.
  ///
  /// - Parameter keepsMotion: as `best`.
  func remains(among buckets: [ResolutionBucket], keepsMotion: Bool) -> Bool {
    func best(_ frames: Int?) -> ResolutionBucket? {
      buckets.best(
        width: shape.width, height: shape.height, frames: frames, keepsMotion: keepsMotion)
    }
    switch available {
    case _ where isImage: return best(1) == bucket
    case .exactly(let count): return best(count) == bucket
    case .atLeast(let count):
      // Where a longer bucket would suit better, nobody knows how many frames there are.
      return best(nil) == bucket && bucket.frames <= count
    }
  }
}

/// What each file of a cache has to be made from: the options and models that count for it, and no
/// others, so that a change redoes what it changes and nothing else.
struct CacheRules: Sendable {
  private let options: PreprocessingOptions
  private let hashes: SourceHashes
  private let videoModel: String
  private let audioModel: String
  private let textModel: String
  private let textEncoder: String
  private let factors: CompressionFactors
  let referenceBuckets: [ResolutionBucket]

  /// - Throws: `PreprocessingError` for model files that can't be read.
  init(
    _ options: PreprocessingOptions, hashes: SourceHashes, factors: CompressionFactors,
    referenceBuckets: [ResolutionBucket]
  ) throws {
    self.options = options
    self.hashes = hashes
    self.factors = factors
    self.referenceBuckets = referenceBuckets
    func identity(_ component: ModelFiles.Component) throws -> String {
      try options.models.path(of: component).map(FileIdentity.identity(of:)) ?? ""
    }
    videoModel = try identity(.videoVAE)
    audioModel = try identity(.audioVAE)
    textModel = try identity(.transformer)
    textEncoder = TextEncoderIdentity.stored(
      try identity(.textEncoder), isInt8: options.textEncoder8bit)
  }

  /// - Throws: `MediaError` for a file that is not there.
  func requireSource(_ path: String) throws { _ = try hashes.snapshot(of: path) }

  /// Of text features.
  func conditions(prompt: String) -> Fingerprint {
    Fingerprint(
      .conditions,
      [
        .prompt: prompt, .model: textModel, .textEncoder: textEncoder,
        .dtype: options.dtype.rawValue,
      ])
  }

  /// The same with what is worth knowing of how the prompt came about, for comparing it with the
  /// caption.
  func storedConditions(prompt: String) -> Fingerprint {
    var fingerprint = conditions(prompt: prompt)
    if let trigger = options.captions.trigger {
      fingerprint = fingerprint.adding([.trigger: trigger])
    }
    return options.removesLLMPrefixes
      ? fingerprint.adding([.options: "remove-llm-prefixes"]) : fingerprint
  }

  /// Of a clip's latents, but for its bucket.
  func latents(_ path: String) throws -> Fingerprint {
    Fingerprint(
      .latents,
      [
        .source: try hashes.sha256(of: path), .model: videoModel, .dtype: options.dtype.rawValue,
        .options: settings(tiling, rate, interlacing, hdr, background),
      ], version: frameRules)
  }

  /// Of the latents of a clip's reference. The bucket is the one that the clip's asks for; in the
  /// reference's way it is chosen anew, and left open here.
  func reference(_ path: String, _ clip: ClipFacts) throws -> Fingerprint {
    var result = Fingerprint(
      .referenceLatents,
      [
        .source: try hashes.sha256(of: path), .model: videoModel, .dtype: options.dtype.rawValue,
        .options: settings(
          tiling, rate, interlacing,
          options.referenceTemporalScale > 1 ? "every=\(options.referenceTemporalScale)" : nil, hdr,
          background),
      ], version: frameRules)
    if !options.isCompatible { result[.bucket] = "\(referenceBucket(clip.bucket))" }
    return result
  }

  /// The size of a clip's reference.
  func referenceBucket(_ bucket: ResolutionBucket) -> ResolutionBucket {
    ResolutionBucket(
      width: bucket.width / options.referenceDownscale,
      height: bucket.height / options.referenceDownscale,
      frames: bucket.frames)
  }

  func videoMask(_ path: String, _ clip: ClipFacts) throws -> Fingerprint {
    Fingerprint(
      .videoMasks,
      [
        .source: try hashes.sha256(of: path), .bucket: "\(clip.bucket)",
        .sourceSize: "\(clip.shape)",
        .options: settings(
          rate, interlacing, "cells=\(factors.width)x\(factors.height)x\(factors.time)"),
      ], version: frameRules)
  }

  /// Of a sound's latents.
  ///
  /// - Parameters:
  ///   - seconds: as long as a clip; nil where the sound's own length decides.
  ///   - isClip: whether it is the clip's own, which keeps its place beside the picture.
  func audio(
    _ folder: CacheFolder, _ path: String, seconds: Double?, isClip: Bool = false
  ) throws -> Fingerprint {
    var result = Fingerprint(
      folder,
      [
        .source: try hashes.sha256(of: path), .model: audioModel, .dtype: "float32",
        .options: settings(isClip ? "clip" : nil, placement, audioTrack),
      ])
    if let seconds { result[.seconds] = "\(seconds)" }
    return result
  }

  func audioMask(_ path: String, of audio: Fingerprint) throws -> Fingerprint {
    var result = Fingerprint(
      .audioMasks,
      [
        .source: try hashes.sha256(of: path), .model: audioModel,
        .options: settings(placement, audioTrack),
      ])
    result[.clip] = audio[.source]
    // A sound of its own length may become longer or shorter with the durations there are to choose
    // from.
    result[.seconds] = audio[.seconds] ?? "of \(options.audioDurations)"
    return result
  }

  /// How long a sound of its own length becomes, and whether that is as before.
  func durationRemains(_ fingerprint: Fingerprint) -> Bool {
    guard let length = fingerprint[.sourceSeconds].flatMap(Double.init) else { return false }
    let wanted = SampleAudioReader.duration(of: length, among: options.audioDurations)
    return fingerprint[.seconds] == wanted.map { "\($0)" }
  }

  private var tiling: String? {
    options.tiling.flatMap(\.height).map { "tiles=\($0.size)/\($0.overlap)" }
  }

  /// The version of the rules by which frames are read. Version 3 knows colors and transparency;
  /// upstream's way is as before.
  private var frameRules: Int { options.isCompatible ? 2 : 3 }

  private var hdr: String? {
    options.isCompatible || options.color.convertsToSDR ? nil : "hdr-to-sdr=off"
  }

  private var background: String? {
    options.isCompatible ? nil : options.color.background.map { "background=\($0)" }
  }

  private var interlacing: String? {
    options.isCompatible || options.deinterlaces ? nil : "deinterlace=off"
  }

  /// How audio is read: by its time stamps, from the track that players choose.
  private var placement: String? { options.isCompatible ? nil : "timed" }

  private var audioTrack: String? {
    options.audioTrack == .automatic ? nil : "track=\(options.audioTrack)"
  }

  private var rate: String? { options.frameRate.map { "fps=\($0)" } }

  private func settings(_ parts: String?...) -> String {
    (parts + [options.isCompatible ? "compat" : nil]).compactMap { $0 }.joined(separator: " ")
  }
}
