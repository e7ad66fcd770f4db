import ArgumentParser
import Support
import TinyTraining

/// `train-tiny-ltx video-vae`: the video VAE.
struct VideoVAECommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "video-vae",
    abstract: "Train the video VAE to reconstruct clips of the world.",
    discussion: """
      Trains until --steps. The same command resumes the stage. When it is finished, \
      FOLDER/vae.safetensors has the video VAE, and FOLDER/sheet.png shows held-out clips above \
      their reconstructions.

      Example:

        train-tiny-ltx video-vae stages/video-vae --seed 1
      """)

  @Argument(help: ArgumentHelp("The folder of the stage.", valueName: "folder"))
  var folder: String

  @Option(help: "The seed of the weights and of the clips.")
  var seed: UInt64 = 1

  @Option(help: "The number of steps.")
  var steps = VideoVAEModel.defaultSteps

  @Option(help: "The time after which the stage stops, to be resumed, in minutes.")
  var minutes: Double = 90

  @Option(help: "The number of held-out clips of each style that the result is measured with.")
  var clips = 22

  func validate() throws {
    guard steps >= 1 else { throw ValidationError("--steps: must be at least 1") }
    guard minutes > 0 else { throw ValidationError("--minutes: must be above 0") }
    guard clips >= 1 else { throw ValidationError("--clips: must be at least 1") }
  }

  func run() throws {
    let model = try VideoVAEModel(steps: steps, seed: seed)
    let stage = try Stage(
      model, VideoVAEModel.options(steps: steps, seed: seed), folder: folder)
    let isFinished = try stage.run(minutes: minutes) { line in
      StandardStream.output.write("\(line)\n")
    }
    guard isFinished else {
      print("Stopped at step \(stage.step) of \(steps). Run the same command to resume.")
      return
    }
    let path = "\(folder)/vae.safetensors"
    try model.write(stage, to: path)
    let quality = try VideoVAEQuality(checkpoint: path)
    for metric in try quality.measure(clips) { print(metric.name, metric.value) }
    for metric in try quality.latentRanges(clips) { print(metric.name, metric.value) }
    try quality.writeSheet(2, to: "\(folder)/sheet.png")
    print(path)
  }
}
