// F frames, H rows, W columns of pixels.

import Foundation
import LanguageModels
import LocalCaptioning
import Media
import NN
import Support
import TensorFiles
import Torch

/// The JSON input of `caption-processor`: one or more conversations that name media files.
struct CaptionRequest {
  private let conversations: [[JSON]]
  private(set) var options = QwenOmniProcessor.Options()
  private let path: String
  /// The folder that names of files are relative to.
  private let folder: String

  private static let keys: Set = [
    "messages", "batch", "use_audio_in_video", "fps", "enable_thinking", "video_pixels",
    "image_pixels",
  ]

  /// - Throws: `Issue` for a file that can't be read, is not JSON, or has unknown keys or invalid
  ///   values.
  init(path: String) throws {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw Issue([.file(path)], "can't be read; does it exist?")
    }
    let c = try Configuration(
      json: String(decoding: data, as: UTF8.self), file: path, path: "request")
    if let stray = c.keys.first(where: { !Self.keys.contains($0) }) {
      throw c.error(
        stray, "is unknown; the keys are \(Self.keys.sorted().joined(separator: ", "))")
    }
    guard c.has("messages") != c.has("batch") else {
      throw Issue([.file(path)], "must have either messages or batch")
    }
    if c.has("messages") {
      conversations = [try c.array("messages")]
    } else {
      conversations = try c.array("batch").map { conversation in
        guard let messages = conversation.array else {
          throw c.error("batch", "must be a list of lists of messages")
        }
        return messages
      }
    }
    options.isInterleaved = try c.bool("use_audio_in_video", default: false)
    options.fps = try c.positiveDouble("fps", default: 2)
    if c.has("enable_thinking") { options.thinking = try c.bool("enable_thinking") }
    func bounds(_ key: String) throws -> ClosedRange<Int>? {
      guard c.has(key) else { return nil }
      let pair = try c.ints(key, in: 1...1 << 40, count: 2...2)
      guard pair[0] <= pair[1] else { throw c.error(key, "must be a minimum and a maximum") }
      return pair[0]...pair[1]
    }
    options.videoBounds = try bounds("video_pixels")
    options.imageBounds = try bounds("image_pixels")
    self.path = path
    folder = (path as NSString).deletingLastPathComponent
  }

  /// Reads the media.
  ///
  /// - Throws: `Issue` for a message of another form; the errors of reading files.
  func conversations(for processor: QwenOmniProcessor) throws -> [[QwenOmniMessage]] {
    guard !conversations.isEmpty, conversations.allSatisfy({ !$0.isEmpty }) else {
      throw Issue([.file(path)], "has no messages")
    }
    return try conversations.map { try $0.map { try message($0, processor) } }
  }

  private func message(_ json: JSON, _ processor: QwenOmniProcessor) throws -> QwenOmniMessage {
    guard let role = json["role"]?.string else {
      throw Issue([.file(path)], "has a message without a role")
    }
    if let text = json["content"]?.string { return QwenOmniMessage(role: role, [.text(text)]) }
    guard let content = json["content"]?.array else {
      throw Issue([.file(path)], "has a message whose content is neither text nor a list of parts")
    }
    return QwenOmniMessage(role: role, try content.map { try part($0, processor) })
  }

  private func part(_ json: JSON, _ processor: QwenOmniProcessor) throws -> QwenOmniMessage.Part {
    func string(_ key: String) throws -> String {
      guard let value = json[key]?.string else {
        throw Issue([.file(path)], "has a part without \(key) (\(json.text()))")
      }
      return value
    }
    func file(_ name: String) -> String {
      name.hasPrefix("/") || folder.isEmpty ? name : "\(folder)/\(name)"
    }
    switch try string("type") {
    case "text": return .text(try string("text"))
    case "image":
      let name = file(try string("image"))
      let clip = try CaptionClip.read(path: name, processor: processor, options: options)
      guard let image = clip.image else { throw Issue([.file(name)], "is not an image") }
      return .image(image)
    case "audio":
      let name = file(try string("audio"))
      return .audio(try MonoAudio.read(path: name, sampleRate: CaptionClip.sampleRate))
    case "video":
      let name = file(try string("video"))
      let separate = try json["audio"].map { _ in file(try string("audio")) }
      return .video(try clip(name, separateAudio: separate, processor))
    case let other:
      throw Issue(
        [.file(path)], "has a part of type \"\(other)\" (expected text, image, video or audio)")
    }
  }

  /// A clip with its audio, if that is interleaved with it.
  private func clip(
    _ name: String, separateAudio: String?, _ processor: QwenOmniProcessor
  ) throws -> QwenOmniClip {
    let isDecoded = name.hasSuffix(".safetensors")
    let readsOwnAudio = options.isInterleaved && separateAudio == nil && !isDecoded
    var clip: QwenOmniClip
    if isDecoded {
      clip = QwenOmniClip(frames: try decodedFrames(name))
    } else {
      let read = try CaptionClip.read(
        path: name, processor: processor, options: options, readsAudio: readsOwnAudio)
      guard let frames = read.frames else { throw Issue([.file(name)], "is not a video") }
      clip = QwenOmniClip(frames: frames, audio: read.audio)
    }
    if options.isInterleaved, let separateAudio {
      clip.audio = try MonoAudio.read(path: separateAudio, sampleRate: CaptionClip.sampleRate)
    }
    return clip
  }

  /// The chosen frames of a file of decoded frames: [F, 3, H, W], uint8.
  private func decodedFrames(_ name: String) throws -> Tensor {
    let file = try SafetensorsFile(path: name)
    let (frames, rate) = (try file.tensor("frames"), try file.tensor("fps"))
    guard frames.rank == 4, frames.dtype == .uint8, rate.count == 1 else {
      throw Issue(
        [.file(name)], "must have frames [frames, 3, height, width] of uint8 and fps [1]")
    }
    let indices = try FrameSampling.indices(
      count: frames.size(0), rate: rate.item(), fps: options.fps)
    return try frames.indexSelect(0, Tensor(indices))
  }
}
