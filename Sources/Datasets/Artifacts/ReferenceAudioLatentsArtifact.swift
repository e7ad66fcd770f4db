import LTX
import TensorFiles
import Torch

extension CacheFolder {
  /// Latents of the reference's audio.
  public static let referenceAudioLatents = CacheFolder(rawValue: "reference_audio_latents")
}

extension Role {
  /// The reference audio that an IC-LoRA is conditioned on.
  public static let referenceAudio = Role("reference_audio")
}

/// The latents of a reference's audio, cut to the clip's length and never padded.
struct ReferenceAudioLatentsArtifact: Artifact {
  let folder = CacheFolder.referenceAudioLatents
  let formerFolders = ["audio_reference_latents"]
  let noun = "reference audio latents"
  let contents = "reference audio"
  let column: Role? = .referenceAudio
  let base: CacheFolder? = .audioLatents
  let component: ModelFiles.Component? = .audioVAE
  let preloadsModel = true
  let family = CacheFolder.audioLatents
  let sourceNoun = "reference"
  let decoding: CacheDecoding? = .audio(into: "decoded_reference_audio")

  func expectation(_ inputs: ArtifactInputs) throws -> Expectation {
    guard let path = source(of: inputs.sample),
      inputs.paths[.video] == nil || inputs.clip != nil
    else { return .unknown }
    let rules = inputs.rules
    return .made(
      try rules.audio(folder, path, seconds: inputs.clip.map(rules.secondsOfColumn)))
  }

  func isCurrent(_ found: Fingerprint, expected: Fingerprint, _ rules: CacheRules) -> Bool {
    expected[.seconds] != nil || rules.durationRemains(found)
  }

  func read(
    _ inputs: ArtifactInputs, _ fingerprint: Fingerprint, with reader: SampleReader,
    into sample: inout PreparedSample
  ) throws {
    guard let path = source(of: inputs.sample) else { return }
    try reader.readColumn(self, path, inputs, fingerprint, isPadded: false, into: &sample)
  }

  func inspect(_ file: SampleFile) throws -> CachedFacts { try .audioLatents(file) }

  func mismatches(
    _ file: CacheReading.File, of sample: String, in reading: CacheReading,
    _ checker: CacheChecker
  ) -> [(kind: DatasetProblem.Kind, problem: String)] { checker.durationMismatch(file) }
}
