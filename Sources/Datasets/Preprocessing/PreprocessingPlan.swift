import Foundation
import LTX
import LanguageModels
import Media
import NN
import Support
import TensorFiles

/// What has to be done for a dataset. Making it loads no model and decodes no long clip; all
/// mistakes that can be known before the work are found here.
public struct PreprocessingPlan: Sendable {
  let options: PreprocessingOptions
  let checkpoint: Checkpoint
  let factors: CompressionFactors
  let check: SampleCheck
  let hashes: SourceHashes
  public let outputFolder: String
  /// Samples that can be worked on, as far as is known.
  let work: [SampleWork]
  /// The index of repeats with those of the dataset; nil if this process does not write it.
  let repeats: SampleRepeats?
  /// What is known before the work.
  let report: PreprocessingReport
  /// Whether the dataset has clips; sounds otherwise.
  public let hasVideo: Bool

  /// - Throws: `PreprocessingError`, `NoUsableSamples`, `ConfigurationError`, `TensorFileError` or
  ///   `TorchError`, which say what to change.
  public init(_ options: PreprocessingOptions) throws {
    self.options = options
    try options.device.prepare()
    let dataset = try Dataset(path: options.dataset, columns: options.columns)
    hasVideo = dataset.samples.contains { $0.paths[.video] != nil }

    checkpoint = try Checkpoint(options.models)
    try Self.requireModels(checkpoint, options, dataset)
    factors =
      hasVideo
      ? try VideoVAEConfiguration.Encoder(checkpoint.config).compression : CompressionFactors.usual
    let referenceBuckets = try Self.requireSizes(options, dataset, checkpoint, factors)

    outputFolder = options.outputFolder ?? Self.defaultOutput(options.dataset)
    if let problem = OutputFolder.problem(outputFolder + "/latents") {
      throw PreprocessingError(
        .writing, file: outputFolder, "\(problem); choose another --output-dir")
    }
    hashes = SourceHashes(folder: outputFolder, share: options.share)
    let rules = try CacheRules(
      options, hashes: hashes, factors: factors, referenceBuckets: referenceBuckets)
    check = SampleCheck(options: options, rules: rules, outputFolder: outputFolder)

    var report = PreprocessingReport(
      dataset: options.dataset, outputFolder: outputFolder, share: options.share)
    report.notes = Self.notes(dataset, options)
    if options.share.index == 0 {
      report.problems = dataset.problems.map {
        report.failure(line: $0.line, sample: $0.sample, folder: nil, $0.problem)
      }
      report.rows = dataset.problems.count
      report.skipped = dataset.skipped.files
      report.hiddenFiles = dataset.skipped.hiddenCount
      report.notes += dataset.skipped.notes()
    }
    repeats = options.share.index == 0 ? Self.repeats(dataset, outputFolder, &report) : nil
    var work: [SampleWork] = []
    var unasked: [CacheFolder: Int] = [:]
    for sample in dataset.samples where options.share.contains(sample.index) {
      report.rows += 1
      do {
        let found = try check.work(sample)
        let wanted = check.wanted(sample)
        for folder in CacheFolder.allCases
        where !wanted.contains(folder) && check.file(folder, sample).exists {
          unasked[folder, default: 0] += 1
        }
        for (role, folder, base) in Self.companions
        where dataset.columns[role] != nil && sample.paths[role] == nil && wanted.contains(base) {
          report.add(
            folder, sample,
            "\(sample.media): the row has no \(role.rawValue), which others have; add it or remove the row",
            check)
        }
        if found.pending.contains(.latents), let path = sample.paths[.video] {
          try ClipReader(
            buckets: options.buckets, frameRate: options.frameRate,
            isCompatible: options.isCompatible,
            deinterlaces: options.deinterlaces, isStrict: options.isStrict, color: options.color
          ).check(path)
        }
        work.append(found)
      } catch let error as MediaError {
        report.add(error, sample, check)
        // The reference encodes the captions of clips that it skips.
        if options.isCompatible { work.append(check.captionAlone(sample)) }
      }
    }
    guard !work.isEmpty || report.rows == 0 || options.share.count > 1 else {
      throw NoUsableSamples(problems: report.problems)
    }
    for (folder, count) in unasked.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      report.notes.append(
        "\(folder.rawValue)/ holds files of \(count) of the samples, made by an earlier run, which this one has not "
          + "asked for; training that reads the folder finds them")
    }
    self.work = work
    self.report = report
  }

  /// `.precomputed` beside a dataset file, or within a folder of media.
  public static func defaultOutput(_ dataset: String) -> String {
    let path = absolutePath(dataset)
    var isFolder: ObjCBool = false
    let folder =
      FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
      ? path : (path as NSString).deletingLastPathComponent
    return absolutePath(".precomputed", in: folder)
  }

  /// Columns that every row must fill if any does: a sample without would be left out of training.
  private static let companions: [(role: Role, folder: CacheFolder, of: CacheFolder)] = [
    (.referenceVideo, .referenceLatents, .latents), (.videoMask, .videoMasks, .latents),
    (.referenceAudio, .referenceAudioLatents, .conditions),
    (.audioMask, .audioMasks, .audioLatents),
  ]

  /// Checks that both the checkpoint and the text encoder are of kinds that can be used.
  private static func requireModels(
    _ checkpoint: Checkpoint, _ options: PreprocessingOptions, _ dataset: Dataset
  ) throws {
    let hasVideo = dataset.samples.contains { $0.paths[.video] != nil }
    let hasAudio = dataset.samples.contains { sample in
      sample.paths[.audio] != nil || sample.paths[.referenceAudio] != nil
        || sample.paths[.video] != nil && options.audio != .skipped
    }
    try checkpoint.require("transformer")
    if hasVideo { try checkpoint.require("vae") }
    _ = try TextConfiguration(checkpoint.config)
    let root = checkpoint.weights()
    var needed: [(String, String, ModelFiles.Component, String)] = []
    if hasVideo {
      needed.append((Checkpoint.Prefix.videoVAE + ".encoder", "video VAE encoder", .videoVAE, ""))
    }
    if hasAudio {
      needed.append(
        (
          Checkpoint.Prefix.audioVAE + ".encoder", "audio VAE encoder", .audioVAE,
          ", or leave the sound of clips out with --skip-audio"
        ))
    }
    needed.append((Checkpoint.Prefix.textProjection, "text projection", .transformer, ""))
    for (path, what, component, alternative) in needed {
      let scope = path.split(separator: ".").reduce(root) { $0 / String($1) }
      guard !scope.isPresent else { continue }
      throw PreprocessingError(
        .model, file: options.models.path(of: component) ?? options.models.name,
        "holds no \(what) (\(scope.path).…); give an LTX-2 checkpoint with all of its parts in one file, or "
          + "another \(component.option)\(alternative)")
    }
    guard let textEncoder = options.models.textEncoder else {
      throw PreprocessingError(
        .option, "--text-encoder-path: is not given; name the folder or the file of a Gemma 3 model"
      )
    }
    try TextEncoderFiles(path: textEncoder).requireAll()
  }

  /// Checks buckets and the scales of references.
  ///
  /// - Returns: the buckets of references.
  private static func requireSizes(
    _ options: PreprocessingOptions, _ dataset: Dataset, _ checkpoint: Checkpoint,
    _ factors: CompressionFactors
  ) throws -> [ResolutionBucket] {
    guard dataset.samples.contains(where: { $0.paths[.video] != nil }) else { return [] }
    let buckets = options.buckets
    guard !buckets.isEmpty else {
      throw PreprocessingError(
        .option, "--resolution-buckets: give at least one, such as 768x768x49")
    }
    let padding = try VideoVAEConfiguration.Encoder(checkpoint.config).padding
    func requireFit(_ bucket: ResolutionBucket) throws {
      try bucket.requireFit(factors)
      if padding == .reflect, min(bucket.height / factors.height, bucket.width / factors.width) < 2
      {
        throw PreprocessingError(
          .option,
          "--resolution-buckets: \(bucket): this checkpoint's video VAE needs at least "
            + "\(2 * factors.width)x\(2 * factors.height) pixels")
      }
    }
    try buckets.forEach(requireFit)
    guard dataset.columns[.referenceVideo] != nil else { return buckets }

    let (space, time) = (options.referenceDownscale, options.referenceTemporalScale)
    for bucket in buckets {
      guard bucket.width.isMultiple(of: space * factors.width),
        bucket.height.isMultiple(of: space * factors.height)
      else {
        throw PreprocessingError(
          .option,
          "--reference-downscale-factor: \(bucket) by \(space) gives no size that the video VAE can take; width and "
            + "height must be multiples of \(space * factors.width) and \(space * factors.height)")
      }
      guard (bucket.frames - 1).isMultiple(of: time * factors.time) else {
        throw PreprocessingError(
          .option,
          "--reference-temporal-scale-factor: every \(time)th of \(bucket.frames) frames gives no length that the "
            + "video VAE can take; give buckets of a multiple of \(time * factors.time) frames, plus 1"
        )
      }
    }
    let scaled = buckets.map {
      ResolutionBucket(width: $0.width / space, height: $0.height / space, frames: $0.frames)
    }
    try scaled.forEach(requireFit)
    return scaled
  }

  /// The index of an earlier run with the counts of this dataset.
  private static func repeats(
    _ dataset: Dataset, _ cache: String, _ report: inout PreprocessingReport
  ) -> SampleRepeats {
    var repeats = SampleRepeats()
    do { repeats = try SampleRepeats(cache: cache) } catch {
      report.notes.append("\(describe(error)); it is written again from this dataset")
    }
    for sample in dataset.samples { repeats.set(sample.repeats, for: sample.name) }
    let several = dataset.samples.count { $0.repeats > 1 }
    if several > 0 {
      let total = dataset.samples.reduce(0) { $0 + $1.repeats }
      report.notes.append(
        "\(several) of \(dataset.samples.count) samples have repeats: an epoch of training shows "
          + "\(total) samples")
    }
    return repeats
  }

  private static func notes(_ dataset: Dataset, _ options: PreprocessingOptions) -> [String] {
    var notes: [String] = []
    if options.share.count > 1 {
      notes.append(
        "process \(options.share.index) of \(options.share.count), as the environment says: it takes every "
          + "\(options.share.count)th sample")
    }
    let columns = Role.allCases.compactMap { role in dataset.columns[role].map { (role, $0) } }
    let renamed = columns.map { role, name in
      role.rawValue == name ? name : "\(role.rawValue) from \"\(name)\""
    }
    notes.append("columns: " + renamed.joined(separator: ", "))
    if !dataset.columns.unused.isEmpty {
      notes.append("columns that nothing reads: " + dataset.columns.unused.joined(separator: ", "))
    }
    let hasVideo = dataset.samples.contains { $0.paths[.video] != nil }
    let hasAudio = dataset.samples.contains {
      $0.paths[.audio] != nil || $0.paths[.video] != nil && options.audio != .skipped
    }
    for (role, isUsed, reason) in [
      (Role.referenceVideo, hasVideo, "there are no videos"),
      (.videoMask, hasVideo, "there are no videos"),
      (.audioMask, hasAudio, "sound is left out"),
    ] where !isUsed {
      if let column = dataset.columns[role] {
        notes.append("the column \"\(column)\" is not read: \(reason)")
      }
    }
    if options.isCompatible {
      notes.append("--compat: all as the reference's scripts do it, with their known faults")
    }
    return notes
  }
}

/// No row of the dataset can be used.
public struct NoUsableSamples: Error, Sendable, CustomStringConvertible {
  public let problems: [PreprocessingReport.Problem]

  public var description: String {
    (["none of the rows can be used"] + capped(problems.map { "  \($0)" }) { "  and \($0) more" })
      .joined(separator: "\n")
  }
}

extension SampleCheck {
  /// The work of a sample whose media can't be used.
  func captionAlone(_ sample: DatasetSample) -> SampleWork {
    let prompt = options.captions.prompt(sample.caption)
    let isThere = isUpToDate(.conditions, sample, .made(rules.conditions(prompt: prompt)))
    return SampleWork(
      sample: sample, prompt: prompt, pending: isThere ? [] : [.conditions],
      upToDate: isThere ? [.conditions] : [])
  }
}

extension PreprocessingReport {
  func failure(line: Int?, sample: String?, folder: CacheFolder?, _ reason: String) -> Problem {
    Problem(
      severity: .failure, dataset: dataset, line: line, sample: sample, folder: folder,
      reason: reason)
  }

  /// A sample whose media can't be used at all.
  ///
  /// What an earlier run made of another source is not removed, for that source may only have been
  /// moved; but it must not go unnoticed.
  mutating func add(_ error: any Error, _ sample: DatasetSample, _ check: SampleCheck) {
    let folder: CacheFolder = sample.paths[.video] == nil ? .audioLatents : .latents
    add(folder, sample, describe(error), check)
  }

  /// A file that could not be made.
  mutating func add(
    _ folder: CacheFolder, _ sample: DatasetSample, _ reason: String, _ check: SampleCheck
  ) {
    let file = check.file(folder, sample)
    let older = file.exists ? " \(file.path) of an earlier run is still there." : ""
    problems.append(failure(line: sample.line, sample: sample.name, folder: folder, reason + older))
    counts[folder, default: Count()].failed += 1
  }

  mutating func warn(_ folder: CacheFolder, _ sample: DatasetSample, _ reason: String) {
    problems.append(
      Problem(
        severity: .warning, dataset: dataset, line: sample.line, sample: sample.name,
        folder: folder,
        reason: reason))
  }
}
