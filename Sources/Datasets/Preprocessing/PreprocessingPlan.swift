import Foundation
import LTX
import Media
import NN
import Support
import TensorFiles

/// The work that a dataset needs. Planning loads no model and decodes no long clip, and finds all
/// problems that can be found before the work starts.
public struct PreprocessingPlan: Sendable {
  let options: PreprocessingOptions
  let checkpoint: Checkpoint
  let check: SampleCheck
  let hashes: SourceHashes
  public let outputFolder: String
  /// The samples that can be used, as far as known.
  let work: [SampleWork]
  /// The index of repeats with those of the dataset; nil if this process does not write it.
  let repeats: SampleRepeats?
  /// The report before any work is done.
  let report: PreprocessingReport
  /// The memory plans of the models that are needed.
  public let memory: PreprocessingMemory

  /// - Throws: `Issue` for an option, a dataset or a model that can't be used, and if no row can be
  ///   used; `TensorFileError` or `TorchError`.
  public init(_ options: PreprocessingOptions) throws {
    self.options = options
    try options.device.prepare()
    let dataset = try Dataset(path: options.dataset, columns: options.columns)
    let hasVideo = dataset.samples.contains { $0.paths[.video] != nil }

    checkpoint = try Checkpoint(options.models)
    let doubt = try Self.requireModels(checkpoint, options, dataset)
    let factors =
      hasVideo ? try checkpoint.videoCompression() : CompressionFactors.usual
    let referenceBuckets = try Self.requireSizes(options, dataset, checkpoint, factors)

    outputFolder = options.outputFolder ?? Self.defaultOutput(options.dataset)
    if let problem = OutputFolder.problem(outputFolder + "/latents") {
      throw Issue(
        ["output", .file(outputFolder)], problem, suggestion: "Choose another output folder.")
    }
    hashes = SourceHashes(folder: outputFolder, share: options.share)
    let rules = try CacheRules(
      options, hashes: hashes, factors: factors, referenceBuckets: referenceBuckets)
    check = SampleCheck(rules: rules, outputFolder: outputFolder)

    var report = PreprocessingReport(
      dataset: options.dataset, outputFolder: outputFolder, share: options.share)
    report.notes = Self.notes(dataset, options) + [doubt].compactMap { $0 }
    if options.share.index == 0 {
      report.problems = dataset.problems.map {
        report.failure(
          line: $0.line, sample: dataset.sampleName(of: $0), folder: nil, "\($0.withoutLine)")
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
        let wanted = Set(check.wanted(sample).map(\.folder))
        for folder in CacheFolder.all
        where !wanted.contains(folder) && check.file(folder, sample).exists {
          unasked[folder, default: 0] += 1
        }
        // A sample without a column that other samples have would be skipped in training.
        for artifact in Artifacts.all where artifact.suits(sample, options) {
          guard let role = artifact.column, dataset.columns[role] != nil,
            sample.paths[role] == nil
          else { continue }
          report.add(
            artifact.folder, sample,
            "\(sample.media): the row has no \(role.name), which others have. "
              + "Add it or remove the row", check)
        }
        if found.pending.contains(.latents), let path = sample.paths[.video] {
          try ClipReader(options, buckets: options.buckets).check(path)
        }
        work.append(found)
      } catch let error as MediaError {
        report.add(error, sample, check)
        // Upstream encodes the captions of clips that it skips.
        if options.isCompatible { work.append(check.captionAlone(sample)) }
      }
    }
    guard !work.isEmpty || report.rows == 0 || options.share.count > 1 else {
      let reasons = capped(report.problems.map { "  \($0)" }) { "  and \($0) more" }
      throw Issue(
        [.file(options.dataset)],
        "none of the rows can be used\n" + reasons.joined(separator: "\n"))
    }
    for (folder, count) in unasked.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
      report.notes.append(
        "\(folder.rawValue)/ holds files of \(count) of the samples that an earlier run made and "
          + "this one did not request; training that reads the folder uses them")
    }
    self.work = work
    self.report = report
    memory = try PreprocessingMemory(
      options, checkpoint, encoding: work.reduce(into: []) { $0.formUnion($1.pending) })
  }

  /// `.precomputed` beside a dataset file, or within a folder of media.
  public static func defaultOutput(_ dataset: String) -> String {
    let path = absolutePath(dataset)
    let folder = isFolder(path) ? path : (path as NSString).deletingLastPathComponent
    return absolutePath(".precomputed", in: folder)
  }

  /// Checks that the model has the components that the dataset needs, and that the text encoder
  /// is complete and belongs to it.
  ///
  /// - Returns: A warning about the text encoder, or nil.
  private static func requireModels(
    _ checkpoint: Checkpoint, _ options: PreprocessingOptions, _ dataset: Dataset
  ) throws -> String? {
    let artifacts = Artifacts.all.filter { artifact in
      dataset.samples.contains { artifact.isWanted($0, options) }
    }
    let components = Set(artifacts.compactMap(\.component))
    try checkpoint.require("transformer")
    if components.contains(.videoVAE) { try checkpoint.require("vae") }
    let root = checkpoint.weights()
    let parts: [(path: String, noun: String, component: ModelFiles.Component)] = [
      (Checkpoint.Prefix.videoVAE + ".encoder", "video VAE encoder", .videoVAE),
      (Checkpoint.Prefix.audioVAE + ".encoder", "audio VAE encoder", .audioVAE),
    ]
    for (path, noun, component) in parts where components.contains(component) {
      let scope = path.split(separator: ".").reduce(root) { $0 / String($1) }
      guard !scope.isPresent else { continue }
      throw Issue(
        [.file(options.models.path(of: component) ?? options.models.name)],
        "holds no \(noun) (\(scope.path).…)",
        suggestion: "Use an LTX-2 checkpoint with all parts in one file, or a file that holds this "
          + "part\(component == .audioVAE ? "; or skip the audio of clips" : "").")
    }
    return try checkpoint.requireTextEncoder()
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
      throw Issue(["buckets"], "is empty", suggestion: "Give at least one, such as 768x768x49.")
    }
    let encoder = try VideoVAEConfiguration.Encoder(checkpoint.config)
    guard encoder.compression == factors else {
      func words(_ f: CompressionFactors) -> String { "\(f.time) x \(f.height) x \(f.width)" }
      throw Issue(
        [.file(options.models.path(of: .videoVAE) ?? options.models.name)],
        "the video VAE's encoder compresses by \(words(encoder.compression)) (expected "
          + "\(words(factors)), which a nested configuration means)")
    }
    let padding = encoder.padding
    func requireFit(_ bucket: ResolutionBucket) throws {
      try bucket.requireFit(factors)
      if padding == .reflect, min(bucket.height / factors.height, bucket.width / factors.width) < 2
      {
        throw Issue(
          ["buckets"],
          "\(bucket): this checkpoint's video VAE needs at least "
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
        throw Issue(
          ["referenceDownscale"],
          "\(bucket) divided by \(space) is not a size that the video VAE can encode",
          suggestion: "Width and height must be multiples of \(space * factors.width) and "
            + "\(space * factors.height).")
      }
      guard (bucket.frames - 1).isMultiple(of: time * factors.time) else {
        throw Issue(
          ["referenceTemporalScale"],
          "every \(time)th of \(bucket.frames) frames is not a length that the video VAE can encode",
          suggestion: "The frames of a bucket must be a multiple of \(time * factors.time), plus 1."
        )
      }
    }
    let scaled = buckets.map {
      ResolutionBucket(width: $0.width / space, height: $0.height / space, frames: $0.frames)
    }
    try scaled.forEach(requireFit)
    return scaled
  }

  /// The index of an earlier run, updated with the counts of this dataset.
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
        "process \(options.share.index) of \(options.share.count), by the environment: it processes "
          + "every \(options.share.count)th sample")
    }
    let columns = Role.all.compactMap { role in dataset.columns[role].map { (role, $0) } }
    let renamed = columns.map { role, name in
      role.name == name ? name : "\(role.name) from \"\(name)\""
    }
    notes.append("columns: " + renamed.joined(separator: ", "))
    if !dataset.columns.unused.isEmpty {
      notes.append("columns that nothing reads: " + dataset.columns.unused.joined(separator: ", "))
    }
    if dataset.leftOut > 0 {
      notes.append(
        "\(dataset.leftOut) rows are marked as left out in \(ReviewMark.column) and not used")
    }
    for artifact in Artifacts.all {
      guard let column = artifact.column.flatMap({ dataset.columns[$0] }),
        !dataset.samples.contains(where: { artifact.suits($0, options) })
      else { continue }
      notes.append("the column \"\(column)\" is not read: \(artifact.reasonUnsuited)")
    }
    if options.isCompatible {
      notes.append("everything follows upstream's scripts, including their known faults")
    }
    return notes
  }
}

extension PreprocessingReport {
  func failure(line: Int?, sample: String?, folder: CacheFolder?, _ reason: String) -> Problem {
    Problem(
      severity: .failure, dataset: dataset, line: line, sample: sample, folder: folder,
      reason: reason)
  }

  /// Adds a sample whose media can't be used at all.
  ///
  /// Files of an earlier run are kept, because their source may only have been moved, and the
  /// report mentions them.
  mutating func add(_ error: any Error, _ sample: DatasetSample, _ check: SampleCheck) {
    add(sample.mainFolder, sample, describe(error), check)
  }

  /// Adds a file that could not be made.
  mutating func add(
    _ folder: CacheFolder, _ sample: DatasetSample, _ reason: String, _ check: SampleCheck
  ) {
    let file = check.file(folder, sample)
    let older = file.exists ? " \(file.path) of an earlier run still exists." : ""
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
