import LTX
import Media

/// The work to do for a sample: the files that it should have, by whether they are known to be up
/// to date.
struct SampleWork: Sendable {
  let sample: DatasetSample
  /// The text that the text encoder reads.
  let prompt: String
  /// Files that are not known to be up to date.
  var pending: Set<CacheFolder>
  var upToDate: Set<CacheFolder> = []
}

/// Finds the files of a sample that have to be made.
struct SampleCheck: Sendable {
  let rules: CacheRules
  let outputFolder: String

  var options: PreprocessingOptions { rules.options }

  func file(_ folder: CacheFolder, _ sample: DatasetSample) -> CachedFile {
    CachedFile(folder, sample.name, in: outputFolder, format: options.format)
  }

  /// The kinds of files that a sample should have.
  func wanted(_ sample: DatasetSample) -> [any Artifact] {
    Artifacts.all.filter { $0.isWanted(sample, options) }
  }

  func inputs(_ sample: DatasetSample, clip: ClipFacts?, prompt: String = "") -> ArtifactInputs {
    ArtifactInputs(sample: sample, prompt: prompt, clip: clip, rules: rules)
  }

  /// Whether a file exists and was made from the expected inputs.
  func isUpToDate(
    _ artifact: any Artifact, _ sample: DatasetSample, _ expectation: Expectation
  ) -> Bool {
    guard case .made(let expected) = expectation else { return false }
    guard !options.overwrite || options.isCompatible && artifact.survivesUpstreamOverwrite else {
      return false
    }
    guard let found = file(artifact.folder, sample).fingerprint, expected.fits(found) else {
      return false
    }
    // A damaged clip that an earlier run cached fails its row now.
    if options.isStrict, found[.sourceDamage] != nil { return false }
    return artifact.isCurrent(found, expected: expected, rules)
  }

  /// Returns the clip's facts as recorded in the latents of an earlier run, if these are up to
  /// date.
  func cachedFacts(_ sample: DatasetSample) throws -> ClipFacts? {
    let latents = VideoLatentsArtifact()
    guard sample.paths[.video] != nil, file(latents.folder, sample).exists,
      isUpToDate(latents, sample, try latents.expectation(inputs(sample, clip: nil)))
    else { return nil }
    return file(latents.folder, sample).fingerprint.flatMap(ClipFacts.init)
  }

  /// Checks a sample's files. A source is read only if a cached file exists to compare it with.
  ///
  /// - Throws: `MediaError` if the sample's main media file is missing or can't be read.
  func work(_ sample: DatasetSample) throws -> SampleWork {
    let prompt = options.captions.prompt(sample.caption)
    if let first = sample.paths[.video] ?? sample.paths[.audio] { try rules.requireSource(first) }
    let clip = try cachedFacts(sample)
    var work = SampleWork(sample: sample, prompt: prompt, pending: [])
    for artifact in wanted(sample) {
      let folder = artifact.folder
      guard clip != nil || file(folder, sample).exists else {
        work.pending.insert(folder)
        continue
      }
      let expectation: Expectation
      do {
        expectation = try artifact.expectation(inputs(sample, clip: clip, prompt: prompt))
      } catch is MediaError where folder != sample.mainFolder {
        // A file beside the clip is reported when it is read.
        expectation = .unknown
      }
      if case .absent(isInOrder: true) = expectation, file(folder, sample).fingerprint == nil {
        continue
      }
      if isUpToDate(artifact, sample, expectation) {
        work.upToDate.insert(folder)
      } else {
        work.pending.insert(folder)
      }
    }
    return work
  }

  /// Returns the work of a sample whose media can't be used: only its caption.
  func captionAlone(_ sample: DatasetSample) -> SampleWork {
    let prompt = options.captions.prompt(sample.caption)
    let text = TextFeaturesArtifact()
    let isThere = isUpToDate(
      text, sample, text.expectation(inputs(sample, clip: nil, prompt: prompt)))
    return SampleWork(
      sample: sample, prompt: prompt, pending: isThere ? [] : [text.folder],
      upToDate: isThere ? [text.folder] : [])
  }
}

extension DatasetSample {
  /// The folder of the sample's main file, without which it can't be used.
  var mainFolder: CacheFolder { paths[.video] == nil ? .audioLatents : .latents }
}
