import ArgumentParser
import Foundation
import Media

/// `ltx split`: parses, calls `SceneSplitter`, prints.
struct SplitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "split",
    abstract: "Cut a video at its scene changes into files of their own.",
    discussion: """
      Writes <name>-Scene-001.mp4 and so on (H.264, with the video's sound as AAC) and scenes.csv into the \
      output folder. A video without a cut is written as one scene.
      """)

  @Argument(help: "The video to split.", completion: .file())
  var input: String

  @Argument(help: "The folder for the scenes; made if need be.", completion: .directory)
  var output: String

  @Option(
    help: ArgumentHelp(
      "Leave out scenes shorter than this: frames (123), seconds (2s, 1.5s) or a time code (00:00:02.500).",
      valueName: "length"))
  var filterShorterThan: String?

  @Option(help: "How much a frame must differ from the one before to start a new scene, 0 to 255.")
  var threshold = ContentDetector.defaultThreshold

  @Option(help: "Merge cuts that are closer than so many frames.")
  var minSceneLength = ContentDetector.defaultMinimumSceneLength

  func run() throws {
    do {
      guard (0...255).contains(threshold) else {
        throw MediaError(
          .badOption, file: "", "a threshold of \(threshold) is not possible", remedy: "Give 0 to 255.")
      }
      guard minSceneLength >= 0 else {
        throw MediaError(
          .badOption, file: "", "a scene length of \(minSceneLength) is not possible",
          remedy: "Give 0 or more frames.")
      }
      let splitter = SceneSplitter(filterShorterThan: try filterShorterThan.map(SceneLength.init))
      let detector = ContentDetector(threshold: threshold, minimumSceneLength: minSceneLength)
      let report = ProgressReport()
      let result = try splitter.split(input, into: output, by: detector) { report.show($0) }
      report.finish()
      if case .damaged(let what) = result.ending { printError("warning: \(input): \(what)") }
      for note in result.notes { printError("note: \(note)") }
      for scene in result.scenes {
        let times = String(format: "%.3f to %.3f s", scene.startSeconds, scene.endSeconds)
        print("\(scene.file)  frames \(scene.scene.start) to \(scene.scene.end) (\(times))")
      }
      let dropped = result.droppedScenes == 0 ? "" : ", \(result.droppedScenes) too short and left out"
      print("\(result.scenes.count) scenes from \(result.frameCount) frames\(dropped)")
    } catch let error as MediaError {
      printError("error: \(error)")
      throw ExitCode(error.kind == .writing || error.kind == .system ? 1 : 2)
    }
  }
}

/// One line that is rewritten on a terminal; one line for each phase in a log.
private final class ProgressReport {
  private let isTerminal = isatty(2) == 1
  private var phase: SplitProgress.Phase?
  private var phaseStart = Date()
  private var lastShown = Date.distantPast

  func show(_ progress: SplitProgress) {
    let verb = progress.phase == .detecting ? "Looking for scenes" : "Writing scenes"
    if phase != progress.phase {
      phase = progress.phase
      phaseStart = Date()
      if !isTerminal { printError(verb) }
    }
    guard isTerminal, -lastShown.timeIntervalSinceNow > 0.2 else { return }
    lastShown = Date()
    let rate = Double(progress.frame) / max(-phaseStart.timeIntervalSinceNow, 1e-3)
    var line = "\(verb): frame \(progress.frame)"
    if let total = progress.frameCount {
      let left = Double(max(0, total - progress.frame)) / max(rate, 1e-3)
      line += String(format: " of %d, %.0f frames/s, %.0f s left", total, rate, left)
    } else {
      line += String(format: ", %.0f frames/s", rate)
    }
    FileHandle.standardError.write(Data("\r\u{1B}[K\(line)".utf8))
  }

  func finish() {
    if isTerminal { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
  }
}
