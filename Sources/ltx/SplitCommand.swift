import ArgumentParser
import Foundation
import Media
import SceneDetection
import Support
import TensorFiles

/// `ltx split`: parses, calls `SceneSplitter`, prints.
struct SplitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "split",
    abstract: "Split videos at scene changes into separate files.",
    discussion: """
      Writes <name>-Scene-001.mp4 and so on (H.264, with the video's audio as AAC), a table scenes.csv and a \
      page scenes.html to the output folder. A video without a scene change is written as one scene. \
      scenes.csv lists the last run, so use one folder per video; if INPUT is a folder, each video in it gets a \
      folder of its own.

      Lengths and times are frames (123), seconds (2s, 1.5s) or time codes (00:00:02.500).

      Exit status: 0 if all videos were split, 1 if writing failed or a video of a folder could not be split, \
      2 if the input can't be used.

      Example:

        ltx split footage.mp4 scenes --filter-shorter-than 2s
      """)

  @Argument(help: "The video to split, or a folder of videos.", completion: .file())
  var input: String

  @Argument(
    help: "The folder for the scenes; created if it does not exist.", completion: .directory)
  var output: String

  @OptionGroup(title: "Detection") var detection: DetectionOptions
  @OptionGroup(title: "Part of the video") var part: PartOptions

  @Option(help: ArgumentHelp("Skip scenes shorter than this.", valueName: "length"))
  var filterShorterThan: String?

  @Option(help: ArgumentHelp("Stop after this number of scenes.", valueName: "n"))
  var maxScenes: Int?

  @Option(
    help: ArgumentHelp("The number of preview images to write of each scene.", valueName: "n"))
  var saveImages = 0

  @Option(
    help: ArgumentHelp(
      "A CSV file for the detector's value at each frame; a file name within each output folder if INPUT is a folder.",
      valueName: "file"))
  var statsFile: String?

  @Option(
    help: ArgumentHelp(
      """
      The audio track of the scenes: its number from 1, or a language such as eng. (default: the track that \
      is marked default, otherwise the first that can be decoded)
      """, valueName: "n|language"))
  var audioTrack: String?

  @Option(
    help: "The rate factor of x264, from 0 (lossless) to 51. (default: 22, as in PySceneDetect)")
  var crf: Int?

  @Option(
    help:
      "The preset of x264, from ultrafast to veryslow. PySceneDetect uses veryfast. (default: superfast)"
  )
  var preset: String?

  @Option(
    help: "Whether interlaced frames are deinterlaced (on) or encoded as stored (off).")
  var deinterlace = ClipReadingOptions.Deinterlacing.on

  @Flag(help: "Copy scenes without encoding them, cut at the last keyframe before each change.")
  var copy = false

  @Flag(help: "Detect scenes and write scenes.csv and scenes.html, but no videos.")
  var noSplit = false

  func run() throws {
    let interruption = Interruption()
    interruption.waitsForCaller()
    var locks = OutputLocks("ltx split")
    defer { locks.release() }
    do {
      let detector = try detection.parsed().makeDetector()
      let splitter = try splitter()
      if let problem = OutputFolder.problem(output) {
        throw MediaError(.badOption, file: output, problem, remedy: "Choose another output folder.")
      }
      try checkingInput { try locks.lock(folder: output) }
      if splitter.output == .encoded { printEncoderNote() }
      guard isFolder(input) else {
        return try split(input, into: output, splitter, detector, interruption)
      }
      try splitAll(VideoFolder(input, output: output), splitter, detector, interruption)
    } catch let error where error is MediaError || error is Issue {
      printError("error: \(SubjectTable.split.message(of: error))")
      let kind = (error as? MediaError)?.kind
      throw ExitCode(kind == .writing || kind == .system ? 1 : 2)
    }
  }

  private func splitter() throws -> SceneSplitter {
    if copy, noSplit {
      throw Issue(
        "--copy and --no-split exclude each other", suggestion: "Leave one of them out.")
    }
    if copy || noSplit, crf != nil || preset != nil {
      throw Issue(
        "--crf and --preset have no effect when nothing is encoded",
        suggestion: "Leave them out, or leave out \(copy ? "--copy" : "--no-split").")
    }
    var splitter = SceneSplitter(
      filterShorterThan: try filterShorterThan.map { try SceneLength($0, of: "filterShorterThan") })
    splitter.output = copy ? .copied : noSplit ? .none : .encoded
    let usual = splitter.quality
    splitter.quality = VideoWriter.Quality(crf: crf ?? usual.crf, preset: preset ?? usual.preset)
    splitter.deinterlaces = deinterlace == .on
    splitter.maximumCount = maxScenes
    splitter.audioTrack = try audioTrack.map { try AudioTrackChoice($0) } ?? .automatic
    splitter.range = try part.range()
    splitter.downscale = detection.downscale
    splitter.frameSkip = detection.frameSkip
    splitter.imagesPerScene = saveImages
    splitter.statisticsFile = statsFile
    return splitter
  }

  /// Splits all videos of a folder; a video that fails does not stop the others.
  private func splitAll(
    _ folder: VideoFolder, _ splitter: SceneSplitter, _ detector: any SceneDetector,
    _ interruption: Interruption
  ) throws {
    if let statsFile, statsFile.contains("/") {
      throw Issue(
        "\(statsFile) is one file for many videos",
        suggestion:
          "Give --stats-file a name without a folder; each video's output folder gets one.")
    }
    for note in folder.skipped.notes() { printError("note: \(note)") }
    var failures = 0
    for entry in folder.entries {
      print("\(entry.video):")
      do {
        var own = splitter
        own.statisticsFile = statsFile.map { entry.output + "/" + $0 }
        try split(entry.video, into: entry.output, own, detector, interruption)
      } catch let error where error is MediaError || error is Issue {
        printError("error: \(SubjectTable.split.message(of: error))")
        failures += 1
      }
    }
    guard failures > 0 else { return }
    printError("error: \(failures) of \(folder.entries.count) videos could not be split")
    throw ExitCode(1)
  }

  private func split(
    _ input: String, into folder: String, _ splitter: SceneSplitter, _ detector: any SceneDetector,
    _ interruption: Interruption
  ) throws {
    let progress = PhasedProgress()
    defer { progress.finish() }
    let result = try splitter.split(input, into: folder, by: detector) {
      if let status = interruption.status { throw ExitCode(status) }
      let (label, unit) = label(of: $0.phase)
      progress.show(label, $0.frame, of: $0.frameCount, unit: unit)
    }
    progress.finish()
    if case .damaged(let what) = result.ending { printError("warning: \(input): \(what)") }
    for note in result.notes { printError("note: \(SubjectTable.split.message(note))") }
    let lines = result.scenes.map { scene in
      let times = String(format: "%.3f to %.3f s", scene.startSeconds, scene.endSeconds)
      let name = scene.file ?? "scene \(scene.number)"
      return "\(name)  frames \(scene.scene.start) to \(scene.scene.end) (\(times))"
    }
    let table = "\(folder)/\(SceneSplitter.tableName)"
    for line in capped(lines, at: 100, rest: { "and \($0) more; see \(table)" }) { print(line) }
    let dropped =
      result.droppedScenes == 0 ? "" : ", \(result.droppedScenes) too short and left out"
    let count = result.scenes.count
    print("\(count) \(count == 1 ? "scene" : "scenes") from \(result.frameCount) frames\(dropped)")
  }

  private func label(of phase: SplitProgress.Phase) -> (String, unit: String) {
    switch phase {
    case .splitting: (noSplit || copy ? "looking for scenes" : "splitting", "frames")
    case .writing: ("writing the rest", "frames")
    case .copying: ("copying", "packets")
    case .extractingImages: ("extracting images", "frames")
    }
  }
}

/// The detection of scene changes.
struct DetectionOptions: ParsableArguments {
  @Option(
    help: """
      The detector: content and histogram find hard cuts by color and by brightness; adaptive tells cuts from \
      fast movement; threshold finds fades through black.
      """)
  var detector = DetectorOptions.Kind.content

  @Option(
    help: """
      The detector's threshold. content: the difference from the previous frame, 0 to 255 (default: 27); \
      adaptive: the ratio to the differences of neighboring frames (default: 3); threshold: the brightness \
      below which a frame is dark, 0 to 255 (default: 12); histogram: the drop of the correlation, 0 to 1 \
      (default: 0.2).
      """)
  var threshold: Double?

  @Option(
    help: ArgumentHelp(
      "The minimum number of frames between cuts. (default: 15)", valueName: "frames"))
  var minSceneLength: Int?

  @Flag(help: "Compare brightness only (content, adaptive).")
  var lumaOnly = false

  @Option(
    help: ArgumentHelp(
      "The number of frames to compare with on each side (adaptive). (default: 2)",
      valueName: "frames"))
  var adaptiveWindow: Int?

  @Option(
    parsing: .unconditional,
    help:
      "The position of the cut in the dark frames, from -1 (start) to 1 (end) (threshold). (default: 0)"
  )
  var fadeBias: Double?

  @Option(
    help: ArgumentHelp(
      "The factor that width and height are divided by before detection. (default: leaves 256 pixels on the longer side)",
      valueName: "factor"))
  var downscale: Int?

  @Option(
    help: ArgumentHelp(
      "The number of frames to skip after each frame that is compared.", valueName: "n"))
  var frameSkip = 0

  func parsed() -> DetectorOptions {
    DetectorOptions(
      detector, threshold: threshold, minimumSceneLength: minSceneLength, lumaOnly: lumaOnly,
      adaptiveWindow: adaptiveWindow, fadeBias: fadeBias)
  }
}

/// The part of a video that is split.
struct PartOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The start of the part to split.", valueName: "time"))
  var start: String?

  @Option(
    help: ArgumentHelp(
      "The end of the part, counted from the start of the video.", valueName: "time"))
  var end: String?

  @Option(
    name: [.short, .long], help: ArgumentHelp("The length of the part.", valueName: "length"))
  var duration: String?

  @Option(help: ArgumentHelp("The number of frames to skip at the start.", valueName: "n"))
  var skipStart: Int?

  @Option(help: ArgumentHelp("The number of frames to skip at the end.", valueName: "n"))
  var skipEnd = 0

  func range() throws -> SplitRange {
    if start != nil, skipStart != nil {
      throw Issue(
        "--start and --skip-start exclude each other", suggestion: "Leave one of them out.")
    }
    return SplitRange(
      start: try skipStart.map { try SceneLength("\($0)", of: "range", "skipStart") }
        ?? start.map { try SceneLength($0, of: "range", "start") },
      end: try end.map { try SceneLength($0, of: "range", "end") },
      duration: try duration.map { try SceneLength($0, of: "range", "duration") },
      skipEnd: skipEnd)
  }
}

extension SceneLength {
  /// Parses a length that belongs to a subject.
  fileprivate init(_ text: String, of subject: Issue.PathComponent...) throws {
    do {
      try self.init(text)
    } catch let issue as Issue {
      throw issue.prefixed(by: subject)
    }
  }
}

extension DetectorOptions.Kind: ExpressibleByArgument {}

extension SubjectTable {
  /// The options of `ltx split`, by the subjects of `SceneDetection`.
  fileprivate static let split: SubjectTable = [
    ["detector"]: "--detector", ["threshold"]: "--threshold",
    ["minimumSceneLength"]: "--min-scene-length", ["lumaOnly"]: "--luma-only",
    ["adaptiveWindow"]: "--adaptive-window", ["fadeBias"]: "--fade-bias",
    ["downscale"]: "--downscale", ["frameSkip"]: "--frame-skip",
    ["range", "start"]: "--start", ["range", "skipStart"]: "--skip-start",
    ["range", "end"]: "--end", ["range", "duration"]: "--duration",
    ["range", "skipEnd"]: "--skip-end", ["filterShorterThan"]: "--filter-shorter-than",
    ["maximumCount"]: "--max-scenes", ["imagesPerScene"]: "--save-images",
    ["statisticsFile"]: "--stats-file", ["quality", "crf"]: "--crf",
    ["quality", "preset"]: "--preset", ["deinterlaces"]: "--deinterlace", ["copy"]: "--copy",
  ]
}
