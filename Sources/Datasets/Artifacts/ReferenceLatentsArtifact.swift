import LTX
import Media
import TensorFiles
import Torch

extension CacheFolder {
  /// Latents of the clip's reference.
  public static let referenceLatents = CacheFolder(rawValue: "reference_latents")
}

extension Role {
  /// The reference video that an IC-LoRA is conditioned on.
  public static let referenceVideo = Role(
    "reference_video", otherNames: ["ref_media_path", "reference_path"])
}

/// The latents of a clip's reference. The reference gets its clip's bucket, divided by the
/// downscale factor; in upstream mode, a bucket chosen by its own shape.
struct ReferenceLatentsArtifact: Artifact {
  let folder = CacheFolder.referenceLatents
  let noun = "reference latents"
  let contents = "reference video"
  let column: Role? = .referenceVideo
  let base: CacheFolder? = .latents
  let reasonUnsuited = "there are no videos"
  let component: ModelFiles.Component? = .videoVAE
  let preloadsModel = true
  let family = CacheFolder.latents
  let sourceNoun = "reference"
  let decoding: CacheDecoding? = .video(into: "decoded_reference_videos")

  func suits(_ sample: DatasetSample, _ options: PreprocessingOptions) -> Bool {
    sample.paths[.video] != nil
  }

  /// In upstream mode the bucket is chosen by the reference's shape, and isn't part of the
  /// expectation.
  func expectation(_ inputs: ArtifactInputs) throws -> Expectation {
    guard let clip = inputs.clip, let path = source(of: inputs.sample) else { return .unknown }
    let rules = inputs.rules
    let scale = rules.options.referenceTemporalScale
    var result = try rules.video(folder, path, timing: scale > 1 ? "every=\(scale)" : nil)
    if !rules.options.isCompatible { result[.bucket] = "\(bucket(clip, rules))" }
    return .made(result)
  }

  private func bucket(_ clip: ClipFacts, _ rules: CacheRules) -> ResolutionBucket {
    let scale = rules.options.referenceDownscale
    return ResolutionBucket(
      width: clip.bucket.width / scale, height: clip.bucket.height / scale,
      frames: clip.bucket.frames)
  }

  func isCurrent(_ found: Fingerprint, expected: Fingerprint, _ rules: CacheRules) -> Bool {
    guard rules.options.isCompatible else { return true }
    return ClipFacts(found)?.remains(among: rules.referenceBuckets, keepsMotion: false) ?? false
  }

  func read(
    _ inputs: ArtifactInputs, _ fingerprint: Fingerprint, with reader: SampleReader,
    into sample: inout PreparedSample
  ) throws {
    guard let facts = inputs.clip, let path = source(of: inputs.sample) else { return }
    let options = inputs.options
    let bucket = bucket(facts, inputs.rules)
    let own = reader.clips(options.isCompatible ? inputs.rules.referenceBuckets : [bucket])
    let clip = try reader.readClip(
      path, folder, since: inputs.snapshot, into: &sample
    ) {
      guard !options.isCompatible, try own.open(path).isImage else { return try own.read(path) }
      let image = ResolutionBucket(width: bucket.width, height: bucket.height, frames: 1)
      return try reader.clips([image]).read(path)
    }
    var (pixels, rate) = (clip.pixels, clip.frameRate)
    let scale = options.referenceTemporalScale
    if scale > 1, !clip.isImage {
      // The first frame is separate, as in the latents.
      let frames = [0] + Array(stride(from: 1, to: pixels.size(2), by: scale))
      pixels = try pixels.indexSelect(2, Tensor(frames.map(Int64.init)))
    }
    if scale > 1, options.isCompatible || !clip.isImage { rate /= Double(scale) }
    // The expectation takes precedence over what was found in the file.
    let found = Dictionary(
      uniqueKeysWithValues: ClipFacts(clip).fields.map { ($0.key.rawValue, $0.value) })
    sample.files.append(
      PreparedFile(
        artifact: self, content: .pixels(pixels, frameRate: rate),
        fingerprint: Fingerprint(fields: found.merging(fingerprint.fields) { $1 })
          .adding(clip.colorFields)))
  }

  func inspect(_ file: SampleFile) throws -> CachedFacts { try .videoLatents(file) }
}
