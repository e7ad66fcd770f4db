import ArgumentParser
import Support
import TinyTraining

/// `train-tiny-ltx video-vae`: the video VAE.
struct VideoVAECommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "video-vae",
    abstract: "Train the video VAE to reconstruct clips of the world.",
    discussion: """
      Trains the encoder and the decoder by themselves, then both. The same command resumes the \
      stage. When it is finished, FOLDER/vae.safetensors has the video VAE, and FOLDER/sheet.png \
      shows held-out clips above their reconstructions.

      Example:

        train-tiny-ltx video-vae stages/video-vae --seed 1
      """)

  @Argument(help: ArgumentHelp("The folder of the stage.", valueName: "folder"))
  var folder: String

  @Option(help: "The seed of the weights and of the clips.")
  var seed: UInt64 = 1

  @Option(
    help: "Train only this part, after those that it needs. (default: one after another)"
  )
  var part: VideoVAEModel.Part?

  @Option(
    help: ArgumentHelp(
      "A video VAE of this program to begin with, with --part.", valueName: "file"),
    completion: .file())
  var initial: String?

  @Option(help: "The steps of each part. (default: those of the demo's VAE)")
  var steps: Int?

  @Option(help: "The time after which the stage stops, to be resumed, in minutes.")
  var minutes: Double = 90

  @Option(help: "The number of held-out clips of each style that the result is measured with.")
  var clips = 22

  func validate() throws {
    guard minutes > 0 else { throw ValidationError("--minutes: must be above 0") }
    guard initial == nil || part != nil else {
      throw ValidationError("--initial: needs --part, because later parts would begin with it too")
    }
    guard steps ?? 1 >= 1 else { throw ValidationError("--steps: must be at least 1") }
    guard clips >= 1 else { throw ValidationError("--clips: must be at least 1") }
  }

  func run() throws {
    var training = VideoVAETraining(seed: seed, folder: folder)
    (training.initial, training.steps) = (initial, steps)
    let path = "\(folder)/vae.safetensors"
    let start = ContinuousClock.now
    for part in part.map({ [$0] }) ?? VideoVAEModel.Part.allCases {
      let used = (ContinuousClock.now - start) / .seconds(60)
      let isFinished = try training.run(part, minutes: max(0, minutes - used), writingTo: path) {
        StandardStream.output.write("\($0)\n")
      }
      guard isFinished else {
        print("Stopped in the part \(part.rawValue). Run the same command to resume.")
        throw TrainTinyLTX.stopped
      }
    }
    guard part == nil || part == .finish else { return }
    let quality = try VideoVAEQuality(checkpoint: path)
    for metric in try quality.measure(clips) { print(metric.name, metric.value) }
    for metric in try quality.latentRanges(clips) { print(metric.name, metric.value) }
    try quality.writeSheet(2, to: "\(folder)/sheet.png")
    print(path)
  }
}

extension VideoVAEModel.Part: ExpressibleByArgument {}
