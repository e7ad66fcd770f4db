import Foundation
import LTX
import Media

/// What a model says about the caches that are made with it.
struct CacheModel {
  /// `FileIdentity` of the file that each kind is made with.
  let identities: [CacheFolder: String]
  let factors: CompressionFactors
  let audio: AudioTokens

  /// - Throws: what opening a checkpoint throws.
  init(_ models: ModelFiles) throws {
    let checkpoint = try Checkpoint(models)
    identities = try Dictionary(
      uniqueKeysWithValues: CacheFolder.allCases.compactMap { folder in
        try folder.component.flatMap(models.path(of:)).map {
          (folder, try FileIdentity.identity(of: $0))
        }
      })
    factors = try VideoVAEConfiguration.Encoder(checkpoint.config).compression
    audio =
      checkpoint.config.has("audio_vae")
      ? try AudioVAEConfiguration(checkpoint.config).tokens : AudioTokens()
  }
}

/// Checks of the files against each other.
extension CacheChecker {
  var factors: CompressionFactors { model?.factors ?? .usual }

  private func problem(
    _ kind: DatasetProblem.Kind, _ file: CacheReading.File, _ name: String, _ text: String
  ) -> DatasetProblem {
    DatasetProblem(kind, file: cache.relative(file.path), sample: name, text)
  }

  /// Files unlike most of their kind.
  func consistency(_ reading: CacheReading) -> [DatasetProblem] {
    var problems: [DatasetProblem] = []
    for group in [
      [CacheFolder.latents, .referenceLatents], [.conditions],
      [.audioLatents, .referenceAudioLatents],
    ] {
      let files = group.flatMap { reading.files[$0] ?? [:] }
      let usual = Self.mostCommon(files.map { Self.signature($0.value) })
      for (name, file) in files where Self.signature(file) != usual {
        problems.append(
          problem(
            .inconsistent, file, name,
            "holds \(Self.signature(file)), most of its kind \(usual ?? "")")
        )
      }
    }
    return problems
  }

  private static func signature(_ file: CacheReading.File) -> String {
    switch file.content {
    case .video(let sizes, _): "\(sizes.channels) channels in \(file.dtype)"
    case .audio(let sizes):
      "\(sizes.channels) channels of \(sizes.bins) frequencies in \(file.dtype)"
    case .text(let rows, _, let widths):
      "\(rows) rows of \(widths.map(String.init).joined(separator: " and ")) numbers in \(file.dtype)"
    case .mask: "a mask"
    }
  }

  /// The most common element; of several the first in alphabetical order.
  private static func mostCommon(_ values: [String]) -> String? {
    var counts: [String: Int] = [:]
    for value in values { counts[value, default: 0] += 1 }
    return counts.min { ($1.value, $0.key) < ($0.value, $1.key) }?.key
  }

  /// Samples with some of their files only.
  func completeness(_ reading: CacheReading) -> [DatasetProblem] {
    var problems: [DatasetProblem] = []
    let primary = cache.primary
    let names = cache.files[primary] ?? [:]
    for content in CacheFolder.allCases where content != primary {
      let own = cache.files[content] ?? [:]
      // Text features are always needed, the rest where some samples have it.
      guard content == .conditions || !own.isEmpty else { continue }
      for (name, path) in names where own[name] == nil {
        let isSilent =
          content == .audioLatents
          && reading[primary, name]?.metadata[Fingerprint.Key.sourceAudio.rawValue] == "no"
        problems.append(
          DatasetProblem(
            .incomplete, file: cache.relative(path), sample: name,
            content == .conditions
              ? "has no text features, so training skips it; run `ltx preprocess`"
              : "has no \(content.contents); \(own.count) of \(names.count) samples have one, and training with it skips "
                + "those without" + (isSilent ? " (its clip has no audio track)" : "")))
      }
      let base = content.base.flatMap { cache.files[$0]?.isEmpty ?? true ? nil : $0 } ?? primary
      for (name, path) in own where cache.path(base, name) == nil {
        problems.append(
          DatasetProblem(
            .incomplete, file: cache.relative(path), sample: name,
            "has \(content.contents) but no \(base.contents) in \(base.rawValue)/, so nothing uses it"
          ))
      }
    }
    return problems
  }

  /// Files of one sample that don't fit each other.
  func agreement(_ reading: CacheReading) -> [DatasetProblem] {
    var problems: [DatasetProblem] = []
    for (name, file) in reading.files[.videoMasks] ?? [:] {
      guard case .mask(let shape) = file.content, let video = reading[.latents, name]?.video else {
        continue
      }
      let wanted = [video.frames, video.rows, video.columns]
      if shape != wanted {
        problems.append(
          problem(.mismatch, file, name, "mask has shape \(shape), but the latents are \(wanted)"))
      }
    }
    for (name, file) in reading.files[.audioMasks] ?? [:] {
      guard case .mask(let shape) = file.content, let audio = reading[.audioLatents, name]?.audio
      else {
        continue
      }
      if shape != [audio.steps] {
        problems.append(
          problem(
            .mismatch, file, name,
            "mask has shape \(shape), but the audio latents have \(audio.steps) steps")
        )
      }
    }
    let tokens = model?.audio ?? AudioTokens()
    for content in [CacheFolder.audioLatents, .referenceAudioLatents] {
      for (name, file) in reading.files[content] ?? [:] {
        guard let audio = file.audio, let duration = audio.duration else { continue }
        // A latent step for each group of spectrogram frames, the last one not full.
        let frames = 1 + Int(duration * Double(tokens.sampleRate)) / tokens.hopLength
        let steps = (frames + tokens.compression - 1) / tokens.compression
        if abs(audio.steps - steps) > 1 {
          problems.append(
            problem(
              .mismatch, file, name,
              String(
                format: "has %d steps, but its duration, %.3f s, takes %d", audio.steps, duration,
                steps)
            ))
        }
        guard content == .audioLatents, let video = reading[.latents, name],
          let seconds = seconds(video),
          seconds > 0
        else { continue }
        if abs(duration - seconds) > 1 / tokens.rate {
          problems.append(
            problem(
              .mismatch, file, name,
              String(format: "lasts %.3f s, but the video %.3f s", duration, seconds)))
        }
      }
    }
    return problems
  }

  /// How long the video of some latents is: 0 for a picture, nil where the frame rate is not known.
  func seconds(_ file: CacheReading.File) -> Double? {
    guard let bucket = bucket(file) else { return nil }
    return bucket.frames == 1 ? 0 : file.fps.map { Double(bucket.frames) / $0 }
  }

  /// The size in pixels that latents stand for, as the fingerprint says or the model's compression
  /// gives.
  func bucket(_ file: CacheReading.File) -> ResolutionBucket? {
    guard let video = file.video else { return nil }
    if model == nil, let said = Self.bucket(said: file.metadata) { return said }
    return video.bucket(factors)
  }

  private static func bucket(said metadata: [String: String]) -> ResolutionBucket? {
    metadata[Fingerprint.Key.bucket.rawValue].flatMap(ResolutionBucket.init(text:))
  }

  /// Files made with another model or in another way.
  func fingerprints(_ reading: CacheReading, _ notes: inout [String]) -> [DatasetProblem] {
    var problems: [DatasetProblem] = []
    let all = CacheFolder.allCases.flatMap { reading.files[$0] ?? [:] }
    let unmarked = all.count { $0.value.metadata["content"] == nil }
    if unmarked > 0 {
      notes.append(
        "\(unmarked) of \(all.count) files don't say what they were made from, so that can't be compared"
      )
    }
    for folder in CacheFolder.allCases {
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
          guard let said = file.metadata[key.rawValue] else { continue }
          // An encoder that was quantized when it was loaded is still the one given.
          let made = key == .textEncoder ? TextEncoderIdentity.file(of: said) : said
          let isOther = given.map { $0 != made } ?? false
          guard isOther || said != usual && (given == nil || key == .textEncoder) else { continue }
          problems.append(
            problem(
              .fingerprint, file, name,
              "was made with \(what) than \(isOther ? "the one given" : "most"); run `ltx preprocess` again"
            ))
        }
      }
    }
    guard let model else { return problems }
    for (name, file) in reading.files[.latents] ?? [:] {
      guard let said = Self.bucket(said: file.metadata),
        let found = file.video?.bucket(model.factors)
      else {
        continue
      }
      if said != found {
        problems.append(
          problem(
            .fingerprint, file, name,
            "was made for the bucket \(said), but its latents are \(found)"))
      }
    }
    return problems
  }

  /// Clips of which one frame is cached, which preprocessing reports once.
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
}
