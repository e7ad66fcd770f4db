import Foundation
import LTX

/// The folders of a cache, by the reference's names. Each holds a file for each sample.
public enum CacheFolder: String, CaseIterable, Sendable, Codable, CodingKeyRepresentable {
  case conditions
  case latents
  case referenceLatents = "reference_latents"
  case videoMasks = "video_masks"
  case audioLatents = "audio_latents"
  case referenceAudioLatents = "reference_audio_latents"
  case audioMasks = "audio_masks"

  /// What one of its files is, for messages.
  public var noun: String {
    switch self {
    case .conditions: "text features"
    case .latents: "latents"
    case .referenceLatents: "reference latents"
    case .videoMasks: "video mask"
    case .audioLatents: "audio latents"
    case .referenceAudioLatents: "reference audio latents"
    case .audioMasks: "audio mask"
    }
  }

  /// The part of a model that makes its files; nil for what no model makes.
  var component: ModelFiles.Component? {
    switch self {
    case .conditions: .transformer  // beside the text encoder: the projection of its features
    case .latents, .referenceLatents: .videoVAE
    case .audioLatents, .referenceAudioLatents, .audioMasks: .audioVAE
    case .videoMasks: nil
    }
  }

  /// Sample files below a folder, by their relative name without the extension.
  ///
  /// - Throws: `DatasetError` where there is no such folder.
  public static func files(below folder: String) throws -> [String: String] {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder),
      isFolder.boolValue,
      let found = FileManager.default.enumerator(atPath: folder)
    else {
      throw DatasetError(
        path: folder, problem: "there is no such folder; run `ltx preprocess` first")
    }
    var files: [String: String] = [:]
    for case let relative as String in found {
      let url = URL(fileURLWithPath: relative)
      // Files in the making end otherwise.
      guard CacheFormat(rawValue: url.pathExtension) != nil, !EmptyPrompt.isFile(relative) else {
        continue
      }
      files[String(relative.dropLast(url.pathExtension.count + 1))] = "\(folder)/\(relative)"
    }
    return files
  }
}

/// How the files of a cache are written; the raw value is their extension.
public enum CacheFormat: String, CaseIterable, Sendable {
  /// With a fingerprint in the metadata.
  case safetensors
  /// As the official trainer writes and reads it, with a fingerprint that it passes over.
  case pt

  var other: CacheFormat { self == .pt ? .safetensors : .pt }
}
