import Foundation
import Generation
import LTX
import Media
import Support
import TensorFiles
import Torch

/// One file of a sample, read and ready for its model.
struct PreparedFile: Sendable {
  enum Content: Sendable {
    /// [1, 3, F, H, W], float32, -1 to 1, and the rate of the latents to come.
    case pixels(Tensor, frameRate: Double)
    case audio(AudioClip)
    /// As it is stored.
    case mask(Tensor)
    /// Read when the number of time steps is known.
    case audioMask(path: String)
  }

  let folder: CacheFolder
  let content: Content
  let fingerprint: Fingerprint
}

/// What reading a sample gave.
struct PreparedSample: Sendable {
  let work: SampleWork
  var files: [PreparedFile] = []
  var upToDate: Set<CacheFolder>
  /// What could not be read: the folder, and why.
  var failures: [(folder: CacheFolder, reason: String)] = []
  var warnings: [(folder: CacheFolder, reason: String)] = []
  var corrections: Set<Clip.Correction> = []
  /// The clip has no sound, where some was looked for.
  var isSilent = false
  /// What no other sample would fare better with: memory has run out.
  var fatal: (any Error)?

  init(_ work: SampleWork) {
    self.work = work
    upToDate = work.upToDate
  }
}

/// Reads all that a sample needs, without any model: the half of the work that runs ahead.
struct SampleReader: Sendable {
  let options: PreprocessingOptions
  let check: SampleCheck
  let hashes: SourceHashes
  let factors: CompressionFactors

  private var clips: ClipReader { reader(options.buckets) }

  private func reader(_ buckets: [ResolutionBucket]) -> ClipReader {
    ClipReader(
      buckets: buckets, frameRate: options.frameRate, isCompatible: options.isCompatible,
      deinterlaces: options.deinterlaces, isStrict: options.isStrict, color: options.color)
  }

  /// Masks are white on black, whatever clips are composited on.
  private var masks: MaskReader {
    var clips = clips
    clips.color.background = .black
    return MaskReader(clips: clips, factors: factors)
  }

  private var audioReader: SampleAudioReader {
    SampleAudioReader(isCompatible: options.isCompatible, track: options.audioTrack)
  }

  func read(_ work: SampleWork) -> PreparedSample {
    var result = PreparedSample(work)
    let sample = work.sample
    var facts: ClipFacts?
    var start: Double?
    if sample.paths[.video] != nil {
      do {
        facts = try work.pending.contains(.latents) ? nil : check.cachedFacts(sample)
        if facts == nil, let path = sample.paths[.video] {
          // Before the clip is read, so that a change meanwhile can't go unnoticed.
          let before = try hashes.snapshot(of: path)
          let fingerprint = try check.rules.latents(path)
          let clip = try readClip(path, .latents, since: before, &result) { try clips.read(path) }
          let read = ClipFacts(clip)
          (facts, start) = (read, clip.start)
          result.corrections = clip.corrections
          result.files.append(
            PreparedFile(
              folder: .latents, content: .pixels(clip.pixels, frameRate: clip.frameRate),
              fingerprint: fingerprint.adding(read.fields).adding(clip.colorFields)))
        }
      } catch {
        // What goes with the clip can't be made without it.
        note(error, .latents, &result)
        return result
      }
    }
    for folder in CacheFolder.allCases where work.pending.contains(folder) && folder != .latents {
      // The mask of a sound that could not be read: told already.
      if folder == .audioMasks, result.failures.contains(where: { $0.folder == .audioLatents }) {
        continue
      }
      do {
        if let file = try file(folder, sample, facts, start, &result) { result.files.append(file) }
      } catch {
        note(error, folder, &result)
      }
      if result.fatal != nil { return result }
    }
    return result
  }

  private func note(_ error: any Error, _ folder: CacheFolder, _ result: inout PreparedSample) {
    if let error = error as? MediaError, error.kind == .system { result.fatal = error }
    if let error = error as? TorchError, error.kind == .outOfMemory { result.fatal = error }
    // Errors that know no file.
    let place = error is MediaError ? "" : "\(result.work.sample.media): \(folder.noun): "
    result.failures.append((folder, "\(place)\(describe(error))"))
  }

  /// - Returns: nil for what needs no file, is up to date after all, or belongs to another phase.
  private func file(
    _ folder: CacheFolder, _ sample: DatasetSample, _ facts: ClipFacts?, _ start: Double?,
    _ result: inout PreparedSample
  ) throws -> PreparedFile? {
    guard folder != .conditions else { return nil }
    switch try check.expected(folder, sample, prompt: "", clip: facts) {
    case .unknown: return nil
    case .silent:
      // Latents of a sound that the clip once had, or their mask, would go unnoticed.
      check.file(folder, sample).removeIfOurs()
      if folder == .audioLatents { try noteSilence(sample, facts, &result) }
      if folder == .audioMasks {
        throw MediaError(
          .noStream, file: sample.paths[.video] ?? sample.media,
          "has no sound that the row's mask could belong to",
          remedy: "Remove the mask from the row, or give the sound in an audio column.")
      }
      return nil
    case .made(let fingerprint):
      if check.isUpToDate(folder, sample, .made(fingerprint)) {
        result.upToDate.insert(folder)
        return nil
      }
      return try read(folder, sample, facts, start, fingerprint, &result)
    }
  }

  private func noteSilence(
    _ sample: DatasetSample, _ facts: ClipFacts?, _ result: inout PreparedSample
  ) throws {
    guard facts?.isImage != true else { return }
    result.isSilent = true
    guard options.audio == .required else { return }
    throw MediaError(
      .noStream, file: sample.paths[.video] ?? sample.media,
      "has no sound, which --with-audio asks for",
      remedy: "Remove the row, or give its sound in an audio column.")
  }

  private func read(
    _ folder: CacheFolder, _ sample: DatasetSample, _ facts: ClipFacts?, _ start: Double?,
    _ fingerprint: Fingerprint, _ result: inout PreparedSample
  ) throws -> PreparedFile? {
    let paths = sample.paths
    switch folder {
    case .conditions, .latents: return nil
    case .referenceLatents:
      guard let facts, let path = paths[.referenceVideo] else { return nil }
      return try reference(path, facts, fingerprint, &result)
    case .videoMasks:
      guard let facts, let path = paths[.videoMask] else { return nil }
      if options.isCompatible {
        return PreparedFile(
          folder: folder, content: .mask(try masks.compatibleCells(path, bucket: facts.bucket)),
          fingerprint: fingerprint)
      }
      let (mask, note) = try masks.cells(path, bucket: facts.bucket, shape: facts.shape)
      if let note { result.warnings.append((folder, "\(path): \(note)")) }
      return PreparedFile(folder: folder, content: .mask(mask), fingerprint: fingerprint)
    case .audioLatents:
      if let path = paths[.audio] {
        return try column(folder, path, facts, fingerprint, isPadded: true, &result)
      }
      guard let facts, let path = paths[.video] else { return nil }
      let audio = try audioReader.read(
        path, seconds: facts.seconds, start: start ?? firstFrame(path))
      return prepared(folder, path, audio, fingerprint, &result)
    case .referenceAudioLatents:
      guard let path = paths[.referenceAudio] else { return nil }
      return try column(folder, path, facts, fingerprint, isPadded: false, &result)
    case .audioMasks:
      guard let path = paths[.audioMask] else { return nil }
      return PreparedFile(folder: folder, content: .audioMask(path: path), fingerprint: fingerprint)
    }
  }

  /// The reference of a clip: its size follows the clip's, or in the reference's way is chosen by
  /// its own shape.
  private func reference(
    _ path: String, _ facts: ClipFacts, _ fingerprint: Fingerprint, _ result: inout PreparedSample
  ) throws -> PreparedFile {
    let bucket = check.rules.referenceBucket(facts.bucket)
    let own = reader(options.isCompatible ? check.rules.referenceBuckets : [bucket])
    // Its hash is in the fingerprint already.
    let clip = try readClip(path, .referenceLatents, since: hashes.snapshot(of: path), &result) {
      guard !options.isCompatible, try own.open(path).isImage else { return try own.read(path) }
      return try reader([ResolutionBucket(width: bucket.width, height: bucket.height, frames: 1)])
        .read(path)
    }
    var (pixels, rate) = (clip.pixels, clip.frameRate)
    let scale = options.referenceTemporalScale
    if scale > 1, !clip.isImage {
      // The first frame stands alone, as in the latents.
      let frames = [0] + Array(stride(from: 1, to: pixels.size(2), by: scale))
      pixels = try pixels.indexSelect(2, Tensor(frames.map(Int64.init)))
    }
    if scale > 1, options.isCompatible || !clip.isImage { rate /= Double(scale) }
    // What was asked for stays in the fingerprint; the rest is what was found.
    return PreparedFile(
      folder: .referenceLatents, content: .pixels(pixels, frameRate: rate),
      fingerprint: Fingerprint(
        fields: ClipFacts(clip).fields.reduce(into: [:]) { $0[$1.key.rawValue] = $1.value }
          .merging(fingerprint.fields) { $1 }
      ).adding(clip.colorFields))
  }

  /// Reads a clip whose file must not have changed since its hash was taken.
  func readClip(
    _ path: String, _ folder: CacheFolder, since before: String, _ result: inout PreparedSample,
    _ read: () throws -> Clip
  ) throws -> Clip {
    let clip = try read()
    guard try hashes.snapshot(of: path) == before else { throw SourceHashes.changed(path) }
    for note in clip.notes { result.warnings.append((folder, "\(path): \(note)")) }
    return clip
  }

  private func column(
    _ folder: CacheFolder, _ path: String, _ facts: ClipFacts?, _ fingerprint: Fingerprint,
    isPadded: Bool,
    _ result: inout PreparedSample
  ) throws -> PreparedFile {
    guard let facts else {
      let (audio, length, seconds) = try audioReader.read(
        path, most: nil, durations: options.audioDurations)
      return prepared(
        folder, path, audio,
        fingerprint.adding([.sourceSeconds: "\(length)", .seconds: "\(seconds)"]),
        &result)
    }
    let seconds = check.secondsOfColumn(facts)
    let audio =
      isPadded && !options.isCompatible
      ? try audioReader.read(path, seconds: seconds, start: nil)
      : try audioReader.read(path, most: seconds, durations: []).audio
    return prepared(folder, path, audio, fingerprint, &result)
  }

  private func prepared(
    _ folder: CacheFolder, _ path: String, _ audio: PreparedAudio, _ fingerprint: Fingerprint,
    _ result: inout PreparedSample
  ) -> PreparedFile {
    for note in audio.notes { result.warnings.append((folder, "\(path): \(note)")) }
    return PreparedFile(
      folder: folder, content: .audio(audio.audio),
      fingerprint: fingerprint.adding(audio.level.fields))
  }

  /// When a clip's first frame is shown, where its frames are cached already.
  private func firstFrame(_ path: String) throws -> Double {
    let reader = try clips.open(path)
    _ = try reader.next()
    return reader.firstSeconds ?? 0
  }
}
