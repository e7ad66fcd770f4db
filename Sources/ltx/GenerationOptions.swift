// The options of `ltx generate`, in groups; those of conditions are in `ConditionOptions`.

import ArgumentParser
import Foundation
import Generation
import LTX
import LoRAFiles
import Support

/// The prompts, the size and the file of the result.
struct ResultOptions: ParsableArguments {
  @Option(help: "A description of the result; repeatable, one result each.")
  var prompt: [String] = []

  @Option(
    help: ArgumentHelp(
      "A text file with one prompt per line, one result each.", valueName: "file"),
    completion: .file())
  var prompts: String?

  @Option(help: "A description of what to avoid; ignored without guidance.")
  var negativePrompt = GenerationRequest.defaultNegativePrompt

  @Option(
    name: [.customLong("output"), .customLong("output-path")],
    help: ArgumentHelp(
      "The .mp4 file to write, .png for a single frame, .wav for audio alone. With several prompts, a number is added to the name.",
      valueName: "file"),
    completion: .file())
  var output: String

  @Option(
    help:
      "The width in pixels, a multiple of 32 in LTX-2. (default: 768, in two stages 1536)"
  )
  var width: Int?

  @Option(
    help: "The height in pixels, a multiple of 32 in LTX-2. (default: 512, in two stages 1024)")
  var height: Int?

  @Option(help: "The number of frames, 8k + 1 in LTX-2. (default: 121)")
  var numFrames: Int?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "Let the model choose each video's length, between two numbers of seconds (LTX-2.5).",
      valueName: "seconds"))
  var autoDuration: [Double] = []

  @Option(help: "The number of frames a second. (default: 24)")
  var frameRate: Double?

  @Flag(inversion: .prefixedNo, help: "Generate audio too.")
  var audio = true

  @Option(help: "The seed of the noise; the same seed gives the same result.")
  var seed: UInt64 = 10

  /// The range of lengths to choose from; nil without one.
  ///
  /// - Throws: `Issue` unless there are two numbers.
  func duration() throws -> AutomaticDuration? {
    guard !autoDuration.isEmpty else { return nil }
    guard autoDuration.count == 2 else {
      throw Issue(
        "--auto-duration: must be two numbers of seconds (got \(autoDuration.count))",
        suggestion: "Give the shortest and the longest length, such as --auto-duration 1 20.")
    }
    return AutomaticDuration(minSeconds: autoDuration[0], maxSeconds: autoDuration[1])
  }

  /// All prompts, in the order in which they were given.
  ///
  /// - Throws: `Issue` for a file that can't be read or has an empty line, and without a prompt.
  func allPrompts() throws -> [String] {
    var all = prompt
    if let prompts {
      var lines = try Self.lines(of: prompts)
      // The text after the final line break is not a line.
      if lines.last == "" { lines.removeLast() }
      if let empty = lines.firstIndex(of: "") {
        throw Issue(
          ["promptsFile", .file(prompts)],
          "line \(empty + 1) is empty, but each line must be a prompt")
      }
      guard !lines.isEmpty else { throw Issue(["promptsFile", .file(prompts)], "is empty") }
      all += lines
    }
    guard !all.isEmpty else {
      throw Issue("no prompt is given", suggestion: "Add --prompt TEXT or --prompts FILE.")
    }
    return all
  }

  /// The lines of a text file, without surrounding whitespace. Windows line ends and a byte order
  /// mark at the start are accepted.
  private static func lines(of path: String) throws -> [String] {
    let data: Data
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path))
    } catch {
      throw Issue(["promptsFile", .file(path)], "can't be read (\(reason(of: error)))")
    }
    guard let text = String(validating: data, as: UTF8.self), !data.contains(0) else {
      throw Issue(
        ["promptsFile", .file(path)], "is not UTF-8 text",
        suggestion: "Give a text file with one prompt per line.")
    }
    let scalars = text.unicodeScalars.drop { $0 == "\u{FEFF}" }
    // Scalars are split, because "\r\n" is a single Character.
    return scalars.split(separator: "\n", omittingEmptySubsequences: false).map {
      String($0).trimmingCharacters(in: .whitespacesAndNewlines)
    }
  }
}

/// LTX-2.5's detailing recipe.
struct DetailingOptions: ParsableArguments {
  @Flag(
    help:
      "Generate keyframes at every 24 or 32 frames and refine them with the video (LTX-2.5, with --distilled and --spatial-upsampler-path)."
  )
  var dfr = false

  @Option(
    name: .customLong("detailing-lora"),
    help: ArgumentHelp(
      "An IC-LoRA for the second stage of --dfr, which refers to the first stage's video.",
      valueName: "file[:strength]"))
  var lora: FileWithStrength?

  @Option(
    help: ArgumentHelp(
      "A temporal latent upsampler, for the rounds of --dfr.", valueName: "file"),
    completion: .file())
  var temporalUpsamplerPath: String?

  @Option(
    help:
      "The rounds of --dfr after the second stage, each of which doubles the frame rate, 0 to 2. (default: 0)"
  )
  var temporalUpsampleRounds: Int?

  /// The number of rounds; nil without the recipe.
  ///
  /// - Throws: `Issue` for rounds without the recipe.
  func rounds() throws -> Int? {
    guard dfr || temporalUpsampleRounds == nil else {
      throw Issue("--temporal-upsample-rounds is for --dfr", suggestion: "Add --dfr.")
    }
    return dfr ? temporalUpsampleRounds ?? 0 : nil
  }
}

/// The options of the sampler.
struct SamplingOptions: ParsableArguments {
  @Option(
    name: [.customLong("steps"), .customLong("num-inference-steps")],
    help: "The number of sampling steps. (default: 40, LTX-2.3 and later 30, res_2s 15)")
  var steps: Int?

  @Option(
    help: "The sampler: euler, or the second-order res_2s, which runs the model twice per step.")
  var sampler: Sampler.Method = .euler

  @Flag(help: "Sample a distilled model: fixed noise levels, no guidance.")
  var distilled = false

  @Option(
    help:
      "The number of evenly spaced frames that are generated in addition to the video, for more detail in time. Each costs as much as a latent frame, and the model must be trained for it (LTX-2.5)."
  )
  var numGeneratedKeyframes: Int?

  @Option(
    parsing: .upToNextOption,
    help: ArgumentHelp(
      "The frames to generate in addition, instead of evenly spaced ones.", valueName: "frame"))
  var generatedKeyframes: [Int] = []

  @Option(
    name: [
      .customLong("video-cfg-scale"), .customLong("cfg-scale"),
      .customLong("video-cfg-guidance-scale"),
    ],
    help:
      "The scale of classifier-free guidance for video. 1 is off, and saves a pass of each step. (default: 3)"
  )
  var videoCFG: Double?

  @Option(
    name: [
      .customLong("video-stg-scale"), .customLong("stg-scale"),
      .customLong("video-stg-guidance-scale"),
    ],
    help:
      "The scale of spatio-temporal guidance for video. 0 is off, and saves a pass of each step. (default: 1, res_2s 0)"
  )
  var videoSTG: Double?

  @Option(
    name: [.customLong("video-stg-blocks"), .customLong("stg-blocks")], parsing: .upToNextOption,
    help: ArgumentHelp(
      "The blocks whose self-attention spatio-temporal guidance skips. (default: 29 of 48, LTX-2.3 and later 28; the same depth in other models)",
      valueName: "block"))
  var videoSTGBlocks: [Int] = []

  @Option(
    name: [.customLong("a2v-scale"), .customLong("a2v-guidance-scale")],
    help: "The scale by which the video follows the audio. 1 is off. (default: 3)")
  var videoModality: Double?

  @Option(
    name: [
      .customLong("video-rescale"), .customLong("rescale"), .customLong("video-rescale-scale"),
    ],
    help:
      "How much of the contrast that guidance adds to video is removed, 0 to 1. (default: 0.7, res_2s 0.45)"
  )
  var videoRescale: Double?

  @Option(help: "The number of steps that video skips after each step it takes. (default: 0)")
  var videoSkipStep: Int?

  @Option(
    name: [.customLong("audio-cfg-scale"), .customLong("audio-cfg-guidance-scale")],
    help: "The scale of classifier-free guidance for audio. (default: 7)")
  var audioCFG: Double?

  @Option(
    name: [.customLong("audio-stg-scale"), .customLong("audio-stg-guidance-scale")],
    help: "The scale of spatio-temporal guidance for audio. (default: 1, res_2s 0)")
  var audioSTG: Double?

  @Option(
    name: .customLong("audio-stg-blocks"), parsing: .upToNextOption,
    help: ArgumentHelp(
      "The blocks whose self-attention is skipped for audio; the default is as for video.",
      valueName: "block"))
  var audioSTGBlocks: [Int] = []

  @Option(
    name: [.customLong("v2a-scale"), .customLong("v2a-guidance-scale")],
    help: "The scale by which the audio follows the video. 1 is off. (default: 3)")
  var audioModality: Double?

  @Option(
    name: [.customLong("audio-rescale"), .customLong("audio-rescale-scale")],
    help:
      "How much of the contrast that guidance adds to audio is removed, 0 to 1. (default: 0.7, res_2s 1)"
  )
  var audioRescale: Double?

  @Option(help: "The number of steps that audio skips after each step it takes. (default: 0)")
  var audioSkipStep: Int?

  /// - Throws: `Issue` if both a number and a list are given.
  func keyframes() throws -> GeneratedKeyframes {
    guard !generatedKeyframes.isEmpty else { return .count(numGeneratedKeyframes ?? 0) }
    guard numGeneratedKeyframes == nil else {
      throw Issue(
        "--num-generated-keyframes and --generated-keyframes can't be combined",
        suggestion: "Leave one of them out.")
    }
    return .frames(generatedKeyframes)
  }

  var guidance: PerModality<GuidanceChoice> {
    var (video, audio) = (GuidanceChoice(), GuidanceChoice())
    (video.cfg, video.stg, video.modality) = (videoCFG, videoSTG, videoModality)
    (video.rescale, video.skipSteps) = (videoRescale, videoSkipStep)
    video.stgBlocks = videoSTGBlocks.isEmpty ? nil : Set(videoSTGBlocks)
    (audio.cfg, audio.stg, audio.modality) = (audioCFG, audioSTG, audioModality)
    (audio.rescale, audio.skipSteps) = (audioRescale, audioSkipStep)
    audio.stgBlocks = audioSTGBlocks.isEmpty ? nil : Set(audioSTGBlocks)
    return PerModality(video: video, audio: audio)
  }
}

extension Sampler.Method: ExpressibleByArgument {}
