extension Rule<ValidationCondition> {
  static var validationCondition: Rule { .section(read, write: write) }

  private static let types = [
    "first_frame", "prefix", "suffix", "spatial_crop", "mask", "reference", "video_to_audio",
    "audio_to_video",
  ]

  private static func read(_ reader: SectionReader) -> ValidationCondition? {
    guard let type = reader.required("type", .choice(of: types)) else { return nil }
    defer { reader.finish() }
    func file(_ key: String) -> String? {
      let path = reader.required(key, .path)
      reader.checkExists(key, path, .any)
      return path
    }
    switch type {
    case "first_frame": return file("image_or_video").map { .firstFrame(imageOrVideo: $0) }
    case "prefix", "suffix":
      let media = media(reader)
      let frames = reader.read("num_frames", .optional(.integer(1 ... .max))) ?? nil
      let duration = reader.read("duration", .optional(.number(.above(0)))) ?? nil
      guard let media else { return nil }
      return type == "prefix"
        ? .prefix(media, numFrames: frames, duration: duration)
        : .suffix(media, numFrames: frames, duration: duration)
    case "spatial_crop":
      let video = file("video")
      let region = reader.required("spatial_region", .region)
      guard let video, let region else { return nil }
      return .spatialCrop(video: video, spatialRegion: region)
    case "mask":
      let media = media(reader)
      let mask = file("mask")
      guard let media, let mask else { return nil }
      return .mask(media, mask: mask)
    case "reference":
      let media = media(reader)
      let space = reader.read("downscale_factor", .integer(1 ... .max)) ?? 1
      let time = reader.read("temporal_scale_factor", .integer(1 ... .max)) ?? 1
      let isShown = reader.read("include_in_output", .flag) ?? false
      return media.map {
        .reference($0, downscaleFactor: space, temporalScaleFactor: time, includeInOutput: isShown)
      }
    case "video_to_audio": return file("video").map { .videoToAudio(video: $0) }
    default: return file("audio").map { .audioToVideo(audio: $0) }
    }
  }

  /// Exactly one of `video` and `audio`.
  private static func media(_ reader: SectionReader) -> ValidationCondition.Media? {
    let video = reader.read("video", .optional(.path))
    let audio = reader.read("audio", .optional(.path))
    // One that is wrong has been reported.
    guard video != nil || !reader.has("video"), audio != nil || !reader.has("audio") else {
      return nil
    }
    switch (video ?? nil, audio ?? nil) {
    case (let video?, nil):
      reader.checkExists("video", video, .any)
      return .video(video)
    case (nil, let audio?):
      reader.checkExists("audio", audio, .any)
      return .audio(audio)
    case (nil, nil): reader.report("needs a video or an audio")
    case (_?, _?): reader.report("has both video and audio; give one of them")
    }
    return nil
  }

  private static func write(_ condition: ValidationCondition) -> ConfigurationValue {
    func media(_ media: ValidationCondition.Media) -> ConfigurationValue.Entry {
      switch media {
      case .video(let path): .init("video", .string(path))
      case .audio(let path): .init("audio", .string(path))
      }
    }
    let entries: [ConfigurationValue.Entry] =
      switch condition {
      case .firstFrame(let path): [.init("image_or_video", .string(path))]
      case .prefix(let clip, let frames, let duration), .suffix(let clip, let frames, let duration):
        [
          media(clip), .init("num_frames", frames.map { .int($0) } ?? .null),
          .init("duration", duration.map { .double($0) } ?? .null),
        ]
      case .spatialCrop(let path, let region):
        [
          .init("video", .string(path)),
          .init("spatial_region", Rule<SpatialRegion>.region.write(region)),
        ]
      case .mask(let clip, let mask): [media(clip), .init("mask", .string(mask))]
      case .reference(let clip, let space, let time, let isShown):
        [
          media(clip), .init("downscale_factor", .int(space)),
          .init("temporal_scale_factor", .int(time)),
          .init("include_in_output", .bool(isShown)),
        ]
      case .videoToAudio(let path): [.init("video", .string(path))]
      case .audioToVideo(let path): [.init("audio", .string(path))]
      }
    return .mapping([.init("type", .string(condition.type))] + entries)
  }
}
