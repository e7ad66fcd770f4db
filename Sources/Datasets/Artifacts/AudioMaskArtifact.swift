// T latent time steps.

import LTX
import Media
import Support
import TensorFiles
import Torch

extension CacheFolder {
  /// Masks of the audio latents.
  public static let audioMasks = CacheFolder(rawValue: "audio_masks")
}

extension Role {
  /// The audio's mask, loud where the audio is conditioned and not generated.
  public static let audioMask = Role("audio_mask")
}

/// The mask of a sample's audio over the steps of its latents: [T], 1 where the audio is
/// conditioned. The number of steps is known only after the audio is encoded.
struct AudioMaskArtifact: MaskArtifact {
  let folder = CacheFolder.audioMasks
  let noun = "audio mask"
  let column: Role? = .audioMask
  let base: CacheFolder? = .audioLatents
  let reasonUnsuited = "audio is left out"
  let component: ModelFiles.Component? = .audioVAE
  let follows: CacheFolder? = .audioLatents
  let dimensions = ["time steps"]
  let decoding: CacheDecoding? = .mask(into: "decoded_audio_masks", hasFrames: false)

  private let audio = AudioLatentsArtifact()

  func suits(_ sample: DatasetSample, _ options: PreprocessingOptions) -> Bool {
    audio.isWanted(sample, options)
  }

  func expectation(_ inputs: ArtifactInputs) throws -> Expectation {
    guard let path = source(of: inputs.sample) else { return .unknown }
    let rules = inputs.rules
    switch try audio.expectation(inputs) {
    case .unknown: return .unknown
    case .absent: return .absent(isInOrder: false)
    case .made(let audio):
      var result = Fingerprint(
        folder,
        [
          .source: try rules.hashes.sha256(of: path), .model: rules.identity(of: .audioVAE),
          .options: rules.settings(rules.placement, rules.audioTrack),
        ])
      result[.clip] = audio[.source]
      // The length of audio without a clip can change with the durations that it can be cut to.
      result[.seconds] = audio[.seconds] ?? "of \(rules.options.audioDurations)"
      return .made(result)
    }
  }

  func read(
    _ inputs: ArtifactInputs, _ fingerprint: Fingerprint, with reader: SampleReader,
    into sample: inout PreparedSample
  ) throws {
    guard let path = source(of: inputs.sample) else { return }
    var cachedSteps: Int?
    if sample.upToDate.contains(.audioLatents) {
      let file = try SampleFile(path: reader.check.file(.audioLatents, inputs.sample).path)
      cachedSteps = try file.number(CachedValues.timeSteps).flatMap(Int.init(exactly:))
    }
    let content = PreparedFile.Content.dependent { [cachedSteps] encoded in
      let steps = encoded.values(of: .audioLatents)?.integer(CachedValues.timeSteps) ?? cachedSteps
      guard let steps else {
        throw Issue([], "can't be made, because the sample's audio is not cached")
      }
      let configuration = try AudioVAEConfiguration(reader.checkpoint.config)
      let mask = try reader.audio.mask(path, steps: steps, configuration: configuration)
      return values(mask)
    }
    sample.files.append(PreparedFile(artifact: self, content: content, fingerprint: fingerprint))
  }

  func noteAbsence(_ inputs: ArtifactInputs, in sample: inout PreparedSample) throws {
    throw MediaError(
      .noStream, file: inputs.paths[.video] ?? inputs.sample.media,
      "has no audio that the row's mask could belong to",
      remedy: "Remove the mask from the row, or name the audio in an audio column.")
  }

  func requirement(_ latents: CachedFacts) -> (shape: [Int], clause: String)? {
    latents.audio.map { ([$0.steps], "the audio latents have \($0.steps) steps") }
  }
}
