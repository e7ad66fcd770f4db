// Options of `ltx preprocess`, by what they are about.

import ArgumentParser
import Datasets
import Foundation
import Media
import Support
import Torch

/// Columns of a dataset that are not found by their names.
struct ColumnOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The column of the clips and pictures.", valueName: "column"))
  var videoColumn: String?

  @Option(help: ArgumentHelp("The column of the captions.", valueName: "column"))
  var captionColumn: String?

  @Option(help: ArgumentHelp("The column of the sounds.", valueName: "column"))
  var audioColumn: String?

  @Option(
    name: [.customLong("reference-video-column"), .customLong("reference-column")],
    help: ArgumentHelp("The column of the references.", valueName: "column"))
  var referenceVideoColumn: String?

  @Option(help: ArgumentHelp("The column of the references' sounds.", valueName: "column"))
  var referenceAudioColumn: String?

  @Option(help: ArgumentHelp("The column of the clips' masks.", valueName: "column"))
  var videoMaskColumn: String?

  @Option(help: ArgumentHelp("The column of the sounds' masks.", valueName: "column"))
  var audioMaskColumn: String?

  @Option(help: ArgumentHelp("The column of the repeats per epoch.", valueName: "column"))
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

/// What is made of clips, sounds and captions.
struct PreprocessingContentOptions: ParsableArguments {
  @Option(help: "A word to put before each caption, which the LoRA will listen to.")
  var loraTrigger: String?

  @Flag(help: "Take away how language models like to begin captions, such as \"The video shows\".")
  var removeLlmPrefixes = false

  @Flag(
    help:
      "Fail for clips without sound. Sound is taken from the clips anyway, unless --skip-audio is given."
  )
  var withAudio = false

  @Flag(help: "Leave the clips' sound out. Columns of sound are still read.")
  var skipAudio = false

  @Option(
    help: ArgumentHelp(
      "For sounds without clips: lengths in seconds, of which each takes the longest that it fills.",
      valueName: "s;s;…"))
  var audioDurations: String?

  @Option(
    help: ArgumentHelp(
      """
      The audio track of clips, and of other files with several: its number from 1, or a language such as eng. Default: \
      the track that is marked default, else the first that can be decoded.
      """, valueName: "n|language"))
  var audioTrack: String?

  @Option(
    name: .customLong("fps"),
    help: ArgumentHelp(
      "Bring all clips to this rate, by leaving out and repeating frames; each keeps its own if left out.",
      valueName: "rate"))
  var frameRate: Double?

  @Option(
    help: ArgumentHelp(
      "Whether HDR and wide-gamut clips are converted to SDR BT.709 (on, off). With off, code values are used unchanged.",
      valueName: "on|off"))
  var hdrToSdr: OnOff?

  @Option(
    help: ArgumentHelp(
      "The color behind transparent pixels: black, white or #RRGGBB. By default white for images and black for video.",
      valueName: "color"))
  var background: RGBColor?

  @Option(
    help: ArgumentHelp("By how much references are smaller than their clips.", valueName: "n"))
  var referenceDownscaleFactor = 1

  @Option(
    help: ArgumentHelp("Of references, take the first frame and then every n-th.", valueName: "n"))
  var referenceTemporalScaleFactor = 1

  func validate() throws {
    guard (1...1024).contains(referenceDownscaleFactor) else {
      throw ValidationError("--reference-downscale-factor must be from 1 to 1024")
    }
    guard (1...1024).contains(referenceTemporalScaleFactor) else {
      throw ValidationError("--reference-temporal-scale-factor must be from 1 to 1024")
    }
    guard !(withAudio && skipAudio) else {
      throw ValidationError(
        "--with-audio and --skip-audio contradict each other; leave one of them out")
    }
    if let frameRate, !(0.1...1000).contains(frameRate) {
      throw ValidationError(
        "--fps: \(frameRate) frames a second are not possible; give 0.1 to 1000")
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
      ["buckets"]: "--resolution-buckets",
      ["audioDurations"]: "--audio-durations",
      ["referenceDownscale"]: "--reference-downscale-factor",
      ["referenceTemporalScale"]: "--reference-temporal-scale-factor",
      ["isCompatible"]: "--compat",
      ["decode"]: "--decode",
      ["cache"]: "CACHE",
    ]
    for role in Role.all {
      let option = "--\(role.name.replacing("_", with: "-"))-column"
      table["columns", .name(role.name)] = option
    }
    return table
  }()
}
