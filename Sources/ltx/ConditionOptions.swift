import ArgumentParser
import Foundation
import Generation
import LTX
import Support

/// Images, clips, audio and edits that condition the result.
struct ConditionOptions: ParsableArguments {
  @Option(
    name: .customLong("image"),
    help: ArgumentHelp(
      "An image that a frame should look like; repeatable. The default is frame 0 at strength 1.",
      valueName: "file[:frame[:strength]]"))
  var images: [ImageArgument] = []

  @Option(
    name: .customLong("image-crf"),
    help:
      "The H.264 rate factor that images are compressed with first, as in the model's training; 0 to leave them uncompressed. (default: 33, LTX-2.5 18)"
  )
  var imageCRF: Int?

  @Option(
    help: ArgumentHelp(
      "A clip that the video starts with: all of it, or its first 8k + 1 frames.",
      valueName: "file[:frames]"))
  var prefix: ClipArgument?

  @Option(
    help: ArgumentHelp(
      "A clip that the video ends with: all of it, or its last 8k frames.",
      valueName: "file[:frames]"))
  var suffix: ClipArgument?

  @Option(
    name: [.customLong("source"), .customLong("video-path")],
    help: ArgumentHelp(
      "A video to edit: a part of its time (--start-time, --end-time) or of its area (--mask) is generated again. The "
        + "result has its size, rate and length.", valueName: "file"), completion: .file())
  var source: String?

  @Option(help: "The start of the part of --source to generate again, in seconds.")
  var startTime: Double?

  @Option(help: "The end of that part, in seconds.")
  var endTime: Double?

  @Option(
    help: ArgumentHelp(
      "An image or video that is white where --source is generated again.", valueName: "file"),
    completion: .file())
  var mask: String?

  @Option(
    name: [.customLong("reference"), .customLong("video-conditioning")],
    help: ArgumentHelp(
      "A reference video for an IC-LoRA; repeatable. The default strength is 1.",
      valueName: "file[:strength]")
  )
  var references: [FileWithStrength] = []

  @Option(help: "The strength of the attention between video and references, 0 to 1.")
  var referenceAttention = 1.0

  @Option(
    name: [.customLong("sound"), .customLong("audio-path")],
    help: ArgumentHelp(
      "An audio file to generate the video for; the result has it unchanged.", valueName: "file"),
    completion: .file())
  var sound: String?

  @Option(
    name: [.customLong("sound-start-time"), .customLong("audio-start-time")],
    help: "The start of the part of --sound to use, in seconds.")
  var audioStartTime = 0.0

  @Option(
    help: ArgumentHelp(
      "A video to generate audio for; the result has its frames.", valueName: "file"),
    completion: .file())
  var video: String?

  func conditions() throws -> [Condition<MediaFile>] {
    var conditions = images.map {
      Condition.image(
        path: $0.path, frame: $0.frame, strength: $0.strength, crf: imageCRF)
    }
    if let prefix { conditions.append(.prefix(path: prefix.path, frames: prefix.frames)) }
    if let suffix { conditions.append(.suffix(path: suffix.path, frames: suffix.frames)) }
    if let source {
      switch (startTime, endTime, mask) {
      case (let start?, let end?, nil):
        conditions.append(.retake(path: source, from: start, to: end))
      case (nil, nil, let mask?): conditions.append(.inpaint(path: source, mask: mask))
      default:
        throw Issue(
          ["source", .file(source)], "is not edited",
          suggestion: "Add either --start-time and --end-time, or --mask.")
      }
    } else if startTime != nil || endTime != nil || mask != nil {
      throw Issue(
        "--start-time, --end-time and --mask edit a video, but none is given",
        suggestion: "Add --source FILE.")
    }
    conditions += references.map { .reference(path: $0.path, strength: $0.strength) }
    if let sound { conditions.append(.audio(path: sound, start: audioStartTime)) }
    if let video { conditions.append(.video(path: video)) }
    return conditions
  }
}

/// `FILE`, `FILE:FRAME` or `FILE:FRAME:STRENGTH`.
struct ImageArgument: ExpressibleByArgument {
  let path: String
  let frame: Int
  let strength: Double

  init?(argument: String) {
    let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
    if parts.count >= 3, let frame = Int(parts[parts.count - 2]),
      let strength = Double(parts[parts.count - 1])
    {
      path = parts.dropLast(2).joined(separator: ":")
      self.frame = frame
      self.strength = strength
    } else if parts.count >= 2, let frame = Int(parts[parts.count - 1]) {
      path = parts.dropLast().joined(separator: ":")
      self.frame = frame
      strength = 1
    } else {
      path = argument
      frame = 0
      strength = 1
    }
    if path.isEmpty { return nil }
  }
}

/// `FILE` or `FILE:FRAMES`.
struct ClipArgument: ExpressibleByArgument {
  let path: String
  let frames: Int?

  init?(argument: String) {
    if let colon = argument.lastIndex(of: ":"),
      let frames = Int(argument[argument.index(after: colon)...])
    {
      path = String(argument[..<colon])
      self.frames = frames
    } else {
      path = argument
      frames = nil
    }
    if path.isEmpty { return nil }
  }
}
