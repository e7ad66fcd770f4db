import LTX
import Media

/// What has to be done for a sample: which of its files are wanted, and which of them are known to
/// be as they should.
struct SampleWork: Sendable {
  let sample: DatasetSample
  /// What the text encoder reads.
  let prompt: String
  /// Files that are not known to be up to date.
  var pending: Set<CacheFolder>
  /// Files that are.
  var upToDate: Set<CacheFolder> = []
}

/// What a file of a sample is expected to be made from, or why there is none.
enum Expectation {
  case made(Fingerprint)
  /// The clip has no sound.
  case silent
  /// It follows from the clip, which has to be read first.
  case unknown
}

/// Tells what the files of samples should be made from, and which of them are.
struct SampleCheck: Sendable {
  let options: PreprocessingOptions
  let rules: CacheRules
  let outputFolder: String

  func file(_ folder: CacheFolder, _ sample: DatasetSample) -> CachedFile {
    CachedFile(folder, sample.name, in: outputFolder, format: options.format)
  }

  /// The files that a sample should have.
  func wanted(_ sample: DatasetSample) -> Set<CacheFolder> {
    var folders: Set<CacheFolder> = [.conditions]
    let paths = sample.paths
    if paths[.video] != nil {
      folders.insert(.latents)
      if paths[.referenceVideo] != nil { folders.insert(.referenceLatents) }
      if paths[.videoMask] != nil { folders.insert(.videoMasks) }
      if options.audio != .skipped { folders.insert(.audioLatents) }
    }
    if paths[.audio] != nil { folders.insert(.audioLatents) }
    if paths[.referenceAudio] != nil { folders.insert(.referenceAudioLatents) }
    if paths[.audioMask] != nil, folders.contains(.audioLatents) { folders.insert(.audioMasks) }
    return folders
  }

  /// What a file should be made from.
  ///
  /// - Parameter clip: nil where the clip has not been read, and no file says how.
  /// - Throws: `MediaError` for a source that is missing or can't be read.
  func expected(
    _ folder: CacheFolder, _ sample: DatasetSample, prompt: String, clip: ClipFacts?
  ) throws -> Expectation {
    let paths = sample.paths
    switch folder {
    case .conditions: return .made(rules.conditions(prompt: prompt))
    case .latents:
      guard let path = paths[.video] else { return .silent }
      return .made(try rules.latents(path))
    case .referenceLatents:
      guard let clip, let path = paths[.referenceVideo] else { return .unknown }
      return .made(try rules.reference(path, clip))
    case .videoMasks:
      guard let clip, let path = paths[.videoMask] else { return .unknown }
      return .made(try rules.videoMask(path, clip))
    case .audioLatents:
      if let path = paths[.audio] {
        guard paths[.video] == nil || clip != nil else { return .unknown }
        return .made(try rules.audio(folder, path, seconds: clip.map(secondsOfColumn)))
      }
      guard let clip, let path = paths[.video] else { return .unknown }
      guard clip.hasAudio else { return .silent }
      return .made(try rules.audio(folder, path, seconds: clip.seconds, isClip: true))
    case .referenceAudioLatents:
      guard let path = paths[.referenceAudio] else { return .unknown }
      guard paths[.video] == nil || clip != nil else { return .unknown }
      return .made(try rules.audio(folder, path, seconds: clip.map(secondsOfColumn)))
    case .audioMasks:
      guard let path = paths[.audioMask] else { return .unknown }
      let audio = try expected(.audioLatents, sample, prompt: prompt, clip: clip)
      guard case .made(let fingerprint) = audio else { return audio }
      return .made(try rules.audioMask(path, of: fingerprint))
    }
  }

  /// How much of a sound from a file of its own goes with a clip. The reference takes every clip
  /// for one of the longest bucket at 25 frames a second.
  func secondsOfColumn(_ clip: ClipFacts) -> Double {
    options.isCompatible ? Double(options.buckets.map(\.frames).max() ?? 0) / 25 : clip.seconds
  }

  /// Whether a file is there and was made from what is expected.
  func isUpToDate(_ folder: CacheFolder, _ sample: DatasetSample, _ expectation: Expectation)
    -> Bool
  {
    guard case .made(let expected) = expectation else { return false }
    let isMask = folder == .videoMasks || folder == .audioMasks
    // The reference's --overwrite does not reach masks.
    guard !options.overwrite || options.isCompatible && isMask else { return false }
    guard let found = file(folder, sample).fingerprint, expected.fits(found) else { return false }
    // A damaged clip that was cached fails its row now.
    if options.isStrict, found[.sourceDamage] != nil { return false }
    switch folder {
    case .latents:
      return ClipFacts(found)?.remains(among: options.buckets, keepsMotion: !options.isCompatible)
        ?? false
    case .referenceLatents where options.isCompatible:
      return ClipFacts(found)?.remains(among: rules.referenceBuckets, keepsMotion: false) ?? false
    case .audioLatents, .referenceAudioLatents:
      return expected[.seconds] != nil || rules.durationRemains(found)
    default: return true
    }
  }

  /// What the latents of an earlier run say of their clip, if they are up to date.
  func cachedFacts(_ sample: DatasetSample) throws -> ClipFacts? {
    guard sample.paths[.video] != nil, file(.latents, sample).exists,
      isUpToDate(.latents, sample, try expected(.latents, sample, prompt: "", clip: nil))
    else { return nil }
    return file(.latents, sample).fingerprint.flatMap(ClipFacts.init)
  }

  /// Looks through a sample's files. Sources are read only where there is something to compare them
  /// with.
  ///
  /// - Throws: `MediaError` for a clip, or a sound by itself, that is missing or can't be looked
  ///   at.
  func work(_ sample: DatasetSample) throws -> SampleWork {
    let prompt = options.captions.prompt(sample.caption)
    if let first = sample.paths[.video] ?? sample.paths[.audio] { try rules.requireSource(first) }
    let clip = try cachedFacts(sample)
    var work = SampleWork(sample: sample, prompt: prompt, pending: [])
    for folder in wanted(sample) {
      guard clip != nil || file(folder, sample).exists else {
        work.pending.insert(folder)
        continue
      }
      let expectation: Expectation
      do {
        expectation = try expected(folder, sample, prompt: prompt, clip: clip)
      } catch is MediaError where folder != .audioLatents || sample.paths[.video] != nil {
        expectation = .unknown  // a file beside the clip; told when it is read
      }
      if case .silent = expectation, options.audio != .required || clip?.isImage == true,
        sample.paths[.audioMask] == nil, file(folder, sample).fingerprint == nil
      {
        continue
      }
      if isUpToDate(folder, sample, expectation) {
        work.upToDate.insert(folder)
      } else {
        work.pending.insert(folder)
      }
    }
    return work
  }
}
