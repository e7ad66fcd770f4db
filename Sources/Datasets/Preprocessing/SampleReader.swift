import Foundation
import Generation
import LTX
import Media
import Support
import TensorFiles
import Torch

/// One file of a sample, read and ready to be encoded.
struct PreparedFile: Sendable {
  enum Content: Sendable {
    /// Pixels [1, 3, F, H, W], float32, -1 to 1, and the frame rate of their latents.
    case pixels(Tensor, frameRate: Double)
    case audio(AudioClip)
    /// Values that are stored without encoding.
    case values(CachedValues)
    /// Values that are computed from the sample's other files, which are encoded first.
    case dependent(@Sendable (EncodedSample) throws -> CachedValues)
  }

  let artifact: any Artifact
  let content: Content
  let fingerprint: Fingerprint
}

/// A sample that has been read.
struct PreparedSample: Sendable {
  let work: SampleWork
  var files: [PreparedFile] = []
  var upToDate: Set<CacheFolder>
  /// The files that could not be read, with the reason.
  var failures: [(folder: CacheFolder, reason: String)] = []
  var warnings: [(folder: CacheFolder, reason: String)] = []
  /// The facts of the clip, once they are known.
  var clip: ClipFacts?
  /// The time of the clip's first frame, on the clock that its audio shares; nil if the clip was
  /// not read.
  var clipStart: Double?
  var corrections: Set<Clip.Correction> = []
  /// Whether the clip lacks the wanted audio.
  var isSilent = false
  /// An error that ends the run because every other sample would fail too, such as exhausted
  /// memory.
  var fatal: (any Error)?

  init(_ work: SampleWork) {
    self.work = work
    upToDate = work.upToDate
  }
}

/// Reads the media of samples. This part of the work needs no model and runs ahead.
struct SampleReader: Sendable {
  let check: SampleCheck
  let checkpoint: Checkpoint

  private var rules: CacheRules { check.rules }
  private var options: PreprocessingOptions { check.options }

  /// Reads clips in the buckets of the dataset.
  var clips: ClipReader { clips(options.buckets) }

  func clips(_ buckets: [ResolutionBucket]) -> ClipReader { ClipReader(options, buckets: buckets) }

  /// Reads masks, which are always composited on black.
  var masks: MaskReader {
    var clips = clips
    clips.color.background = .black
    return MaskReader(clips: clips, factors: rules.factors)
  }

  var audio: SampleAudioReader {
    SampleAudioReader(isCompatible: options.isCompatible, track: options.audioTrack)
  }

  /// Reads the files of a sample that are not up to date.
  func read(_ work: SampleWork) -> PreparedSample {
    var result = PreparedSample(work)
    let sample = work.sample
    if sample.paths[.video] != nil {
      do {
        result.clip = try work.pending.contains(.latents) ? nil : check.cachedFacts(sample)
        if result.clip == nil { try read(VideoLatentsArtifact(), &result) }
        // Another process may have cached the clip meanwhile.
        if result.clip == nil { result.clip = try check.cachedFacts(sample) }
      } catch {
        // The sample's other files depend on the clip.
        note(error, .latents, &result)
        return result
      }
    }
    // Captions have been encoded before.
    let pending = work.pending.subtracting([.latents, .conditions])
    for artifact in Artifacts.all where pending.contains(artifact.folder) {
      // The failure of the file that this one follows has been reported.
      if result.failures.contains(where: { $0.folder == artifact.follows }) { continue }
      do {
        try read(artifact, &result)
      } catch {
        note(error, artifact.folder, &result)
      }
      if result.fatal != nil { return result }
    }
    return result
  }

  private func note(_ error: any Error, _ folder: CacheFolder, _ result: inout PreparedSample) {
    if let error = error as? MediaError, error.kind == .system { result.fatal = error }
    if let error = error as? TorchError, error.kind == .outOfMemory { result.fatal = error }
    // Other errors don't include the file.
    let place = error is MediaError ? "" : "\(result.work.sample.media): \(folder.noun): "
    result.failures.append((folder, "\(place)\(describe(error))"))
  }

  private func read(_ artifact: any Artifact, _ result: inout PreparedSample) throws {
    let sample = result.work.sample
    var inputs = check.inputs(sample, clip: result.clip, prompt: result.work.prompt)
    // The snapshot comes before the hash, so that a change of the file can't go unnoticed.
    inputs.snapshot = try artifact.source(of: sample).map(rules.hashes.snapshot)
    let expectation = try artifact.expectation(inputs)
    switch expectation {
    case .unknown: return
    case .absent:
      // Otherwise, latents or masks of audio that the clip no longer has would stay unnoticed.
      check.file(artifact.folder, sample).removeIfOurs()
      try artifact.noteAbsence(inputs, in: &result)
    case .made(let fingerprint):
      if check.isUpToDate(artifact, sample, expectation) {
        result.upToDate.insert(artifact.folder)
      } else {
        try artifact.read(inputs, fingerprint, with: self, into: &result)
      }
    }
  }

  // MARK: For artifacts

  /// Reads a clip whose file must not change between the snapshot and the end of reading.
  func readClip(
    _ path: String, _ folder: CacheFolder, since snapshot: String?,
    into sample: inout PreparedSample, _ read: () throws -> Clip
  ) throws -> Clip {
    let before = try snapshot ?? rules.hashes.snapshot(of: path)
    let clip = try read()
    guard try rules.hashes.snapshot(of: path) == before else { throw SourceHashes.changed(path) }
    for note in clip.notes { sample.warnings.append((folder, "\(path): \(note)")) }
    return clip
  }

  /// Reads the audio of a separate file, cut to the clip's length or, without a clip, to one of the
  /// durations.
  ///
  /// - Parameter isPadded: Whether audio that is shorter than the clip is padded with silence.
  func readColumn(
    _ artifact: any Artifact, _ path: String, _ inputs: ArtifactInputs,
    _ fingerprint: Fingerprint, isPadded: Bool, into sample: inout PreparedSample
  ) throws {
    guard let clip = inputs.clip else {
      let (audio, length, seconds) = try audio.read(
        path, maxSeconds: nil, durations: options.audioDurations)
      sample.add(
        audio, of: path, artifact,
        fingerprint.adding([.sourceSeconds: "\(length)", .seconds: "\(seconds)"]))
      return
    }
    let seconds = rules.secondsOfColumn(clip)
    let audio =
      isPadded
      ? try audio.read(path, seconds: seconds, start: nil)
      : try audio.read(path, maxSeconds: seconds, durations: []).audio
    sample.add(audio, of: path, artifact, fingerprint)
  }

  /// Returns the time of a clip's first frame, for clips whose latents are cached.
  func firstFrame(_ path: String) throws -> Double {
    let reader = try clips.open(path)
    _ = try reader.next()
    return reader.firstSeconds ?? 0
  }
}
