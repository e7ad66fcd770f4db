import Generation
import LTX
import Support

extension Rule<Condition<MediaFile>> {
  static var validationCondition: Rule { .section(read, write: write) }

  private static let types = [
    "first_frame", "prefix", "suffix", "spatial_crop", "mask", "reference", "video_to_audio",
    "audio_to_video",
  ]

  private static func read(_ reader: SectionReader) -> Condition<MediaFile>? {
    guard let type = reader.required("type", .choice(of: types)) else { return nil }
    defer { reader.finish() }
    func file(_ key: String) -> String? {
      let path = reader.required(key, .path)
      reader.checkExists(key, path, .any)
      return path
    }
    switch type {
    case "first_frame": return file("image_or_video").map { .firstFrame(path: $0) }
    case "prefix", "suffix":
      let media = media(reader)
      let frames = reader.read("num_frames", .optional(.integer(1 ... .max))) ?? nil
      let duration = reader.read("duration", .optional(.number(.above(0)))) ?? nil
      return media.map { media in
        let extent: Condition<MediaFile>.Extent? =
          media.modality == .video
          ? frames.map { .frames($0) } : duration.map { .seconds($0) }
        return Condition(media, type == "prefix" ? .prefix(extent) : .suffix(extent))
      }
    case "spatial_crop":
      let video = file("video")
      let region = reader.required("spatial_region", .region)
      guard let video, let region else { return nil }
      return .crop(path: video, region: region)
    case "mask":
      let media = media(reader)
      let mask = file("mask")
      guard let media, let mask else { return nil }
      return Condition(media, .mask(MediaFile(mask, media.modality), .keepsWhite))
    case "reference":
      let media = media(reader)
      let space = reader.read("downscale_factor", .integer(1 ... .max)) ?? 1
      let time = reader.read("temporal_scale_factor", .integer(1 ... .max)) ?? 1
      let isShown = reader.read("include_in_output", .flag) ?? false
      return media.map { media in
        Condition(
          media,
          media.modality == .video
            ? .reference(scale: ReferenceScale(space: space, time: time), isShown: isShown)
            : .reference())
      }
    case "video_to_audio": return file("video").map { .video(path: $0) }
    default: return file("audio").map { .audio(path: $0) }
    }
  }

  /// Reads exactly one of `video` and `audio`.
  private static func media(_ reader: SectionReader) -> MediaFile? {
    let video = reader.read("video", .optional(.path))
    let audio = reader.read("audio", .optional(.path))
    // An invalid one has been reported.
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
    case (nil, nil): reader.report("needs video or audio")
    case (_?, _?): reader.report("has both video and audio; give one of them")
    }
    return nil
  }

  private static func write(_ condition: Condition<MediaFile>) -> ConfigurationValue {
    let media = ConfigurationValue.Entry(condition.fileKey, .string(condition.path))
    let own: [ConfigurationValue.Entry] =
      switch condition.kind {
      case .prefix, .suffix:
        [
          .init("num_frames", condition.frames.map { .int($0) } ?? .null),
          .init("duration", condition.seconds.map { .double($0) } ?? .null),
        ]
      case .crop(let region): [.init("spatial_region", Rule<PixelRegion>.region.write(region))]
      case .mask(let mask, _): [.init("mask", .string(mask.path))]
      case .reference(let scale, let isShown):
        [
          .init("downscale_factor", .int(scale?.space ?? 1)),
          .init("temporal_scale_factor", .int(scale?.time ?? 1)),
          .init("include_in_output", .bool(isShown)),
        ]
      case .image, .firstFrame, .retake, .whole: []
      }
    return .mapping([.init("type", .string(condition.validationType)), media] + own)
  }
}

extension Condition<MediaFile> {
  /// The key of the condition's file.
  var fileKey: String {
    switch kind {
    case .image, .firstFrame: "image_or_video"
    default: modality.rawValue
    }
  }

  /// The keys of the condition's other parts, by their names in problems of a request.
  var partKeys: [Issue.PathComponent: String] {
    switch kind {
    case .prefix, .suffix: ["length": modality == .video ? "num_frames" : "duration"]
    case .crop: ["region": "spatial_region"]
    case .mask: ["mask": "mask"]
    case .reference: ["scale": "downscale_factor", "temporalScale": "temporal_scale_factor"]
    case .image, .firstFrame, .retake, .whole: [:]
    }
  }
}
