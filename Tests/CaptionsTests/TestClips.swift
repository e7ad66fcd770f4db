import Foundation
import Media
import MediaTestSupport

@testable import Captions

/// Small clips for captioning.
enum TestClips {
  /// A video of 64x48 pixels at 25 frames per second.
  static func video(_ path: String, frames: Int = 25, hasAudio: Bool = true) throws {
    try write(
      scenes([frames]), to: path,
      audio: hasAudio ? VideoWriter.Audio(sampleRate: 48_000, channelCount: 2) : nil)
  }

  static func image(_ path: String) throws {
    try gradient(width: 64, height: 48, scene: 0, time: 0).writePNG(to: path)
  }

  static func audio(_ path: String, seconds: Double = 1) throws {
    try WAVWriter.write(
      tone(from: 0, count: Int(seconds * 48_000), rate: 48_000, channels: 2), sampleRate: 48_000,
      to: path)
  }
}

/// A captioner that answers at once, or as told.
struct PretendCaptioner: Captioner {
  var summary: String { "a pretend model" }
  var maxConcurrency = 8
  var respond: @Sendable (MediaClip) throws -> ModelAnswer = {
    ModelAnswer(text: "caption of \($0.name)")
  }

  func request(
    for clip: MediaClip, _ instructions: CaptionInstructions
  ) throws -> CaptionRequest {
    CaptionRequest { progress in
      progress(1)
      return try respond(clip)
    }
  }
}
