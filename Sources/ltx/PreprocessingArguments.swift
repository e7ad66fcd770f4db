// The options of `ltx preprocess`, by their subject.

import ArgumentParser
import Datasets
import Foundation
import Media
import Support
import Torch

/// The columns of a dataset that are not found by their names.
struct ColumnOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The column of the clips and images.", valueName: "column"))
  var videoColumn: String?

  @Option(help: ArgumentHelp("The column of the captions.", valueName: "column"))
  var captionColumn: String?

  @Option(help: ArgumentHelp("The column of the audio.", valueName: "column"))
  var audioColumn: String?

  @Option(
    name: [.customLong("reference-video-column"), .customLong("reference-column")],
    help: ArgumentHelp("The column of the reference videos.", valueName: "column"))
  var referenceVideoColumn: String?

  @Option(help: ArgumentHelp("The column of the reference audio.", valueName: "column"))
  var referenceAudioColumn: String?

  @Option(help: ArgumentHelp("The column of the video masks.", valueName: "column"))
  var videoMaskColumn: String?

  @Option(help: ArgumentHelp("The column of the audio masks.", valueName: "column"))
  var audioMaskColumn: String?

  @Option(
    help: ArgumentHelp("The column of the repeats in an epoch of training.", valueName: "column"))
  var repeatsColumn: String?

  var named: [Role: String] {
    [
      .video: videoColumn, .caption: captionColumn, .audio: audioColumn,
      .referenceVideo: referenceVideoColumn,
      .referenceAudio: referenceAudioColumn, .videoMask: videoMaskColumn,
      .audioMask: audioMaskColumn, .repeats: repeatsColumn,
    ].compactMapValues { $0 }
  }
}

/// The content of the cache.
struct PreprocessingContentOptions: ParsableArguments {
  @Option(help: "A trigger word to put before each caption.")
  var loraTrigger: String?

  @Flag(help: "Remove \"The video shows\" and similar phrases from the start of captions.")
  var removeLlmPrefixes = false

  @Flag(
    help:
      "Fail for clips without audio. By default, clips with audio are encoded with it."
  )
  var withAudio = false

  @Flag(help: "Skip the audio of clips. Columns of audio are still read.")
  var skipAudio = false

  @Option(
    help: ArgumentHelp(
      """
      Lengths for audio without clips, in seconds. Each file is cut to the longest one that it \
      fills.
      """,
      valueName: "s;s;…"))
  var audioDurations: String?

  @Option(
    help: ArgumentHelp(
      """
      The audio track of clips, and of other files with several: its number from 1, or a language \
      such as eng. Default: the track that players choose.
      """, valueName: "n|language"))
  var audioTrack: String?

  @Option(
    name: .customLong("fps"),
    help: ArgumentHelp(
      """
      The frame rate to bring all clips to, by dropping and repeating frames. Default: the rate of \
      each clip.
      """,
      valueName: "rate"))
  var frameRate: Double?

  @Option(
    help: ArgumentHelp(
      "Convert HDR and wide-gamut clips to SDR BT.709. With off, code values are used unchanged.",
      valueName: "on|off"))
  var hdrToSdr: OnOff?

  @Option(
    help: ArgumentHelp(
      """
      The color behind transparent pixels: black, white or #RRGGBB. Default: white for images, \
      black for video.
      """,
      valueName: "color"))
  var background: RGBColor?

  @Option(
    help: ArgumentHelp(
      "The factor by which references are smaller than their clips.", valueName: "n"))
  var referenceDownscaleFactor = 1

  @Option(
    help: ArgumentHelp(
      "Use the first frame and then every n-th frame of references.", valueName: "n"))
  var referenceTemporalScaleFactor = 1

  func validate() throws {
    guard (1...1024).contains(referenceDownscaleFactor) else {
      throw ValidationError("--reference-downscale-factor: must be between 1 and 1024")
    }
    guard (1...1024).contains(referenceTemporalScaleFactor) else {
      throw ValidationError("--reference-temporal-scale-factor: must be between 1 and 1024")
    }
    guard !(withAudio && skipAudio) else {
      throw ValidationError(
        "--with-audio and --skip-audio contradict each other. Remove one of them")
    }
    if let frameRate, !(0.1...1000).contains(frameRate) {
      throw ValidationError(
        "--fps: must be between 0.1 and 1000 (got \(frameRate))")
    }
  }

  func apply(to options: inout PreprocessingOptions) throws {
    options.loraTrigger = loraTrigger
    options.removesLLMPrefixes = removeLlmPrefixes
    options.audio =
      skipAudio ? .skipped : withAudio && !options.isCompatible ? .required : .whereThereIs
    options.audioTrack = try audioTrack.map { try AudioTrackChoice($0) } ?? .automatic
    options.frameRate = frameRate
    guard !options.isCompatible || hdrToSdr == nil && background == nil else {
      throw Issue(
        ["isCompatible"], "reads colors like upstream, without conversions",
        suggestion: "Remove --hdr-to-sdr and --background.")
    }
    options.color = ColorOptions(background: background, convertsToSDR: hdrToSdr != .off)
    options.referenceDownscale = referenceDownscaleFactor
    options.referenceTemporalScale = referenceTemporalScaleFactor
    options.audioDurations = try audioDurations.map(Self.durations) ?? []
  }

  private static func durations(_ text: String) throws -> [Double] {
    try text.split(separator: ";", omittingEmptySubsequences: false).map { entry in
      guard let seconds = Double(entry.trimmingCharacters(in: .whitespaces)), seconds > 0,
        seconds < 1e6
      else {
        throw Issue(
          ["audioDurations"], "\"\(entry)\" is not a duration (expected seconds)",
          suggestion: "Write for example 2.0, and a semicolon between several.")
      }
      return seconds
    }
  }
}

extension SubjectTable {
  /// The options of `ltx preprocess` and `ltx dataset`, by the subjects of `Datasets`.
  static let preprocessing: SubjectTable = {
    var table: SubjectTable = [
      ["output"]: "--output-dir",
      ["buckets"]: "--resolution-buckets",
      ["audioDurations"]: "--audio-durations",
      ["referenceDownscale"]: "--reference-downscale-factor",
      ["referenceTemporalScale"]: "--reference-temporal-scale-factor",
      ["isCompatible"]: "--compat",
      ["decode"]: "--decode",
      ["format"]: "--format",
      ["convertsToSDR"]: "--hdr-to-sdr",
      ["cache"]: "CACHE",
    ]
    for role in Role.all {
      let option = "--\(role.name.replacing("_", with: "-"))-column"
      table["columns", .name(role.name)] = option
    }
    return table
  }()
}

/// The options for reading clips in `ltx preprocess`.
struct ClipReadingOptions: ParsableArguments {
  enum Deinterlacing: String, ExpressibleByArgument, CaseIterable {
    case on, off
  }

  @Option(
    help: "Deinterlace interlaced frames to one image each. With off, they are used as stored.")
  var deinterlace = Deinterlacing.on

  @Flag(help: "Fail rows whose clip has damaged frames instead of caching them with a warning.")
  var strict = false

  func apply(to options: inout PreprocessingOptions) {
    options.deinterlaces = deinterlace == .on
    options.isStrict = strict
  }
}
