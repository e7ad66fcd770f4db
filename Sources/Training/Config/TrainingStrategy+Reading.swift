import LTX

extension Rule<TrainingStrategy> {
  static var trainingStrategy: Rule {
    .section(
      { reader in
        // Without a name, the oldest strategy is used, as in the official trainer.
        let name = reader.has("name") ? reader.read("name", .text) : "text_to_video"
        switch name {
        case nil: return nil
        case "flexible": return .flexible(FlexibleStrategy(reading: reader))
        case "text_to_video":
          Self.noteOlder(reader, "text_to_video")
          return .textToVideo(TextToVideoStrategy(reading: reader))
        case "video_to_video":
          Self.noteOlder(reader, "video_to_video")
          return .videoToVideo(VideoToVideoStrategy(reading: reader))
        case let name?:
          reader.report(
            "name", "must be one of flexible, text_to_video, video_to_video (got \"\(name)\")")
          return nil
        }
      },
      write: { strategy in
        let fields =
          switch strategy {
          case .flexible(let strategy): strategy.written
          case .textToVideo(let strategy): strategy.written
          case .videoToVideo(let strategy): strategy.written
          }
        guard case .mapping(let entries) = fields else { return fields }
        return .mapping([.init("name", .string(strategy.name))] + entries)
      })
  }

  private static func noteOlder(_ reader: SectionReader, _ name: String) {
    reader.notice(
      "name", "\(name) is an older strategy and works as it did; new files use flexible")
  }
}

extension FlexibleStrategy: ConfigurationSection {
  init() { self.init(video: nil, audio: nil) }

  static let fields: [Field<Self>] = [
    Field("video", \.modalities.video, .optional(.section)),
    Field("audio", \.modalities.audio, .optional(.section)),
    Field("video_loss_weight", \.objective.weights.video, .lossWeight, isExtension: true),
    Field("audio_loss_weight", \.objective.weights.audio, .lossWeight, isExtension: true),
  ]

  mutating func complete(_ reader: SectionReader) {
    let (video, audio) = (modalities.video, modalities.audio)
    objective.check(
      video: video.map(\.isGenerated) ?? reader.has("video"),
      audio: audio.map(\.isGenerated) ?? reader.has("audio"), reader)
    if video?.isGenerated != true, audio?.isGenerated != true {
      // A section with an error may have been meant to be generated.
      let isKnown = (video != nil || !reader.has("video")) && (audio != nil || !reader.has("audio"))
      if isKnown || (video == nil && audio == nil && !reader.has("video") && !reader.has("audio")) {
        reader.report("generates nothing; set is_generated to true for video, audio or both")
      }
    }
    for (index, condition) in (audio?.conditions ?? []).enumerated() {
      switch condition.kind {
      case .firstFrame, .crop:
        reader.report(
          "audio",
          "conditions[\(index)] is \(condition.type), which is only for video; audio can have prefix, suffix, mask and reference"
        )
      default: break
      }
    }
  }
}

extension ModalityStrategy: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("is_generated", \.isGenerated, .flag, isRequired: true),
    Field("latents_dir", \.latentsFolder, .nonEmpty, isRequired: true),
    Field("conditions", \.conditions, .list(of: .condition)),
  ]
}

extension TextToVideoStrategy: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("first_frame_conditioning_p", \.firstFrameConditioningP, .probability),
    Field("with_audio", \.withAudio, .flag),
    Field("audio_latents_dir", \.audioLatentsDir, .nonEmpty),
    Field("video_loss_weight", \.objective.weights.video, .lossWeight, isExtension: true),
    Field("audio_loss_weight", \.objective.weights.audio, .lossWeight, isExtension: true),
  ]

  mutating func complete(_ reader: SectionReader) {
    objective.check(video: true, audio: withAudio, reader)
  }
}

extension VideoToVideoStrategy: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("first_frame_conditioning_p", \.firstFrameConditioningP, .probability),
    Field("reference_latents_dir", \.referenceLatentsDir, .nonEmpty),
  ]
}

extension Rule<Double> {
  fileprivate static var lossWeight: Rule { number(.atLeast(0)) }
}

extension Objective {
  /// Reports weights that leave nothing to learn, or that have no effect.
  ///
  /// - Parameters: whether each modality is generated.
  fileprivate func check(video: Bool, audio: Bool, _ reader: SectionReader) {
    let weights = [
      (key: "video_loss_weight", name: "video", weight: weights.video, isGenerated: video),
      (key: "audio_loss_weight", name: "audio", weight: weights.audio, isGenerated: audio),
    ]
    let generated = weights.filter(\.isGenerated)
    if let first = generated.first, generated.allSatisfy({ $0.weight == 0 }) {
      reader.report(
        first.key,
        generated.count == 1
          ? "is 0, but only \(first.name) is generated; set it above 0"
          : "and audio_loss_weight are both 0; set one of them above 0")
    }
    for weight in weights where !weight.isGenerated && weight.weight != 1 && reader.has(weight.key)
    {
      reader.notice(weight.key, "has no effect, because \(weight.name) is not generated")
    }
  }
}

extension Condition {
  /// The name of the condition's type in the file, except for a whole modality.
  var type: String {
    switch kind {
    case .image, .firstFrame: "first_frame"
    case .prefix: "prefix"
    case .suffix: "suffix"
    case .crop: "spatial_crop"
    case .retake: "retake"
    case .mask: "mask"
    case .reference: "reference"
    case .whole: "whole"
    }
  }
}

extension Rule<Condition<CachedSource>> {
  fileprivate static var condition: Rule { .section(read, write: write) }

  private static let types = [
    "first_frame", "prefix", "suffix", "spatial_crop", "mask", "reference",
  ]

  private static func read(_ reader: SectionReader) -> Condition<CachedSource>? {
    guard let type = reader.required("type", .choice(of: types)) else { return nil }
    let p = reader.read("probability", .probability) ?? 1
    defer { reader.finish() }
    switch type {
    case "first_frame": return .firstFrame(probability: p)
    case "prefix", "suffix":
      guard let count = reader.required("temporal_boundary", .integer(1 ... .max)) else {
        return nil
      }
      return type == "prefix"
        ? .prefix(latentFrames: count, probability: p)
        : .suffix(latentFrames: count, probability: p)
    case "spatial_crop":
      return reader.required("spatial_region", .region).map { .crop($0, probability: p) }
    case "mask":
      return reader.required("mask_dir", .nonEmpty).map { .mask(folder: $0, probability: p) }
    default:
      return reader.required("latents_dir", .nonEmpty).map {
        .reference(folder: $0, probability: p)
      }
    }
  }

  private static func write(_ condition: Condition<CachedSource>) -> ConfigurationValue {
    var entries = [ConfigurationValue.Entry("type", .string(condition.type))]
    if let count = condition.latentFrames {
      entries.append(.init("temporal_boundary", .int(count)))
    }
    if case .crop(let region) = condition.kind {
      entries.append(.init("spatial_region", Rule<PixelRegion>.region.write(region)))
    }
    if let folder = condition.maskFolder { entries.append(.init("mask_dir", .string(folder))) }
    if let folder = condition.referenceFolder {
      entries.append(.init("latents_dir", .string(folder)))
    }
    return .mapping(entries + [.init("probability", .double(condition.probability))])
  }
}

extension Rule<String> {
  static func choice(of names: [String]) -> Rule {
    scalar(
      "one of \(names.joined(separator: ", "))",
      { scalar in scalar.asText.flatMap { names.contains($0) ? $0 : nil } }, write: { .string($0) })
  }
}

extension Rule<PixelRegion> {
  /// The rule for `[y1, x1, y2, x2]`.
  static var region: Rule {
    let numbers = Rule<[Int]>.integers("y1", "x1", "y2", "x2", in: 0 ... .max)
    return Rule(
      read: { node, context in
        guard let n = numbers.read(node, context) else { return nil }
        let region = PixelRegion(top: n[0], left: n[1], bottom: n[2], right: n[3])
        if region.top < region.bottom, region.left < region.right { return region }
        context.report(
          "must be y1, x1, y2, x2 with y1 below y2 and x1 below x2 (got an empty region)")
        return nil
      }, write: { numbers.write([$0.top, $0.left, $0.bottom, $0.right]) })
  }
}
