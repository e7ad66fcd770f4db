import Generation
import LTX

extension TrainingConfiguration.Validation: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("samples", \.samples, .list(of: .section)),
    Field("negative_prompt", \.negativePrompt, .text),
    Field("video_dims", \.videoDims, .dimensions),
    Field("frame_rate", \.frameRate, .number(.above(0))),
    Field("seed", \.seed, .integer(0 ... .max)),
    Field("inference_steps", \.inferenceSteps, .integer(1 ... .max)),
    Field("interval", \.interval, .optional(.integer(1 ... .max))),
    Field("video_cfg_scale", \.videoCFGScale, .number(.atLeast(1))),
    Field("audio_cfg_scale", \.audioCFGScale, .number(.atLeast(1))),
    Field("video_stg_scale", \.videoSTGScale, .number(.atLeast(0))),
    Field("audio_stg_scale", \.audioSTGScale, .number(.atLeast(0))),
    Field("stg_blocks", \.stgBlocks, .optional(.list(of: .integer(0 ... .max)))),
    Field("guidance_rescale", \.guidanceRescale, .probability),
    Field("video_modality_guidance_scale", \.videoModalityGuidanceScale, .number(.atLeast(1))),
    Field("audio_modality_guidance_scale", \.audioModalityGuidanceScale, .number(.atLeast(1))),
    Field("generate_audio", \.generateAudio, .flag),
    Field("generate_video", \.generateVideo, .flag),
    Field("skip_initial_validation", \.skipInitialValidation, .flag),
    Field("held_out", \.heldOut, isExtension: true),
  ]

  mutating func complete(_ reader: SectionReader) {
    migrateGuidance(reader)
    migrateSpatioTemporalGuidance(reader)
    migratePrompts(reader)
    if !samples.isEmpty, !generateVideo, !generateAudio {
      reader.report("generate_video", "is false, and generate_audio too; one of them must be true")
    }
  }

  /// Reads `guidance_scale`, which applies to both modalities.
  private mutating func migrateGuidance(_ reader: SectionReader) {
    guard reader.has("guidance_scale") else { return }
    let newer = ["video_cfg_scale", "audio_cfg_scale"].filter(reader.has)
    if !newer.isEmpty {
      reader.report(
        "guidance_scale",
        "is the older name of video_cfg_scale and audio_cfg_scale; remove it, because \(newer[0]) is given"
      )
    }
    guard let scale = reader.read("guidance_scale", .number(.atLeast(1))), newer.isEmpty else {
      return
    }
    (videoCFGScale, audioCFGScale) = (scale, scale)
    reader.notice("guidance_scale", "sets video_cfg_scale and audio_cfg_scale")
  }

  /// Reads `stg_scale`, which applies to both modalities, or only to video with `stg_mode: stg_v`.
  private mutating func migrateSpatioTemporalGuidance(_ reader: SectionReader) {
    guard let key = ["stg_scale", "stg_mode"].first(where: reader.has) else { return }
    let newer = ["video_stg_scale", "audio_stg_scale"].filter(reader.has)
    if !newer.isEmpty {
      reader.report(
        key,
        "is the older form of video_stg_scale and audio_stg_scale; remove it, because \(newer[0]) is given"
      )
    }
    let scale = reader.has("stg_scale") ? reader.read("stg_scale", .number(.atLeast(0))) : 1
    let mode =
      reader.has("stg_mode") ? reader.read("stg_mode", .choice(of: ["stg_av", "stg_v"])) : "stg_av"
    guard let scale, let mode, newer.isEmpty else { return }
    (videoSTGScale, audioSTGScale) = (scale, mode == "stg_av" ? scale : 0)
    for key in ["stg_scale", "stg_mode"] where reader.has(key) {
      reader.notice(
        key, "sets video_stg_scale to \(videoSTGScale) and audio_stg_scale to \(audioSTGScale)")
    }
  }

  /// Reads `prompts`, with an image or a reference video for each, as samples.
  private mutating func migratePrompts(_ reader: SectionReader) {
    let prompts = reader.read("prompts", .list(of: .text))
    let images = paths("images", reader, count: prompts?.count)
    let references = paths("reference_videos", reader, count: prompts?.count)
    let factor = reader.read("reference_downscale_factor", .integer(1 ... .max)) ?? 1
    let isShown = reader.read("include_reference_in_output", .flag) ?? false
    let older =
      ["prompts", "images", "reference_videos", "reference_downscale_factor"]
      .filter(reader.has)
      + (reader.has("include_reference_in_output") ? ["include_reference_in_output"] : [])
    guard let prompts, !prompts.isEmpty, samples.isEmpty else {
      for key in older { reader.notice(key, "has no effect; samples say what is generated") }
      return
    }
    samples = prompts.enumerated().map { index, prompt in
      var conditions: [Condition<MediaFile>] = []
      if let images { conditions.append(.firstFrame(path: images[index])) }
      if let references {
        conditions.append(
          .reference(
            path: references[index], scale: ReferenceScale(space: factor), isShown: isShown))
      }
      return ValidationSample(prompt: prompt, conditions: conditions)
    }
    for key in older { reader.notice(key, "is an older key, read as part of samples") }
  }

  /// - Returns: one path for each prompt; nil for none.
  private func paths(_ key: String, _ reader: SectionReader, count: Int?) -> [String]? {
    guard let paths = reader.read(key, .optional(.list(of: .path))) ?? nil else { return nil }
    if reader.has("prompts"), count == nil { return nil }
    guard paths.count == count ?? 0 else {
      reader.report(key, "has \(paths.count) entries for \(count ?? 0) prompts; give one for each")
      return nil
    }
    for path in paths { reader.checkExists(key, path, .any) }
    return paths.isEmpty ? nil : paths
  }
}

extension TrainingConfiguration.HeldOut: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("preprocessed_data_root", \.preprocessedDataRoot, .optional(.absolutePath)),
    Field("count", \.count, .integer(0 ... .max)),
    Field("interval", \.interval, .optional(.integer(1 ... .max))),
    Field("seed", \.seed, .integer(0 ... .max)),
  ]

  mutating func complete(_ reader: SectionReader) {
    reader.checkExists("preprocessed_data_root", preprocessedDataRoot, .folder)
  }
}

extension ValidationSample: ConfigurationSection {
  static let fields: [Field<Self>] = [
    Field("prompt", \.prompt, .text, isRequired: true),
    Field("conditions", \.conditions, .list(of: .validationCondition)),
    Field("video_dims", \.videoDims, .optional(.dimensions)),
    Field("seed", \.seed, .optional(.integer(0 ... .max))),
  ]

  /// Checks that a wholly conditioned modality has no other condition, and that one modality is
  /// generated.
  mutating func complete(_ reader: SectionReader) {
    let frozen = conditions.filter(\.isWhole)
    if Set(frozen.map(\.modality)) == .both {
      reader.report(
        "conditions",
        "give both video (video_to_audio) and audio (audio_to_video); nothing is generated")
      return
    }
    guard let given = frozen.first else { return }
    for condition in conditions where !condition.isWhole && condition.modality == given.modality {
      reader.report(
        "conditions",
        "have \(condition.type) of the \(given.modality), which \(given.validationType) gives as a "
          + "whole; remove one of them")
    }
  }
}

extension Rule<VideoDimensions> {
  /// The rule for `[width, height, frames]`.
  static var dimensions: Rule {
    let numbers = Rule<[Int]>.integers("width", "height", "frames", in: 1 ... .max)
    return Rule(
      read: { node, context in
        numbers.read(node, context).map {
          VideoDimensions(width: $0[0], height: $0[1], frames: $0[2])
        }
      }, write: { numbers.write([$0.width, $0.height, $0.frames]) })
  }
}
