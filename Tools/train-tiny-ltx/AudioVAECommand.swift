import ArgumentParser
import TinyTraining

/// `train-tiny-ltx audio-vae`: the audio VAE.
struct AudioVAECommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "audio-vae",
    abstract: "Train the audio VAE on the spectrograms of the world's tones.",
    discussion: """
      Trains until --steps. The same command resumes the stage. When it is finished, \
      FOLDER/audio-vae.safetensors has the VAE.

      Example:

        train-tiny-ltx audio-vae stages/audio-vae --seed 1
      """)

  @Argument(help: ArgumentHelp("The folder of the stage.", valueName: "folder"))
  var folder: String

  @Option(help: "The seed of the weights and of the clips.")
  var seed: UInt64 = 1

  @Option(help: "The number of steps.")
  var steps = 2500

  @Option(help: "The time after which the stage stops, to be resumed, in minutes.")
  var minutes: Double = 90

  func validate() throws {
    guard steps >= 1 else { throw ValidationError("--steps: must be at least 1") }
    guard minutes > 0 else { throw ValidationError("--minutes: must be above 0") }
  }

  func run() throws {
    let model = try AudioVAEModel(seed: seed)
    var options = StageOptions(steps: steps, seed: seed, learningRate: 2e-3)
    options.averageDecay = 0.995
    options.stepsPerEvaluation = 250
    let stage = try Stage(model, options, folder: folder)
    guard try stage.run(minutes: minutes, report: { print($0) }) else {
      print("Stopped at step \(stage.step) of \(steps). Run the same command to resume.")
      throw TrainTinyLTX.stopped
    }
    let path = "\(folder)/audio-vae.safetensors"
    try stage.withAverages { try model.write(stage.averaged, to: path) }
    print(path)
  }
}
