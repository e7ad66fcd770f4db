// The options of `ltx generate`, in groups.

import ArgumentParser
import Foundation
import Generation
import LTX
import LoRAFiles
import Support

/// What the result should show, and how large it is.
struct ResultOptions: ParsableArguments {
  @Option(help: "What the result should show; repeatable, each makes a result of its own.")
  var prompt: [String] = []

  @Option(
    help: ArgumentHelp(
      "A text file of prompts, one a line, each for a result of its own.", valueName: "file"),
    completion: .file())
  var prompts: String?

  @Option(help: "What it should not be like; not read where guidance is off.")
  var negativePrompt = GenerationRequest.defaultNegativePrompt

  @Option(
    name: [.customLong("output"), .customLong("output-path")],
    help: ArgumentHelp(
      "The .mp4 to write, .png for one frame, .wav for sound alone. Several prompts add a number to the name.",
      valueName: "file"),
    completion: .file())
  var output: String

  @Option(
    help:
      "In pixels; a multiple of what the model's latent cells stand for, 32 in LTX-2. (default: 768, in two stages 1536)"
  )
  var width: Int?

  @Option(help: "In pixels, as --width. (default: 512, in two stages 1024)")
  var height: Int?

  @Option(help: "Frames of the video, 8k + 1 in LTX-2. (default: 121)")
  var numFrames: Int?

  @Option(help: "Frames a second. (default: 24)")
  var frameRate: Double?

  @Flag(inversion: .prefixedNo, help: "Make the sound too.")
  var audio = true

  @Option(help: "Where the noise comes from: the same seed gives the same result.")
  var seed: UInt64 = 10

  /// All prompts, in the order in which they were given.
  ///
  /// - Throws: `InputError` for a file that can't be read or has an empty line, and where there is
  ///   no prompt.
  func allPrompts() throws -> [String] {
    var all = prompt
    if let prompts {
      var lines = try Self.lines(of: prompts)
      // A file ends with a line break.
      if lines.last == "" { lines.removeLast() }
      if let empty = lines.firstIndex(of: "") {
        throw InputError(
          "--prompts: line \(empty + 1) of \(prompts) is empty; each line must be a prompt")
      }
      guard !lines.isEmpty else { throw InputError("--prompts: \(prompts) is empty") }
      all += lines
    }
    guard !all.isEmpty else {
      throw InputError("nothing says what to show; give --prompt TEXT or --prompts FILE")
    }
    return all
  }

  /// The lines of a text file, without blanks around them. They may end as on Windows, and the file
  /// may begin with the mark that editors there put in front.
  private static func lines(of path: String) throws -> [String] {
    let data: Data
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path))
    } catch {
      throw InputError("--prompts: \(path) can't be read: \(reason(of: error))")
    }
    guard let text = String(validating: data, as: UTF8.self), !data.contains(0) else {
      throw InputError(
        "--prompts: \(path) is no text in UTF-8; give a text file with a prompt a line")
    }
    let scalars = text.unicodeScalars.drop { $0 == "\u{FEFF}" }
    // Scalars, since "\r\n" is one character.
    return scalars.split(separator: "\n", omittingEmptySubsequences: false).map {
      String($0).trimmingCharacters(in: .whitespacesAndNewlines)
    }
  }
}

/// What is known of the result.
struct ConditionOptions: ParsableArguments {
  @Option(
    name: .customLong("image"),
    help: ArgumentHelp(
      "A picture that a frame should look like; repeatable. Frame 0 and strength 1 if left out.",
      valueName: "file[:frame[:strength]]"))
  var images: [ImageArgument] = []

  @Option(
    name: .customLong("image-crf"),
    help:
      "How H.264 compresses pictures first, as the model saw them in training; 0 for not at all. (default: 33)"
  )
  var imageCRF: Int?

  @Option(
    help: ArgumentHelp(
      "A clip that the video begins with: its first frames, 8k + 1 of them, or all.",
      valueName: "file[:frames]"))
  var prefix: ClipArgument?

  @Option(
    help: ArgumentHelp(
      "A clip that the video ends with: its last frames, 8k of them, or all.",
      valueName: "file[:frames]"))
  var suffix: ClipArgument?

  @Option(
    name: [.customLong("source"), .customLong("video-path")],
    help: ArgumentHelp(
      "A video to edit: a stretch of it (--start-time, --end-time) or what is under a mask (--mask) is made anew. The "
        + "result has its size, rate and length.", valueName: "file"), completion: .file())
  var source: String?

  @Option(help: "Where the stretch of --source begins, in seconds.")
  var startTime: Double?

  @Option(help: "Where it ends.")
  var endTime: Double?

  @Option(
    help: ArgumentHelp("A picture or video, white where --source is made anew.", valueName: "file"),
    completion: .file())
  var mask: String?

  @Option(
    name: [.customLong("reference"), .customLong("video-conditioning")],
    help: ArgumentHelp(
      "A video for an IC-LoRA to refer to; repeatable. Strength 1 if left out.",
      valueName: "file[:strength]")
  )
  var references: [LoRAArgument] = []

  @Option(help: "How far video and references attend to each other, 0 to 1.")
  var referenceAttention = 1.0

  @Option(
    name: [.customLong("sound"), .customLong("audio-path")],
    help: ArgumentHelp(
      "A sound to make the video for; the result has it as it is.", valueName: "file"),
    completion: .file())
  var sound: String?

  @Option(
    name: [.customLong("sound-start-time"), .customLong("audio-start-time")],
    help: "Where in it to begin, in seconds.")
  var audioStartTime = 0.0

  @Option(
    help: ArgumentHelp(
      "A video to make the sound for; the result has its pictures.", valueName: "file"),
    completion: .file())
  var video: String?

  func conditions() throws -> [GenerationCondition] {
    var conditions = images.map {
      GenerationCondition.image(
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
        throw InputError(
          "--source: say what is made anew, either by --start-time and --end-time or by --mask")
      }
    } else if startTime != nil || endTime != nil || mask != nil {
      throw InputError("--start-time, --end-time and --mask edit a video; give --source FILE")
    }
    conditions += references.map { .reference(path: $0.path, strength: $0.strength) }
    if let sound { conditions.append(.audio(path: sound, start: audioStartTime)) }
    if let video { conditions.append(.video(path: video)) }
    return conditions
  }
}

/// How the result is sampled.
struct SamplingOptions: ParsableArguments {
  @Option(
    name: [.customLong("steps"), .customLong("num-inference-steps")],
    help: "Steps of sampling. (default: 40, LTX-2.3 30, res_2s 15)")
  var steps: Int?

  @Option(help: "euler, or the second-order res_2s, which asks the model twice a step.")
  var sampler: Sampler.Method = .euler

  @Flag(help: "The model is a distilled one: fixed noise levels, no guidance.")
  var distilled = false

  @Option(
    name: [
      .customLong("video-cfg-scale"), .customLong("cfg-scale"),
      .customLong("video-cfg-guidance-scale"),
    ],
    help:
      "How closely the prompt is followed. 1 is off, and saves a pass of each step. (default: 3)")
  var videoCFG: Double?

  @Option(
    name: [
      .customLong("video-stg-scale"), .customLong("stg-scale"),
      .customLong("video-stg-guidance-scale"),
    ],
    help:
      "Spatio-temporal guidance. 0 is off, and saves a pass of each step. (default: 1, res_2s 0)")
  var videoSTG: Double?

  @Option(
    name: [.customLong("video-stg-blocks"), .customLong("stg-blocks")], parsing: .upToNextOption,
    help: ArgumentHelp(
      "Blocks whose self-attention it leaves out. (default: 29 of 48, LTX-2.3 28; at that depth in others)",
      valueName: "block"))
  var videoSTGBlocks: [Int] = []

  @Option(
    name: [.customLong("a2v-scale"), .customLong("a2v-guidance-scale")],
    help: "How closely the video follows the sound. 1 is off. (default: 3)")
  var videoModality: Double?

  @Option(
    name: [
      .customLong("video-rescale"), .customLong("rescale"), .customLong("video-rescale-scale"),
    ],
    help: "How far guidance's gain in contrast is taken back, 0 to 1. (default: 0.7, res_2s 0.45)")
  var videoRescale: Double?

  @Option(help: "Steps that the video skips after each one that it takes. (default: 0)")
  var videoSkipStep: Int?

  @Option(
    name: [.customLong("audio-cfg-scale"), .customLong("audio-cfg-guidance-scale")],
    help: "As for the video. (default: 7)")
  var audioCFG: Double?

  @Option(
    name: [.customLong("audio-stg-scale"), .customLong("audio-stg-guidance-scale")],
    help: "As for the video. (default: 1, res_2s 0)")
  var audioSTG: Double?

  @Option(
    name: .customLong("audio-stg-blocks"), parsing: .upToNextOption,
    help: ArgumentHelp("As for the video.", valueName: "block"))
  var audioSTGBlocks: [Int] = []

  @Option(
    name: [.customLong("v2a-scale"), .customLong("v2a-guidance-scale")],
    help: "How closely the sound follows the video. 1 is off. (default: 3)")
  var audioModality: Double?

  @Option(
    name: [.customLong("audio-rescale"), .customLong("audio-rescale-scale")],
    help: "As for the video. (default: 0.7, res_2s 1)")
  var audioRescale: Double?

  @Option(help: "As for the video. (default: 0)")
  var audioSkipStep: Int?

  var videoGuidance: GuidanceChoice {
    var choice = GuidanceChoice()
    (choice.cfg, choice.stg, choice.modality) = (videoCFG, videoSTG, videoModality)
    (choice.rescale, choice.skipSteps) = (videoRescale, videoSkipStep)
    choice.stgBlocks = videoSTGBlocks.isEmpty ? nil : Set(videoSTGBlocks)
    return choice
  }

  var audioGuidance: GuidanceChoice {
    var choice = GuidanceChoice()
    (choice.cfg, choice.stg, choice.modality) = (audioCFG, audioSTG, audioModality)
    (choice.rescale, choice.skipSteps) = (audioRescale, audioSkipStep)
    choice.stgBlocks = audioSTGBlocks.isEmpty ? nil : Set(audioSTGBlocks)
    return choice
  }
}

extension Sampler.Method: ExpressibleByArgument {}

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

/// Arguments that don't go together, or a file of arguments that can't be used.
struct InputError: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}
