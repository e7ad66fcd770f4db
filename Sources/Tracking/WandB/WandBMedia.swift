import Foundation
import Media
import Support

/// A file of a run, and its JSON in a row, which follows `to_json` and `seq_to_json` of
/// `wandb.sdk.data_types`.
struct WandBMedia: Sendable {
  /// The path below `files/`: `media/videos/sample_1_250_0a1b….mp4`.
  let name: String
  let entry: [String: JSON]

  private init(
    folder: String, type: String, key: String, step: Int, sha256: String, size: Int,
    extension suffix: String
  ) {
    let safe = key.map { $0.isLetter || $0.isNumber || "_-.".contains($0) ? $0 : "_" }
    name = "media/\(folder)/\(String(safe))_\(step)_\(sha256.prefix(20)).\(suffix)"
    entry = [
      "_type": .string(type), "path": .string(name), "sha256": .string(sha256),
      "size": JSON(size),
    ]
  }

  private init(_ media: WandBMedia, adding more: [String: JSON]) {
    name = media.name
    entry = media.entry.merging(more) { $1 }
  }

  init(_ sample: ValidationMedia, step: Int) throws {
    let digest = try SHA256.hex(ofFile: sample.path)
    let attributes = try FileManager.default.attributesOfItem(atPath: sample.path)
    let suffix = (sample.path as NSString).pathExtension.lowercased()
    func make(_ folder: String, _ type: String) -> WandBMedia {
      WandBMedia(
        folder: folder, type: type, key: sample.name, step: step, sha256: digest,
        size: (attributes[.size] as? NSNumber)?.intValue ?? 0, extension: suffix)
    }
    let caption = ["caption": JSON.string(sample.caption)]
    switch sample.kind {
    case .video: self.init(make("videos", "video-file"), adding: caption)
    case .audio: self.init(make("audio", "audio-file"), adding: caption)
    case .image:
      var more = caption
      more["format"] = .string(suffix == "jpg" ? "jpeg" : suffix)
      // The size is only used for the layout: an image that can't be decoded is shown anyway.
      if let image = try? VideoReader(path: sample.path) {
        more["width"] = JSON(image.width)
        more["height"] = JSON(image.height)
      }
      self.init(make("images", "image-file"), adding: more)
    }
  }

  /// - Parameter data: the bytes of a PNG or JPEG file.
  init(image data: Data, key: String, width: Int, height: Int, step: Int) throws {
    let format = data.starts(with: [0xFF, 0xD8]) ? "jpeg" : "png"
    self.init(
      WandBMedia(
        folder: "images", type: "image-file", key: key, step: step,
        sha256: SHA256.hex(of: data),
        size: data.count, extension: format),
      adding: [
        "format": .string(format), "width": JSON(width),
        "height": JSON(height),
      ])
  }

  /// Text is shown as a page.
  init(page data: Data, key: String, step: Int) throws {
    self.init(
      folder: "html", type: "html-file", key: key, step: step,
      sha256: SHA256.hex(of: data),
      size: data.count,
      extension: "html")
  }

  /// Returns several files of one kind under one name.
  static func list(_ media: [WandBMedia], kind: ValidationMedia.Kind) -> JSON {
    var entry: [String: JSON] = [
      "count": JSON(media.count),
      "captions": .array(media.map { $0.entry["caption"] ?? "" }),
    ]
    switch kind {
    case .video:
      entry["_type"] = "videos"
      entry["videos"] = .array(media.map { .object($0.entry) })
    case .audio:
      entry["_type"] = "audio"
      entry["audio"] = .array(media.map { .object($0.entry) })
    case .image:
      entry["_type"] = "images/separated"
      entry["filenames"] = .array(media.map { .string($0.name) })
      for key in ["width", "height", "format"] { entry[key] = media.first?.entry[key] }
    }
    return .object(entry)
  }
}
