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
    abstract: "Cut videos at their scene changes into files of their own.",
    discussion: """
      Writes <name>-Scene-001.mp4 and so on (H.264, with the video's sound as AAC), a table scenes.csv and a page \
      scenes.html into the output folder. A video without a cut is written as one scene. scenes.csv lists the last run, \
      so give each video a folder of its own; if INPUT is a folder, each video in it gets one.

      Lengths and places are frames (123), seconds (2s, 1.5s) or time codes (00:00:02.500).

      Exit status: 0 if all was split, 1 if writing failed or a video of a folder could not be split, 2 if the input \
      can't be used.
      """)

  @Argument(help: "The video to split, or a folder of videos.", completion: .file())
  var input: String

  @Argument(help: "The folder for the scenes; made if need be.", completion: .directory)
  var output: String

  @OptionGroup(title: "Detection") var detection: DetectionOptions
  @OptionGroup(title: "Part of the video") var part: PartOptions

  @Option(help: ArgumentHelp("Leave out scenes shorter than this.", valueName: "length"))
  var filterShorterThan: String?

  @Option(help: ArgumentHelp("Stop after so many scenes.", valueName: "n"))
  var maxScenes: Int?

  @Option(help: ArgumentHelp("Write so many preview pictures of each scene.", valueName: "n"))
  var saveImages = 0

  @Option(
    help: ArgumentHelp(
      "Write what the detector measures at each frame as CSV; a name within each output folder if INPUT is a folder.",
      valueName: "file"))
  var statsFile: String?

  @Option(
    help: ArgumentHelp(
      """
      The audio track that scenes get: its number from 1, or a language such as eng. Default: the track that is marked \
      default, else the first that can be decoded.
      """, valueName: "n|language"))
  var audioTrack: String?

  @Option(
    help: "x264's rate factor, from 0, lossless, to 51; PySceneDetect's, 22, if left out.")
  var crf: Int?

  @Option(
    help:
      "x264's preset, from ultrafast to veryslow; superfast if left out. PySceneDetect's is veryfast."
  )
  var preset: String?

  @Option(
    help: "on: make one image of each interlaced frame; off: encode interlaced frames as stored.")
  var deinterlace = ClipReadingOptions.Deinterlacing.on

  @Flag(help: "Copy scenes without coding them anew, cut at the last keyframe up to each change.")
  var copy = false

  @Flag(help: "Only look for scenes: write scenes.csv and scenes.html, but no videos.")
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
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: input, isDirectory: &isFolder),
        isFolder.boolValue
      else {
        return try split(input, into: output, splitter, detector, interruption)
      }
      try splitAll(VideoFolder(input, output: output), splitter, detector, interruption)
    } catch let error as MediaError {
      printError("error: \(error)")
      throw ExitCode(error.kind == .writing || error.kind == .system ? 1 : 2)
    }
  }

  private func splitter() throws -> SceneSplitter {
    if copy, noSplit {
      throw MediaError(
        .badOption, file: "", "--copy and --no-split exclude each other",
        remedy: "Give one of both.")
    }
    if copy || noSplit, crf != nil || preset != nil {
      throw MediaError(
        .badOption, file: "", "--crf and --preset have no meaning where nothing is coded",
        remedy: "Leave them out, or leave out \(copy ? "--copy" : "--no-split").")
    }
    var splitter = SceneSplitter(filterShorterThan: try filterShorterThan.map(SceneLength.init))
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

  /// One bad video does not keep the others from being split.
  private func splitAll(
    _ folder: VideoFolder, _ splitter: SceneSplitter, _ detector: any SceneDetector,
    _ interruption: Interruption
  ) throws {
    if let statsFile, statsFile.contains("/") {
      throw MediaError(
        .badOption, file: "", "\(statsFile) is one file for many videos",
        remedy: "Give --stats-file a name without a folder; each video's output folder gets one.")
    }
    for note in folder.skipped.notes() { printError("note: \(note)") }
    var failures = 0
    for entry in folder.entries {
      print("\(entry.video):")
      do {
        var own = splitter
        own.statisticsFile = statsFile.map { entry.output + "/" + $0 }
        try split(entry.video, into: entry.output, own, detector, interruption)
      } catch let error as MediaError {
        printError("error: \(error)")
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
    for note in result.notes { printError("note: \(note)") }
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
    case .picturing: ("taking pictures", "frames")
    }
  }
}

/// How scenes are found.
struct DetectionOptions: ParsableArguments {
  @Option(
    help: """
      content and histogram find hard cuts, by colours and by brightness; adaptive tells them from fast movement; \
      threshold finds fades through black.
      """)
  var detector = DetectorOptions.Kind.content

  @Option(
    help: """
      content: how much a frame must differ from the one before, 0 to 255 (27); adaptive: how many times as much as its \
      neighbours do (3); threshold: brightness below which a frame is dark, 0 to 255 (12); histogram: how far the \
      correlation must fall, 0 to 1 (0.2).
      """)
  var threshold: Double?

  @Option(
    help: ArgumentHelp(
      "Place cuts at least so many frames apart; 15 if left out.", valueName: "frames"))
  var minSceneLength: Int?

  @Flag(help: "content, adaptive: look at brightness only.")
  var lumaOnly = false

  @Option(
    help: ArgumentHelp(
      "adaptive: frames on each side to compare with; 2 if left out.", valueName: "frames"))
  var adaptiveWindow: Int?

  @Option(
    parsing: .unconditional,
    help:
      "threshold: where in the dark the cut is, from -1, its start, to 1, its end; 0 if left out.")
  var fadeBias: Double?

  @Option(
    help: ArgumentHelp(
      "Divide width and height by this before looking; if left out, 256 pixels are left on the longer side.",
      valueName: "factor"))
  var downscale: Int?

  @Option(
    help: ArgumentHelp("Pass over so many frames after each that is looked at.", valueName: "n"))
  var frameSkip = 0

  func parsed() -> DetectorOptions {
    DetectorOptions(
      detector, threshold: threshold, minimumSceneLength: minSceneLength, lumaOnly: lumaOnly,
      adaptiveWindow: adaptiveWindow, fadeBias: fadeBias)
  }
}

/// Which part of a video is split.
struct PartOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Begin here.", valueName: "place"))
  var start: String?

  @Option(help: ArgumentHelp("End here, counted from the video's beginning.", valueName: "place"))
  var end: String?

  @Option(
    name: [.short, .long], help: ArgumentHelp("Split so much of the video.", valueName: "length"))
  var duration: String?

  @Option(help: ArgumentHelp("Leave out so many frames at the beginning.", valueName: "n"))
  var skipStart: Int?

  @Option(help: ArgumentHelp("Leave out so many frames at the end.", valueName: "n"))
  var skipEnd = 0

  func range() throws -> SplitRange {
    if start != nil, skipStart != nil {
      throw MediaError(
        .badOption, file: "", "--start and --skip-start say the same twice",
        remedy: "Give one of both.")
    }
    return SplitRange(
      start: try skipStart.map { try SceneLength("\($0)") } ?? start.map(SceneLength.init),
      end: try end.map(SceneLength.init), duration: try duration.map(SceneLength.init),
      skipEnd: skipEnd)
  }
}

extension DetectorOptions.Kind: ExpressibleByArgument {}
