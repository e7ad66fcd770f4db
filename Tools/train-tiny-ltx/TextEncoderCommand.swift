import ArgumentParser
import TinyTraining

/// `train-tiny-ltx text-encoder`: the small Gemma 3.
struct TextEncoderCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "text-encoder",
    abstract: "Train the small Gemma 3 as a language model of the world's captions.",
    discussion: """
      Learns a vocabulary from captions, then the next token of each caption, until --steps. The \
      same command resumes the stage. When it is finished, FOLDER/gemma has the text encoder.

      Example:

        train-tiny-ltx text-encoder stages/text-encoder --seed 1
      """)

  @Argument(help: ArgumentHelp("The folder of the stage.", valueName: "folder"))
  var folder: String

  @Option(help: "The seed of the weights and of the captions.")
  var seed: UInt64 = 1

  @Option(help: "The number of steps.")
  var steps = 1200

  @Option(help: "The time after which the stage stops, to be resumed, in minutes.")
  var minutes: Double = 90

  func validate() throws {
    guard steps >= 1 else { throw ValidationError("--steps: must be at least 1") }
    guard minutes > 0 else { throw ValidationError("--minutes: must be above 0") }
  }

  func run() throws {
    let model = try TextEncoderModel(seed: seed)
    var options = StageOptions(steps: steps, seed: seed, learningRate: 3e-3)
    options.weightDecay = 0.01
    let stage = try Stage(model, options, folder: folder)
    guard try stage.run(minutes: minutes, report: { print($0) }) else {
      print("Stopped at step \(stage.step) of \(steps). Run the same command to resume.")
      throw TrainTinyLTX.stopped
    }
    try model.write(stage.averaged, to: "\(folder)/\(TinyCheckpoint.textEncoderName)")
    print("\(folder)/\(TinyCheckpoint.textEncoderName)/")
  }
}
