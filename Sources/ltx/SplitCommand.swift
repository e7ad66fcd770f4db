import ArgumentParser
import Foundation
import Media
import TensorFiles

/// `ltx split`: parses, calls `SceneSplitter`, prints.
struct SplitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "split",
    abstract: "Cut a video at its scene changes into files of their own.",
    discussion: """
      Writes <name>-Scene-001.mp4 and so on (H.264, with the video's sound as AAC) and scenes.csv into the \
      output folder. A video without a cut is written as one scene. scenes.csv lists the last run, so give each video \
      a folder of its own.

      Exit status: 0 for a split video, 1 if writing failed, 2 if the input can't be used.
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
      if let problem = OutputFolder.problem(output) {
        throw MediaError(.badOption, file: output, problem, remedy: "Choose another output folder.")
      }
      let splitter = SceneSplitter(filterShorterThan: try filterShorterThan.map(SceneLength.init))
      let detector = ContentDetector(threshold: threshold, minimumSceneLength: minSceneLength)
      let progress = PhasedProgress()
      defer { progress.finish() }
      let result = try splitter.split(input, into: output, by: detector) {
        let label = $0.phase == .detecting ? "looking for scenes" : "writing scenes"
        progress.show(label, $0.frame, of: $0.frameCount, unit: "frames")
      }
      progress.finish()
      if case .damaged(let what) = result.ending { printError("warning: \(input): \(what)") }
      for note in result.notes { printError("note: \(note)") }
      for scene in result.scenes {
        let times = String(format: "%.3f to %.3f s", scene.startSeconds, scene.endSeconds)
        print("\(scene.file)  frames \(scene.scene.start) to \(scene.scene.end) (\(times))")
      }
      let dropped = result.droppedScenes == 0 ? "" : ", \(result.droppedScenes) too short and left out"
      let count = result.scenes.count
      print("\(count) \(count == 1 ? "scene" : "scenes") from \(result.frameCount) frames\(dropped)")
    } catch let error as MediaError {
      printError("error: \(error)")
      throw ExitCode(error.kind == .writing || error.kind == .system ? 1 : 2)
    }
  }
}
