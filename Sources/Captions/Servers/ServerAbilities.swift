import Foundation
import HTTP
import Media
import Support

/// The kinds of media that an OpenAI-compatible server accepts, found with a tiny clip before the
/// work.
struct ServerAbilities: Equatable, Sendable {
  /// The form of a video.
  enum Video: Equatable, Sendable {
    /// The file itself, as a part `video_url` (vLLM, SGLang).
    case file
    /// Sampled frames, each as a part `image_url`.
    case frames
    /// The server takes no images.
    case none
  }

  /// The form of a clip's audio.
  enum Audio: Equatable, Sendable {
    /// A part `input_audio`, OpenAI's own.
    case inputAudio
    /// A part `audio_url` (vLLM, SGLang).
    case audioURL
    /// The server takes no audio.
    case none
  }

  var video: Video
  var audio: Audio

  /// The kinds of media that the server accepts, to be read after "which".
  var description: String {
    let seen: String
    switch video {
    case .file: seen = "video files"
    case .frames: seen = "frames as images"
    case .none: return "takes audio but no images"
    }
    switch audio {
    case .inputAudio, .audioURL: return "takes \(seen) and audio"
    case .none: return "takes \(seen) but no audio, so captions describe only what is seen"
    }
  }

  /// Asks a server about each form, the most capable ones first.
  ///
  /// - Parameter accepts: Sends the parts of a message and returns nil if the server answers, or its
  ///   reason for refusing them.
  /// - Throws: `Issue` for a server that takes only text.
  init(of server: String, accepts: ([JSON]) throws -> String?) throws {
    let clip = try TinyClip()
    let question = MessagePart.text("What is this? Answer with one word.")
    // FFmpeg may not be able to write a video here.
    let file = clip.video.map { [MessagePart.video($0, mediaType: "video/mp4"), question] }
    var refusal: String?
    if let file, try accepts(file) == nil {
      video = .file
    } else {
      refusal = try accepts(clip.frames.map { MessagePart.image($0) } + [question])
      video = refusal == nil ? .frames : .none
    }
    if try accepts([MessagePart.audio(clip.audio, as: .inputAudio), question]) == nil {
      audio = .inputAudio
    } else if try accepts([MessagePart.audio(clip.audio, as: .audioURL), question]) == nil {
      audio = .audioURL
    } else {
      audio = .none
    }
    if let refusal, audio == .none {
      throw Issue(
        [.file(server)], "takes neither videos nor images nor audio: \(refusal)",
        suggestion: "Serve a model that sees and hears, such as Qwen2.5-Omni.")
    }
  }

  init(video: Video, audio: Audio) { (self.video, self.audio) = (video, audio) }
}

/// The parts of a message in OpenAI's form.
enum MessagePart {
  static func text(_ text: String) -> JSON { ["type": "text", "text": .string(text)] }

  static func image(_ jpeg: Data) -> JSON {
    ["type": "image_url", "image_url": ["url": url(jpeg, "image/jpeg")]]
  }

  static func video(_ file: Data, mediaType: String) -> JSON {
    ["type": "video_url", "video_url": ["url": url(file, mediaType)]]
  }

  /// - Parameter form: Not `.none`, which has no part.
  static func audio(_ wav: Data, as form: ServerAbilities.Audio) -> JSON {
    form == .audioURL
      ? ["type": "audio_url", "audio_url": ["url": url(wav, "audio/wav")]]
      : [
        "type": "input_audio",
        "input_audio": ["data": .string(wav.base64EncodedString()), "format": "wav"],
      ]
  }

  private static func url(_ data: Data, _ mediaType: String) -> JSON {
    .string("data:\(mediaType);base64,\(data.base64EncodedString())")
  }
}

/// Two seconds of gray frames with a tone, for asking a server what it takes.
private struct TinyClip {
  /// An MP4; nil if the installed FFmpeg can't write H.264.
  let video: Data?
  let frames: [Data]
  let audio: Data

  init() throws {
    let size = 128
    let images = (0..<8).map { index in
      RGBFrame(
        bytes: [UInt8](repeating: UInt8(64 + 16 * index), count: 3 * size * size), width: size,
        height: size)
    }
    frames = try [images[0], images[7]].map { try $0.thumbnail(side: size) }
    video = Self.video(images)
    let tone = (0..<ClipMedia.sampleRate).map { Float(sin(Double($0) / 8)) / 8 }
    audio = try WAVWriter.data([tone], sampleRate: ClipMedia.sampleRate, path: "")
  }

  private static func video(_ frames: [RGBFrame]) -> Data? {
    let path = FileManager.default.temporaryDirectory.path + "/ltx-\(UUID().uuidString).mp4"
    defer { unlink(path) }
    do {
      let writer = try VideoWriter(
        path: path, width: frames[0].width, height: frames[0].height, frameRate: Rational(4))
      for frame in frames { try writer.append(frame) }
      try writer.finish()
      return try Data(contentsOf: URL(fileURLWithPath: path))
    } catch {
      return nil
    }
  }
}
