// C latent channels, T latent time steps, N frequency bins.

import Foundation
import LTX
import Media
import TensorFiles
import Torch

extension CacheFolder {
  /// Latents of the sample's audio.
  public static let audioLatents = CacheFolder(rawValue: "audio_latents")
}

/// The audio latents of a sample, from the `audio` column or otherwise from the clip's own audio
/// track. The metadata record the loudness of the audio.
struct AudioLatentsArtifact: Artifact {
  let folder = CacheFolder.audioLatents
  let noun = "audio latents"
  let contents = "audio"
  let base: CacheFolder? = nil
  let component: ModelFiles.Component? = .audioVAE
  let decoding: CacheDecoding? = .audio(into: "decoded_audio")

  func source(of sample: DatasetSample) -> String? { sample.paths[.audio] ?? sample.paths[.video] }

  func suits(_ sample: DatasetSample, _ options: PreprocessingOptions) -> Bool {
    sample.paths[.audio] != nil || sample.paths[.video] != nil && options.audio != .skipped
  }

  func expectation(_ inputs: ArtifactInputs) throws -> Expectation {
    let (paths, rules) = (inputs.paths, inputs.rules)
    if let path = paths[.audio] {
      guard paths[.video] == nil || inputs.clip != nil else { return .unknown }
      return .made(
        try rules.audio(folder, path, seconds: inputs.clip.map(rules.secondsOfColumn)))
    }
    guard let clip = inputs.clip, let path = paths[.video] else { return .unknown }
    guard clip.hasAudio else {
      let isRequired = inputs.options.audio == .required && !clip.isImage
      return .absent(isInOrder: !isRequired && paths[.audioMask] == nil)
    }
    return .made(try rules.audio(folder, path, seconds: clip.seconds, isClip: true))
  }

  func isCurrent(_ found: Fingerprint, expected: Fingerprint, _ rules: CacheRules) -> Bool {
    expected[.seconds] != nil || rules.durationRemains(found)
  }

  func read(
    _ inputs: ArtifactInputs, _ fingerprint: Fingerprint, with reader: SampleReader,
    into sample: inout PreparedSample
  ) throws {
    if let path = inputs.paths[.audio] {
      try reader.readColumn(
        self, path, inputs, fingerprint, isPadded: !inputs.options.isCompatible, into: &sample)
      return
    }
    guard let clip = inputs.clip, let path = inputs.paths[.video] else { return }
    let start = try sample.clipStart ?? reader.firstFrame(path)
    let audio = try reader.audio.read(path, seconds: clip.seconds, start: start)
    sample.add(audio, of: path, self, fingerprint)
  }

  func noteAbsence(_ inputs: ArtifactInputs, in sample: inout PreparedSample) throws {
    guard inputs.clip?.isImage != true else { return }
    sample.isSilent = true
    guard inputs.options.audio == .required else { return }
    throw MediaError(
      .noStream, file: inputs.paths[.video] ?? inputs.sample.media,
      "has no audio, but audio is required",
      remedy: "Remove the row, or name its audio in an audio column.")
  }

  func inspect(_ file: SampleFile) throws -> CachedFacts { try .audioLatents(file) }

  func mismatches(
    _ file: CacheReading.File, of sample: String, in reading: CacheReading,
    _ checker: CacheChecker
  ) -> [(kind: DatasetProblem.Kind, problem: String)] {
    var problems = checker.durationMismatch(file)
    if let duration = file.facts.audio?.duration,
      let seconds = reading[.latents, sample].flatMap(checker.seconds), seconds > 0,
      abs(duration - seconds) > 1 / checker.audioTokens.rate
    {
      problems.append(
        (.mismatch, String(format: "lasts %.3f s, but the video %.3f s", duration, seconds)))
    }
    return problems
  }

  func absence(explainedBy metadata: [String: String]) -> String {
    metadata[Fingerprint.Key.sourceAudio.rawValue] == "no" ? " (its clip has no audio track)" : ""
  }
}

extension PreparedSample {
  /// Adds audio to encode.
  mutating func add(
    _ audio: PreparedAudio, of path: String, _ artifact: any Artifact, _ fingerprint: Fingerprint
  ) {
    for note in audio.notes { warnings.append((artifact.folder, "\(path): \(note)")) }
    files.append(
      PreparedFile(
        artifact: artifact, content: .audio(audio.audio),
        fingerprint: fingerprint.adding(audio.level.fields)))
  }
}

extension CachedValues {
  /// The tensors and numbers of audio latents.
  ///
  /// - Parameters:
  ///   - latents: [C, T, N] on the CPU.
  ///   - duration: The length of the audio in seconds.
  static func audioLatents(_ latents: Tensor, duration: Double) -> CachedValues {
    [
      "latents": .tensor(latents), Self.timeSteps: .int(latents.size(1)),
      "frequency_bins": .int(latents.size(2)), "duration": .float(duration),
    ]
  }

  static let timeSteps = "num_time_steps"
}

extension CachedFacts {
  /// The facts of audio latents.
  ///
  /// - Throws: `Issue` for sizes that contradict each other.
  static func audioLatents(_ file: SampleFile) throws -> CachedFacts {
    let sizes = try AudioLatentSizes(file)
    return CachedFacts(
      tensor: "latents",
      signature: "\(sizes.channels) channels of \(sizes.bins) frequencies", audio: sizes)
  }
}

extension CacheChecker {
  /// Compares the number of latent steps of audio with its recorded duration.
  func durationMismatch(
    _ file: CacheReading.File
  ) -> [(kind: DatasetProblem.Kind, problem: String)] {
    guard let audio = file.facts.audio, let duration = audio.duration else { return [] }
    let tokens = audioTokens
    // One latent step per group of spectrogram frames, the last of which may be short.
    let frames = 1 + Int(duration * Double(tokens.sampleRate)) / tokens.hopLength
    let steps = (frames + tokens.compression - 1) / tokens.compression
    guard abs(audio.steps - steps) > 1 else { return [] }
    return [
      (
        .mismatch,
        String(
          format: "has %d steps, but its duration, %.3f s, takes %d", audio.steps, duration, steps)
      )
    ]
  }
}
