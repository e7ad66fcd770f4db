import ArgumentParser
import DemoData
import Media
import Support

/// `ltx demo-data`: parses, calls `DemoDataset`, prints.
struct DemoDataCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo-data",
    abstract: "Draw clips with audio and captions, for trying training.",
    discussion: """
      Each clip shows a colored shape that moves across the frame, with a tone whose pitch follows the motion. \
      Writes the clips to clips/, their captions to dataset.json and their parameters to scenes.json. One in \
      eight combinations of color, shape, direction and size is never drawn; held-out.json lists captions of \
      such combinations. The same seed gives the same clips.

      The captions of the styles sketch and snow begin with SKETCHSTYLE and SNOWSTYLE, trigger words for a LoRA.

      Exit status: 0 if the clips were written, 1 if writing failed, 2 if the input can't be used.

      Examples:

        ltx demo-data plain --clips 64
        ltx demo-data sketches --clips 24 --style sketch --film
        ltx split sketches/film.mp4 sketches/scenes
      """)

  @Argument(
    help: ArgumentHelp(
      "The folder to write to; created if it does not exist, and empty otherwise.",
      valueName: "dir"),
    completion: .directory)
  var folder: String

  @Option(help: "The seed of the clips.")
  var seed: UInt64 = 42

  @Option(help: ArgumentHelp("The number of clips.", valueName: "n"))
  var clips = 64

  @Option(
    help: """
      The style of the clips: plain, sketch (outlines on paper, a hollow tone) or snow (falling flakes, a bell).
      """)
  var style = DemoScene.Style.plain

  @Flag(help: "Draw only combinations that are never drawn otherwise, for evaluation.")
  var heldOut = false

  @Flag(
    help: """
      Write one film.mp4 of all clips with cuts between them. The captions are those of the scenes that \
      `ltx split film.mp4 scenes` writes.
      """)
  var film = false

  func run() throws {
    let dataset = try checkingInput([["clips"]: "--clips"]) {
      let world = DemoWorld(seed: seed, style: style, part: heldOut ? .heldOut : .training)
      let dataset = try DemoDataset(
        world: world, clipCount: clips, layout: film ? .film : .clips)
      try DemoDataset.check(folder: folder)
      return dataset
    }
    printEncoderNote()
    let progress = ProgressLine("drawing", total: clips, unit: "clips")
    let paths = try working {
      defer { progress.finish() }
      return try dataset.write(to: folder) { progress.update($0) }
    }
    for path in paths { print(path) }
  }
}

extension DemoScene.Style: ExpressibleByArgument {}
