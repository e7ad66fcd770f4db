import ArgumentParser
import Datasets
import Foundation
import LTX
import Media
import Support
import TensorFiles

/// `ltx dataset`: inspects a preprocessed dataset.
struct DatasetCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "dataset",
    abstract: "Check a preprocessed dataset, print its statistics, or show it as a page.",
    discussion: """
      CACHE is the output of `ltx preprocess` or of the official trainer's scripts, or the folder \
      that contains it as .precomputed. Without --dataset, the dataset file is the only one beside \
      the cache.

      Example:
        ltx dataset check clips
      """,
    subcommands: [
      CheckDatasetCommand.self, DatasetStatisticsCommand.self, PreviewDatasetCommand.self,
    ])
}

extension SubjectTable {
  /// The options of `ltx dataset`, by the subjects of `Datasets`.
  fileprivate static let dataset = SubjectTable.preprocessing.merging([
    ["json"]: "--json", ["output"]: "--output",
  ])
}

/// The options for the data that a cache is compared with.
struct DatasetArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp("The dataset file: .json, .jsonl or .csv.", valueName: "file"),
    completion: .file())
  var dataset: String?

  @OptionGroup(title: "Columns") var columns: ColumnOptions

  @OptionGroup var model: CheckpointArguments

  @Option(
    help: ArgumentHelp("The transformer's file, instead of --model-path.", valueName: "file"),
    completion: .file())
  var transformerPath: String?

  @Flag(help: "Skip the media files, which takes less time.")
  var skipSources = false

  func validate() throws {
    guard model.modelPath == nil || transformerPath == nil else {
      throw ValidationError(
        "--transformer-path and --model-path contradict each other, because the checkpoint has a "
          + "transformer. Remove one of them")
    }
  }

  var options: DatasetCheckOptions {
    var options = DatasetCheckOptions()
    options.dataset = dataset
    options.columns = columns.named
    options.skipsSources = skipSources
    options.models = model.files(transformer: transformerPath)
    return options
  }
}

/// `ltx dataset check`.
struct CheckDatasetCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Find problems of a preprocessed dataset.",
    discussion: """
      Reads every file of the cache and checks that it is complete, that its tensors have the right \
      shapes and dtypes and only finite values, and that the files of each sample exist and agree. \
      With a dataset file, checks that rows, captions, repeats and media files are those that were \
      cached.

      Exit status: 0 without problems, 1 with problems, 2 if the input can't be used.

      Example:
        ltx dataset check .precomputed --dataset dataset.json
      """)

  @Argument(help: "The cache, or the folder that contains .precomputed.", completion: .directory)
  var cache: String

  @OptionGroup var arguments: DatasetArguments

  @Option(
    name: [.customLong("text-encoder-path"), .customLong("gemma-root")],
    help: ArgumentHelp(
      """
      The text encoder that the cache should have been made with. Its tokenizer counts the tokens \
      of captions (max 1024).
      """,
      valueName: "path"),
    completion: .file())
  var textEncoderPath: String?

  @Option(
    help: ArgumentHelp("A JSON file to write all problems to.", valueName: "file"),
    completion: .file())
  var json: String?

  func run() throws {
    let checker = try checkingInput(.dataset) {
      var options = arguments.options
      options.textEncoder = textEncoderPath
      if let json { try requireOutput("json", json, cache: cache, options) }
      return try CacheChecker(cache: cache, options)
    }
    let progress = PhasedProgress()
    let report = checker.run { phase, done, total in
      progress.show(phase, done, of: total)
    }
    progress.finish()
    for note in report.notes { printError("note: \(SubjectTable.dataset.message(note))") }
    print(Self.table(report), terminator: "")
    if let json { try working { try writeJSON(report, to: json) } }
    if !report.problems.isEmpty { throw ExitCode(1) }
  }

  /// A heading for each kind of problem, a line for each problem, and a summary.
  static func table(_ report: DatasetReport) -> String {
    var text = ""
    for kind in DatasetProblem.Kind.allCases {
      let problems = report.problems.filter { $0.kind == kind }
      if problems.isEmpty { continue }
      text += "\(kind.title): \(problems.count)\n"
      let lines = problems.map { "  \(SubjectTable.dataset.message("\($0)"))" }
      for line in capped(lines, rest: { "  and \($0) more; --json FILE writes them all" }) {
        text += line + "\n"
      }
    }
    let found =
      report.problems.isEmpty ? "no problems found" : counted(report.problems.count, "problem")
    return text
      + "\(counted(report.samples, "sample")), \(counted(report.files, "file")): \(found)\n"
  }
}

extension DatasetProblem.Kind {
  var title: String {
    switch self {
    case .unreadable: "files that can't be read"
    case .damage: "made from damaged clips"
    case .tensors: "tensors that are missing or wrong"
    case .numbers: "values that are not finite, or all 0"
    case .inconsistent: "files that differ from the others"
    case .incomplete: "samples without some of their files"
    case .mismatch: "files that contradict each other"
    case .silence: "silent audio"
    case .leftover: "leftovers"
    case .row: "rows that can't be used"
    case .notCached: "rows that are not cached"
    case .notListed: "files without a row in the dataset"
    case .source: "media files that are missing or have changed"
    case .caption: "captions"
    case .repeats: "repeats"
    case .fingerprint: "files made with another model or other options"
    }
  }
}

/// `ltx dataset stats`.
struct DatasetStatisticsCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "stats",
    abstract: "Print durations, buckets, caption lengths and loudness of a preprocessed dataset.",
    discussion: """
      The loudness is that of the media files: integrated, by ITU-R BS.1770, in LUFS. The peak is in \
      dB of full scale.

      Exit status: 0, or 2 if the input can't be used.

      Example:
        ltx dataset stats .precomputed --json stats.json
      """)

  @Argument(help: "The cache, or the folder that contains .precomputed.", completion: .directory)
  var cache: String

  @OptionGroup var arguments: DatasetArguments

  @Option(
    help: ArgumentHelp(
      "A JSON file to write the statistics to, with those of each sample.", valueName: "file"),
    completion: .file())
  var json: String?

  func run() throws {
    let progress = PhasedProgress()
    let statistics = try checkingInput(.dataset) {
      if let json { try requireOutput("json", json, cache: cache, arguments.options) }
      defer { progress.finish() }
      return try DatasetStatistics(cache: cache, arguments.options) { phase, done, total in
        progress.show(phase == .files ? "reading" : "listening", done, of: total, unit: "files")
      }
    }
    for note in capped(statistics.notes, rest: { "\($0) more; --json FILE writes them all" }) {
      printError("note: \(SubjectTable.dataset.message(note))")
    }
    print(Self.table(statistics), terminator: "")
    if let json { try working { try writeJSON(statistics, to: json) } }
  }

  static func table(_ statistics: DatasetStatistics) -> String {
    func counts(_ counts: [DatasetStatistics.Count]) -> String {
      capped(counts.map { "\($0.value): \($0.count)" }) { "and \($0) more" }.joined(separator: ", ")
    }
    func spread(
      _ spread: DatasetStatistics.Spread, _ digits: Int, _ unit: String, sum: Bool = false
    )
      -> String
    {
      func number(_ value: Double) -> String { String(format: "%.\(digits)f", value) }
      return
        "\(number(spread.minimum)) to \(number(spread.maximum))\(unit), median \(number(spread.median))"
        + (sum ? ", sum \(number(spread.sum))" : "")
    }
    let rows: [(String, String?)] = [
      ("samples", String(statistics.samples.count)),
      (
        "repeats",
        statistics.samplesPerEpoch == statistics.samples.count
          ? nil : "\(statistics.samplesPerEpoch) samples in an epoch"
      ),
      ("files", counts(statistics.folders)),
      ("duration", statistics.durations.map { spread($0, 2, " s", sum: true) }),
      ("frame rates", statistics.frameRates.isEmpty ? nil : counts(statistics.frameRates)),
      ("buckets", statistics.buckets.isEmpty ? nil : counts(statistics.buckets)),
      ("caption", statistics.captionCharacters.map { spread($0, 0, " characters") }),
      ("", statistics.captionTokens.map { spread($0, 0, " tokens") }),
      (
        "loudness", statistics.loudness.map { spread($0, 1, " LUFS") + " (\($0.count) with audio)" }
      ),
      ("peak", statistics.peak.map { spread($0, 1, " dBFS") }),
      (
        "silent audio",
        statistics.silentAudio.map { "\($0) of \(statistics.measuredAudio) samples" }
      ),
    ]
    return rows.reduce("") { text, row in
      guard let value = row.1 else { return text }
      return text + row.0.padding(toLength: 13, withPad: " ", startingAt: 0) + value + "\n"
    }
  }
}

extension PhasedProgress {
  fileprivate func show(_ phase: CacheChecker.Phase, _ done: Int, of total: Int) {
    switch phase {
    case .files: show("reading", done, of: total, unit: "files")
    case .sources: show("reading media", done, of: total, unit: "files")
    case .clips: show("showing", done, of: total, unit: "clips")
    }
  }
}

/// Checks that an output overwrites none of the files that are read.
private func requireOutput(
  _ subject: Issue.PathComponent, _ path: String, cache: String?, _ options: DatasetCheckOptions
) throws {
  let inputs = FileManager.default.fileExists(atPath: path) ? try options.inputs(cache: cache) : []
  if let problem = OutputFile.problem(path, inputs: inputs) {
    throw Issue([subject, .file(path)], problem)
  }
}

private func writeJSON(_ value: some Encodable, to path: String) throws {
  var data = try JSON(encoding: value).data(.pretty)
  data.append(UInt8(ascii: "\n"))
  try AtomicFile.write(data, to: path)
}

/// `ltx dataset preview`.
struct PreviewDatasetCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "preview",
    abstract: "Show a dataset as one HTML page: thumbnails, captions, buckets, audio, problems.",
    discussion: """
      The page contains its images and plays the clips from their location. Images and waveforms \
      are made from the media files, for the frames that the bucket uses; cropped parts are \
      darkened. With --dataset alone, a dataset can be shown before it is preprocessed.

      Exit status: 0, also if the page shows problems; 1 if it can't be written; 2 if the input \
      can't be used.

      Example:
        ltx dataset preview .precomputed -o preview.html
      """)

  @Argument(help: "The cache, or the folder that contains .precomputed.", completion: .directory)
  var cache: String?

  @Option(
    name: .shortAndLong, help: ArgumentHelp("The page.", valueName: "file"), completion: .file())
  var output: String

  @OptionGroup var arguments: DatasetArguments

  @Option(
    name: [.customLong("text-encoder-path"), .customLong("gemma-root")],
    help: ArgumentHelp(
      "The text encoder, whose tokenizer counts the tokens of captions.", valueName: "path"),
    completion: .file())
  var textEncoderPath: String?

  @Flag(
    help: "Show decoded latents instead of the media files' frames. Needs --model-path."
  )
  var decode = false

  @OptionGroup var compute: ComputeOptions

  func validate() throws {
    if decode, arguments.options.models == nil {
      throw ValidationError("--decode: needs a model. Name the checkpoint with --model-path")
    }
    if cache == nil, arguments.dataset == nil {
      throw ValidationError("nothing to show. Name a cache, or a dataset file with --dataset")
    }
  }

  func run() throws {
    try compute.apply()
    if decode { try compute.require(nil, remedy: nil) }
    let progress = PhasedProgress()
    let preview = try checkingInput(.dataset) {
      defer { progress.finish() }
      var options = arguments.options
      options.textEncoder = textEncoderPath
      try requireOutput("output", output, cache: cache, options)
      let decoder =
        try decode
        ? options.models.map { models in
          var options = CacheDecodingOptions()
          options.device = compute.device
          return try CacheDecoder(models: models, options: options)
        } : nil
      return try DatasetPreview(cache: cache, options, decoder: decoder, page: output) {
        progress.show($0, $1, of: $2)
      }
    }
    for note in preview.notes { printError("note: \(SubjectTable.dataset.message(note))") }
    try working {
      try AtomicFile.write(Data(preview.html.utf8), to: output)
    }
    print("\(preview.clips) clips, \(preview.problems) problems: \(output)")
  }
}
