// C latent channels, F H W latent frames, rows, columns.

import LTX
import Support
import TensorFiles
import Torch

extension CacheFolder {
  /// Latents of the clip or image.
  public static let latents = CacheFolder(rawValue: "latents")
}

/// The video latents of a clip. The metadata record its bucket, frame rate and audio, so that a
/// rerun doesn't have to read the clip.
struct VideoLatentsArtifact: Artifact {
  let folder = CacheFolder.latents
  let noun = "latents"
  let contents = "video"
  let base: CacheFolder? = nil
  let component: ModelFiles.Component? = .videoVAE
  let preloadsModel = true
  let decoding: CacheDecoding? = .video(into: "decoded_videos")

  func source(of sample: DatasetSample) -> String? { sample.paths[.video] }

  /// The bucket is not part of the expectation: it follows from the clip.
  func expectation(_ inputs: ArtifactInputs) throws -> Expectation {
    guard let path = source(of: inputs.sample) else { return .absent(isInOrder: true) }
    return .made(try inputs.rules.video(folder, path))
  }

  func isCurrent(_ found: Fingerprint, expected: Fingerprint, _ rules: CacheRules) -> Bool {
    ClipFacts(found)?.remains(
      among: rules.options.buckets, keepsMotion: !rules.options.isCompatible) ?? false
  }

  func read(
    _ inputs: ArtifactInputs, _ fingerprint: Fingerprint, with reader: SampleReader,
    into sample: inout PreparedSample
  ) throws {
    guard let path = source(of: inputs.sample) else { return }
    let clip = try reader.readClip(
      path, folder, since: inputs.snapshot, into: &sample
    ) { try reader.clips.read(path) }
    let facts = ClipFacts(clip)
    (sample.clip, sample.clipStart) = (facts, clip.start)
    sample.corrections = clip.corrections
    sample.files.append(
      PreparedFile(
        artifact: self, content: .pixels(clip.pixels, frameRate: clip.frameRate),
        fingerprint: fingerprint.adding(facts.fields).adding(clip.colorFields)))
  }

  func inspect(_ file: SampleFile) throws -> CachedFacts { try .videoLatents(file) }

  func mismatches(
    _ file: CacheReading.File, of sample: String, in reading: CacheReading,
    _ checker: CacheChecker
  ) -> [(kind: DatasetProblem.Kind, problem: String)] {
    guard let model = checker.model, let recorded = CacheChecker.bucket(recordedIn: file.metadata),
      let found = file.facts.video?.bucket(model.factors), recorded != found
    else { return [] }
    return [(.fingerprint, "was made for the bucket \(recorded), but its latents are \(found)")]
  }
}

extension CachedValues {
  /// The tensors and numbers of video latents.
  ///
  /// - Parameter latents: [C, F, H, W] on the CPU.
  static func videoLatents(_ latents: Tensor, frameRate: Double) -> CachedValues {
    [
      "latents": .tensor(latents), "num_frames": .int(latents.size(1)),
      "height": .int(latents.size(2)), "width": .int(latents.size(3)), "fps": .float(frameRate),
    ]
  }
}

extension CachedFacts {
  /// The facts of video latents.
  ///
  /// - Throws: `Issue` for sizes that contradict each other, or an impossible frame rate.
  static func videoLatents(_ file: SampleFile) throws -> CachedFacts {
    let fps = try file.number("fps")
    if let fps, !frameRates.contains(fps) {
      throw Issue([.file(file.path)], "fps is \(fps), which is not a frame rate")
    }
    let sizes = try LatentSizes(file)
    return CachedFacts(
      tensor: "latents", signature: "\(sizes.channels) channels", video: sizes, fps: fps)
  }
}
