import LTX
import Media

/// The options and models that cached files depend on, in the form that fingerprints record.
///
/// Each artifact uses only those that affect it, so that a change redoes only the files that it
/// affects.
struct CacheRules: Sendable {
  let options: PreprocessingOptions
  let hashes: SourceHashes
  let factors: CompressionFactors
  let referenceBuckets: [ResolutionBucket]
  /// The identity of the text encoder, with the quantization of its weights.
  let textEncoder: String
  private let identities: [ModelFiles.Component: String]

  /// - Throws: `Issue` for model files that can't be read.
  init(
    _ options: PreprocessingOptions, hashes: SourceHashes, factors: CompressionFactors,
    referenceBuckets: [ResolutionBucket]
  ) throws {
    self.options = options
    self.hashes = hashes
    self.factors = factors
    self.referenceBuckets = referenceBuckets
    var identities: [ModelFiles.Component: String] = [:]
    // Most components share one file, which is read once.
    var byPath: [String: String] = [:]
    for component in ModelFiles.Component.allCases {
      guard let path = options.models.path(of: component) else { continue }
      let identity = try byPath[path] ?? FileIdentity.identity(of: path)
      (byPath[path], identities[component]) = (identity, identity)
    }
    self.identities = identities
    textEncoder = TextEncoderIdentity.stored(
      identities[.textEncoder] ?? "", isInt8: options.textEncoder8bit)
  }

  /// Returns the identity of the file that contains a component.
  func identity(of component: ModelFiles.Component) -> String { identities[component] ?? "" }

  /// Checks that a source exists.
  ///
  /// - Throws: `MediaError` for a file that does not exist or can't be read.
  func requireSource(_ path: String) throws { _ = try hashes.snapshot(of: path) }

  // MARK: Video

  /// The fingerprint of video latents.
  ///
  /// - Parameter timing: A setting of how frames are chosen, besides the frame rate.
  func video(
    _ folder: CacheFolder, _ path: String, timing: String? = nil
  ) throws -> Fingerprint {
    Fingerprint(
      folder,
      [
        .source: try hashes.sha256(of: path), .model: identity(of: .videoVAE),
        .dtype: options.dtype.rawValue,
        .options: settings(tiling, rate, interlacing, timing, hdr, background),
      ], version: frameRules)
  }

  // MARK: Audio

  /// The fingerprint of audio latents.
  ///
  /// - Parameters:
  ///   - seconds: The length of a clip; nil for audio that is not cut to a clip.
  ///   - isClip: Whether it is the clip's own audio, which is aligned with the video.
  func audio(
    _ folder: CacheFolder, _ path: String, seconds: Double?, isClip: Bool = false
  ) throws -> Fingerprint {
    var result = Fingerprint(
      folder,
      [
        .source: try hashes.sha256(of: path), .model: identity(of: .audioVAE), .dtype: "float32",
        .options: settings(isClip ? "clip" : nil, placement, audioTrack),
      ])
    if let seconds { result[.seconds] = "\(seconds)" }
    return result
  }

  /// The length, in seconds, of the audio from a separate file that is used for a clip. Upstream
  /// treats every clip as one of the longest bucket at 25 frames per second.
  func secondsOfColumn(_ clip: ClipFacts) -> Double {
    options.isCompatible ? Double(options.buckets.map(\.frames).max() ?? 0) / 25 : clip.seconds
  }

  /// Whether audio that is not cut to a clip would still get the length that the file records.
  func durationRemains(_ fingerprint: Fingerprint) -> Bool {
    guard let length = fingerprint[.sourceSeconds].flatMap(Double.init) else { return false }
    let wanted = SampleAudioReader.duration(of: length, among: options.audioDurations)
    return fingerprint[.seconds] == wanted.map { "\($0)" }
  }

  // MARK: Settings

  var tiling: String? {
    options.tiling.flatMap(\.height).map { "tiles=\($0.size)/\($0.overlap)" }
  }

  /// The version of the rules for reading frames. Version 3 added colors and transparency; upstream
  /// mode stays at version 2.
  var frameRules: Int { options.isCompatible ? 2 : 3 }

  var hdr: String? {
    options.isCompatible || options.color.convertsToSDR ? nil : "hdr-to-sdr=off"
  }

  var background: String? {
    options.isCompatible ? nil : options.color.background.map { "background=\($0)" }
  }

  var interlacing: String? {
    options.isCompatible || options.deinterlaces ? nil : "deinterlace=off"
  }

  /// The placement of audio: by its timestamps, from the track that players choose.
  var placement: String? { options.isCompatible ? nil : "timed" }

  var audioTrack: String? {
    options.audioTrack == .automatic ? nil : "track=\(options.audioTrack)"
  }

  var rate: String? { options.frameRate.map { "fps=\($0)" } }

  /// Joins the settings that affect a file into its fingerprint's `options`.
  func settings(_ parts: String?...) -> String {
    (parts + [options.isCompatible ? "compat" : nil]).compactMap { $0 }.joined(separator: " ")
  }
}
