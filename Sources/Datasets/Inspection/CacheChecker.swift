import Foundation
import LTX
import LanguageModels
import Media
import Support
import TensorFiles

/// The options of a check: the data to compare a cache with.
public struct DatasetCheckOptions: Sendable {
  /// The dataset file; nil for the only one beside the cache.
  public var dataset: String?
  /// Columns that can't be found by their names.
  public var columns: [Role: String] = [:]
  /// The model that the cache should have been made with.
  public var models: ModelFiles?
  /// The text encoder that the text features should have been made with. Its tokenizer counts the
  /// tokens of captions.
  public var textEncoder: String?
  /// Whether to skip the media files, so that changes to them aren't noticed.
  public var skipsSources = false

  public init() {}

  /// Returns the files that an inspection reads. None of them may be overwritten.
  ///
  /// - Parameter cache: nil if only the dataset file is inspected.
  /// - Throws: the errors of `CacheChecker` for input that can't be used.
  public func inputs(cache path: String?) throws -> [String] {
    var files = [textEncoder, models?.unified].compactMap { $0 }
    files += ModelFiles.Component.allCases.compactMap { models?[$0] }
    var light = self
    (light.models, light.textEncoder) = (nil, nil)
    var listing: DatasetListing?
    if let path {
      let checker = try CacheChecker(cache: path, light)
      listing = checker.listing
      files += checker.cache.files.values.flatMap(\.values)
      // All datasets beside the cache are read to find the right one, so none of them may be
      // overwritten.
      files += DatasetListing.candidates(beside: checker.cache).filter { candidate in
        do { return try !Dataset(path: candidate, columns: columns).samples.isEmpty } catch {
          return false
        }
      }
    } else if let dataset {
      listing = try DatasetListing(path: dataset, columns: columns)
    }
    files +=
      listing.map { [$0.path] + $0.rows.flatMap { [$0.mediaPath] + $0.sources.values } } ?? []
    return files
  }
}

/// Finds problems of a preprocessed dataset, with one file open at a time.
public struct CacheChecker {
  public enum Phase: Sendable {
    /// Reading the cache.
    case files
    /// Reading the media files.
    case sources
    /// Making thumbnails of the clips.
    case clips
  }

  public let cache: DatasetCache
  let options: DatasetCheckOptions
  let listing: DatasetListing?
  let model: CacheModel?
  private let tokenizer: Tokenizer?
  /// The `FileIdentity` of the given text encoder.
  let textEncoder: String?
  let notes: [String]

  /// - Throws: `Issue` and others for input that can't be used.
  public init(cache path: String, _ options: DatasetCheckOptions = DatasetCheckOptions()) throws {
    cache = try DatasetCache(path: path)
    self.options = options
    let (listing, notes) = try Self.listing(cache, options)
    self.listing = listing
    self.notes = notes + (listing?.skipped.notes() ?? []) + cache.unread.notes()
    model = try options.models.map(CacheModel.init)
    if let models = options.models, let textEncoder = options.textEncoder,
      let mismatch = try Checkpoint(models).textEncoderMismatch(at: textEncoder)
    {
      throw mismatch
    }
    tokenizer = try options.textEncoder.map { try TextEncoderFiles(path: $0).tokenizer() }
    textEncoder = try options.textEncoder.map { try FileIdentity.identity(of: $0) }
  }

  /// Reads the given dataset file or, without one, the only one beside the cache.
  private static func listing(
    _ cache: DatasetCache, _ options: DatasetCheckOptions
  ) throws -> (DatasetListing?, notes: [String]) {
    func open(_ path: String) throws -> DatasetListing {
      try DatasetListing(path: path, columns: options.columns)
    }
    if let given = options.dataset { return (try open(given), []) }
    let candidates = DatasetListing.candidates(beside: cache)
    let samples = Set(cache.samples)
    var found: [DatasetListing] = []
    var reason = "found no dataset file beside the cache"
    for path in candidates where found.isEmpty || path != candidates.last {
      do {
        let listing = try open(path)
        // A dataset file that names none of the samples belongs to another cache.
        if listing.byName.keys.contains(where: samples.contains) {
          found.append(listing)
        } else {
          reason = "\(path) names none of the samples"
        }
      } catch let issue as Issue where issue.file == path {
        reason = "\(issue)"
      }
    }
    if let only = found.first, found.count == 1 { return (only, ["compared with \(only.path)"]) }
    if found.count > 1 { reason = "found \(found.count) dataset files beside the cache" }
    return (nil, ["not compared with a dataset file: \(reason). Name the dataset file"])
  }

  /// - Parameter progress: called with the phase, the number of files done, and of all.
  public func run(progress: (Phase, Int, Int) -> Void = { _, _, _ in }) -> DatasetReport {
    report(CacheReading(cache, scansNumbers: true) { progress(.files, $0, $1) }, progress: progress)
  }

  func report(_ reading: CacheReading, progress: (Phase, Int, Int) -> Void) -> DatasetReport {
    var problems = reading.problems
    var notes = notes
    problems += consistency(reading)
    problems += completeness(reading)
    problems += agreement(reading)
    problems += fingerprints(reading, &notes)
    problems += damage(reading)
    notes += colorNotes(reading)
    notes += stillImages(reading)
    problems += silence(reading)
    if let note = reading.silentAudio.note { notes.append(note) }
    problems += captions(reading)
    notes += similarCaptions(reading)
    problems += repeats()
    problems += rows()
    if !options.skipsSources { problems += sources(reading, progress) }
    problems += cache.twice.map {
      DatasetProblem(
        .inconsistent, file: $0, "exists as .safetensors and as .pt. Remove one of them")
    }
    problems += cache.leftovers.map {
      DatasetProblem(.leftover, file: $0, "was left behind by a run that was killed. Remove it")
    }
    let lines = listing?.byName ?? [:]
    let order = Dictionary(
      uniqueKeysWithValues: DatasetProblem.Kind.allCases.enumerated().map { ($1, $0) })
    return DatasetReport(
      cache: cache.root, dataset: listing?.path, samples: cache.samples.count,
      files: cache.files.values.map(\.count).reduce(0, +),
      problems: problems.map { problem in
        guard problem.line == nil, let row = problem.sample.flatMap({ lines[$0] }) else {
          return problem
        }
        return DatasetProblem(
          problem.kind, file: problem.file, line: row.line, sample: problem.sample, problem.problem)
      }.sorted {
        (order[$0.kind] ?? 0, $0.file ?? "", $0.line ?? 0) < (
          order[$1.kind] ?? 0, $1.file ?? "", $1.line ?? 0
        )
      },
      notes: notes)
  }

  // MARK: The dataset

  /// Finds rows without cached files, and cached files without a row.
  private func rows() -> [DatasetProblem] {
    guard let listing else { return [] }
    var problems = listing.problems.map {
      DatasetProblem(
        .row, line: $0.line, sample: listing.sampleName(of: $0), "\($0.withoutLine)")
    }
    for row in listing.rows where cache.path(cache.primary, row.name) == nil {
      problems.append(
        DatasetProblem(
          .notCached, file: row.mediaPath, line: row.line, sample: row.name,
          "is not preprocessed; run `ltx preprocess`"))
    }
    let listed = Set(listing.rows.map(\.name) + listing.problems.compactMap(listing.sampleName))
    for name in cache.samples where !listed.contains(name) {
      let contents = CacheFolder.all.filter { cache.path($0, name) != nil }
      guard
        let path =
          (cache.path(cache.primary, name) ?? contents.first.flatMap { cache.path($0, name) })
      else { continue }
      problems.append(
        DatasetProblem(
          .notListed, file: cache.relative(path), sample: name,
          "has no row in \(listing.path), but training uses it"))
    }
    return problems
  }

  /// Finds rows whose repeats differ from the index of the cache.
  private func repeats() -> [DatasetProblem] {
    let index: SampleRepeats
    do { index = try SampleRepeats(cache: cache.root) } catch {
      return [
        DatasetProblem(
          .repeats, file: SampleRepeats.fileName,
          (error as? Issue)?.message ?? describe(error))
      ]
    }
    return (listing?.rows ?? []).compactMap { row in
      guard cache.path(cache.primary, row.name) != nil else { return nil }
      let cached = index.repeats(of: row.name)
      guard cached != row.repeats else { return nil }
      return DatasetProblem(
        .repeats, file: SampleRepeats.fileName, line: row.line, sample: row.name,
        "\(row.name) has \(cached) repeats, but the dataset says \(row.repeats). "
          + "Run `ltx preprocess` again; it encodes nothing for this")
    }
  }

  /// Finds media files that are missing or have changed.
  private func sources(
    _ reading: CacheReading, _ progress: (Phase, Int, Int) -> Void
  ) -> [DatasetProblem] {
    guard let listing else { return [] }
    let hashes = SourceHashes(folder: cache.root, share: .whole)
    var problems: [DatasetProblem] = []
    for (done, row) in listing.rows.enumerated() {
      defer { progress(.sources, done + 1, listing.rows.count) }
      // One clip can be the source of several cached files.
      let cached = row.sources.filter { reading[$0.key, row.name] != nil }
      for path in Set(cached.values).sorted() {
        let files = cached.filter { $0.value == path }.compactMap { reading[$0.key, row.name] }
        if let text = Self.change(
          of: path, files.compactMap { $0.metadata[Fingerprint.Key.source.rawValue] }, hashes)
        {
          problems.append(
            DatasetProblem(.source, file: path, line: row.line, sample: row.name, text))
        }
      }
    }
    return problems
  }

  /// Returns the problem of a media file.
  ///
  /// - Parameter digests: the hashes of the bytes that were cached.
  private static func change(of path: String, _ digests: [String], _ hashes: SourceHashes)
    -> String?
  {
    guard FileManager.default.fileExists(atPath: path) else {
      return "does not exist" + (MissingFile.hint(path).map { ". \($0)" } ?? "")
    }
    if digests.isEmpty { return nil }
    do {
      let digest = try hashes.sha256(of: path)
      guard digests.contains(where: { $0.lowercased() != digest }) else { return nil }
      return "has changed since it was cached. Run `ltx preprocess` again"
    } catch {
      return describe(error)
    }
  }

  // MARK: Captions

  private func captions(_ reading: CacheReading) -> [DatasetProblem] {
    let rows = listing?.byName ?? [:]
    var problems: [DatasetProblem] = []
    let prompts = (reading.files[.conditions] ?? [:]).compactMapValues {
      $0.metadata[Fingerprint.Key.prompt.rawValue]
    }
    let trigger = PromptTrigger(
      prompts.compactMap { name, prompt in rows[name].map { (prompt, $0.caption) } })
    for name in Set(prompts.keys).union(rows.keys).union(
      reading.files[.conditions]?.keys ?? [:].keys
    )
    .sorted() {
      let file = reading[.conditions, name]
      let row = rows[name]
      func problem(_ text: String) -> DatasetProblem {
        DatasetProblem(
          .caption, file: file.map { cache.relative($0.path) }, line: row?.line, sample: name, text)
      }
      let isEmpty =
        (row?.caption ?? prompts[name]).map { !$0.contains { !$0.isWhitespace } } ?? false
      if isEmpty { problems.append(problem("the caption is empty")) }
      if let row, let prompt = prompts[name], !isEmpty, let file,
        !trigger.reads(
          row.caption, as: prompt, options: file.metadata[Fingerprint.Key.options.rawValue])
      {
        problems.append(
          problem(
            "the caption was \(Self.short(prompt)) when it was encoded and is now "
              + "\(Self.short(row.caption)). Run `ltx preprocess` again"))
      }
      if let caption = row?.caption ?? prompts[name],
        let text = CaptionQuality.problem(of: caption)
      {
        problems.append(problem("the caption \(text)"))
      }
      if let text = row.map({ trigger.prompt($0.caption) }) ?? prompts[name],
        let tokens = count(text)
      {
        let limit = file?.facts.text?.rows ?? Tokenizer.promptLimit
        if tokens > limit {
          problems.append(
            problem(
              "the caption has \(tokens) tokens, but the text encoder reads only the first "
                + "\(limit)"))
        }
      } else if let text = file?.facts.text, text.tokens == text.rows {
        problems.append(
          problem(
            "the caption fills all \(text.rows) tokens, so its end is probably truncated. Shorten it"
          ))
      }
    }
    return problems
  }

  /// Returns notes on captions that are nearly the same, which may be intended.
  private func similarCaptions(_ reading: CacheReading) -> [String] {
    let rows = listing?.byName ?? [:]
    let captions = cache.samples.compactMap { name -> (String, String)? in
      let prompt = reading[.conditions, name]?.metadata[Fingerprint.Key.prompt.rawValue]
      return (rows[name]?.caption ?? prompt).map { (name, $0) }
    }
    let groups = NearDuplicates.groups(of: captions.map(\.1))
    let lines = groups.map { group in
      let names = capped(group.map { captions[$0].0 }, at: 5) { "\($0) more" }
      return "\(group.count) samples have nearly the same caption: "
        + names.joined(separator: ", ")
    }
    return capped(lines, at: 10) { "\($0) more groups of samples have nearly the same caption" }
  }

  /// Returns the number of tokens of a prompt; nil without a tokenizer.
  private func count(_ prompt: String) -> Int? {
    guard let tokenizer else { return nil }
    do {
      return try tokenizer.encode(
        prompt.trimmingCharacters(in: .whitespacesAndNewlines), addBOS: true
      ).count
    } catch {
      return nil  // a vocabulary without <bos>, which preprocessing does not support
    }
  }

  private static func short(_ text: String) -> String {
    text.count > 60 ? "\"\(text.prefix(60))…\"" : "\"\(text)\""
  }
}

/// The word that precedes all captions, found from their fingerprints.
struct PromptTrigger {
  let trigger: String

  /// - Parameter pairs: the text that the text encoder read, and the caption in the dataset.
  init(_ pairs: [(prompt: String, caption: String)]) {
    var counts: [String: Int] = [:]
    for (prompt, caption) in pairs {
      if let before = Self.trigger(of: prompt, caption) { counts[before, default: 0] += 1 }
    }
    trigger =
      counts.max { ($0.value, -$0.key.count, $1.key) < ($1.value, -$1.key.count, $0.key) }?.key
      ?? ""
  }

  func prompt(_ caption: String) -> String { trigger.isEmpty ? caption : "\(trigger) \(caption)" }

  /// Returns whether a prompt was made from the caption.
  ///
  /// - Parameter options: the options in the fingerprint. If they say that opening phrases were
  ///   removed, only the end of the caption has to match.
  func reads(_ caption: String, as prompt: String, options: String?) -> Bool {
    if Self.trigger(of: prompt, caption) == trigger { return true }
    guard let options, options.contains("llm") else { return false }
    let start = trigger.isEmpty ? "" : trigger + " "
    guard prompt.hasPrefix(start) else { return false }
    return Self.trimmed(caption).hasSuffix(Self.trimmed(String(prompt.dropFirst(start.count))))
  }

  private static func trigger(of prompt: String, _ caption: String) -> String? {
    let (prompt, caption) = (trimmed(prompt), trimmed(caption))
    if prompt == caption { return "" }
    return prompt.hasSuffix(" " + caption)
      ? trimmed(String(prompt.dropLast(caption.count + 1))) : nil
  }

  private static func trimmed(_ text: String) -> String {
    text.trimmingCharacters(in: .whitespacesAndNewlines)
  }
}
