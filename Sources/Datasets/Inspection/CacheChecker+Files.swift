import Foundation
import LTX
import Media

/// The facts of a model that caches are compared with.
struct CacheModel {
  /// The `FileIdentity` of the file that makes each kind of cached file.
  let identities: [CacheFolder: String]
  let factors: CompressionFactors
  let audio: AudioTokens

  /// - Throws: The errors of opening a checkpoint.
  init(_ models: ModelFiles) throws {
    let checkpoint = try Checkpoint(models)
    identities = try Dictionary(
      uniqueKeysWithValues: Artifacts.all.compactMap { artifact in
        try artifact.component.flatMap(models.path(of:)).map {
          (artifact.folder, try FileIdentity.identity(of: $0))
        }
      })
    factors = try checkpoint.videoCompression()
    audio =
      checkpoint.config.has("audio_vae")
      ? try AudioVAEConfiguration(checkpoint.config).tokens : AudioTokens()
  }
}

/// Checks of the files against each other.
extension CacheChecker {
  var factors: CompressionFactors { model?.factors ?? .usual }
  var audioTokens: AudioTokens { model?.audio ?? AudioTokens() }

  private func problem(
    _ kind: DatasetProblem.Kind, _ file: CacheReading.File, _ name: String, _ text: String
  ) -> DatasetProblem {
    DatasetProblem(kind, file: cache.relative(file.path), sample: name, text)
  }

  /// All usable files, with their kind and sample's name.
  private func files(
    _ reading: CacheReading
  ) -> [(artifact: any Artifact, name: String, file: CacheReading.File)] {
    Artifacts.all.flatMap { artifact in
      (reading.files[artifact.folder] ?? [:]).map { (artifact, $0.key, $0.value) }
    }
  }

  /// Finds files that differ from most of their family.
  func consistency(_ reading: CacheReading) -> [DatasetProblem] {
    let families = Dictionary(grouping: files(reading)) { $0.artifact.family }
    return families.values.flatMap { family in
      let usual = Self.mostCommon(family.compactMap(\.file.signature))
      return family.compactMap { _, name, file -> DatasetProblem? in
        guard let signature = file.signature, let usual, signature != usual else { return nil }
        return problem(
          .inconsistent, file, name, "holds \(signature), but most of its kind hold \(usual)")
      }
    }
  }

  /// Returns the most common element; if there are several, the first in alphabetical order.
  private static func mostCommon(_ values: [String]) -> String? {
    var counts: [String: Int] = [:]
    for value in values { counts[value, default: 0] += 1 }
    return counts.min { ($1.value, $0.key) < ($0.value, $1.key) }?.key
  }

  /// Finds samples that have only some of their files.
  func completeness(_ reading: CacheReading) -> [DatasetProblem] {
    var problems: [DatasetProblem] = []
    let primary = cache.primary
    let names = cache.files[primary] ?? [:]
    for artifact in Artifacts.all where artifact.folder != primary {
      let own = cache.files[artifact.folder] ?? [:]
      let isText = artifact.folder == .conditions
      // Text features are always needed, other files if some samples have them.
      guard isText || !own.isEmpty else { continue }
      for (name, path) in names where own[name] == nil {
        let explanation = artifact.absence(explainedBy: reading[primary, name]?.metadata ?? [:])
        problems.append(
          DatasetProblem(
            .incomplete, file: cache.relative(path), sample: name,
            isText
              ? "has no text features, so training skips it; run `ltx preprocess`"
              : "has no \(artifact.contents); \(own.count) of \(names.count) samples have one, and "
                + "training with it skips those without" + explanation))
      }
      let base = artifact.base.flatMap { cache.files[$0]?.isEmpty ?? true ? nil : $0 } ?? primary
      let needed = Artifacts[base]?.contents ?? base.rawValue
      for (name, path) in own where cache.path(base, name) == nil {
        problems.append(
          DatasetProblem(
            .incomplete, file: cache.relative(path), sample: name,
            "has \(artifact.contents) but no \(needed) in \(base.rawValue)/, so nothing uses it"))
      }
    }
    return problems
  }

  /// Finds files of one sample that contradict each other.
  func agreement(_ reading: CacheReading) -> [DatasetProblem] {
    files(reading).flatMap { artifact, name, file in
      artifact.mismatches(file, of: name, in: reading, self).map {
        problem($0.kind, file, name, $0.problem)
      }
    }
  }

  /// Returns the length of the video of some latents: 0 for an image, nil if the frame rate is
  /// unknown.
  func seconds(_ file: CacheReading.File) -> Double? {
    guard let bucket = bucket(file) else { return nil }
    return bucket.frames == 1 ? 0 : file.facts.fps.map { Double(bucket.frames) / $0 }
  }

  /// Returns the size of latents in pixels, from the fingerprint or from the compression of the
  /// model.
  func bucket(_ file: CacheReading.File) -> ResolutionBucket? {
    guard let video = file.facts.video else { return nil }
    if model == nil, let recorded = Self.bucket(recordedIn: file.metadata) { return recorded }
    return video.bucket(factors)
  }

  static func bucket(recordedIn metadata: [String: String]) -> ResolutionBucket? {
    metadata[Fingerprint.Key.bucket.rawValue].flatMap(ResolutionBucket.init(text:))
  }

  /// Finds files made with another model or other options.
  func fingerprints(_ reading: CacheReading, _ notes: inout [String]) -> [DatasetProblem] {
    var problems: [DatasetProblem] = []
    let all = files(reading)
    let unmarked = all.count { $0.file.metadata[Fingerprint.Key.content.rawValue] == nil }
    if unmarked > 0 {
      notes.append(
        "\(unmarked) of \(all.count) files don't record what they were made from, so that is not "
          + "compared")
    }
    for folder in CacheFolder.all {
      let files = reading.files[folder] ?? [:]
      for (key, what) in [
        (Fingerprint.Key.model, "another model"), (.textEncoder, "another text encoder"),
        (.options, "other options"),
      ] {
        let given: String? =
          switch key {
          case .model: model?.identities[folder]
          case .textEncoder: textEncoder
          default: nil
          }
        let usual = Self.mostCommon(files.compactMap { $0.value.metadata[key.rawValue] })
        for (name, file) in files {
          guard let recorded = file.metadata[key.rawValue] else { continue }
          // A text encoder that was quantized while loading counts as the same one.
          let made = key == .textEncoder ? TextEncoderIdentity.file(of: recorded) : recorded
          let isOther = given.map { $0 != made } ?? false
          guard isOther || recorded != usual && (given == nil || key == .textEncoder) else {
            continue
          }
          problems.append(
            problem(
              .fingerprint, file, name,
              "was made with \(what) than \(isOther ? "the given one" : "most"). "
                + "Run `ltx preprocess` again"))
        }
      }
    }
    return problems
  }

  /// Lists clips that are cached as a single frame, which preprocessing reports once.
  func stillImages(_ reading: CacheReading) -> [String] {
    let names = (reading.files[.latents] ?? [:]).filter { _, file in
      guard let facts = ClipFacts(Fingerprint(fields: file.metadata)) else { return false }
      return facts.bucket.frames == 1 && !facts.isImage && facts.available != .exactly(1)
    }.keys.sorted()
    guard !names.isEmpty else { return [] }
    let more = names.count > 5 ? " and \(grouped(names.count - 5)) more" : ""
    return [
      (names.count == 1
        ? "1 clip is cached as a still image"
        : "\(grouped(names.count)) clips are cached as still images")
        + ", because the bucket has 1 frame: " + names.prefix(5).joined(separator: ", ") + more
    ]
  }

  // MARK: Facts about sources in the metadata

  /// Finds files made from clips with damaged frames.
  func damage(_ reading: CacheReading) -> [DatasetProblem] {
    files(reading).compactMap { artifact, name, file in
      file.metadata[Fingerprint.Key.sourceDamage.rawValue].map { damage in
        problem(
          .damage, file, name,
          "made from a \(artifact.sourceNoun) with damage: \(damage). "
            + "Get a complete copy of the file and preprocess it again, or remove the row.")
      }
    }
  }

  /// Finds audio latents of silence, which teach a model to be silent.
  func silence(_ reading: CacheReading) -> [DatasetProblem] {
    files(reading).compactMap { _, name, file in
      SampleLevel(metadata: file.metadata)?.silenceNote.map { note in
        problem(
          .silence, file, name,
          "\(note); training audio on it teaches silence. Check the source file, or remove the "
            + "sample")
      }
    }
  }

  /// Returns a sentence for each kind of color conversion, with the number of clips and the first
  /// names.
  func colorNotes(_ reading: CacheReading) -> [String] {
    var names: [String: [String]] = [:]
    for (artifact, name, file) in files(reading) {
      guard let conversions = file.metadata[Fingerprint.Key.color.rawValue] else { continue }
      let owner = artifact.column == nil ? name : "the \(artifact.sourceNoun) of \(name)"
      for clause in conversions.split(separator: ";") {
        names[clause.trimmingCharacters(in: .whitespaces), default: []].append(owner)
      }
    }
    return names.sorted { $0.key < $1.key }.map { clause, owners in
      let shown = owners.sorted().prefix(3).joined(separator: ", ")
      let rest = owners.count > 3 ? " and \(owners.count - 3) more" : ""
      return "\(clause): \(shown)\(rest)"
    }
  }
}
