import ArgumentParser
import TinyTraining

/// `train-tiny-ltx evaluate`: the quality of a finished model.
struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract: "Generate clips for held-out captions and judge them with classifiers.",
    discussion: """
      Writes the clips, evaluation.json, and sheet.png with the first clips. Clips that exist are \
      not generated again.

      Exit status: 0 if color, shape, direction and pitch are right often enough, else 1.

      Example:

        train-tiny-ltx evaluate model evaluation
      """)

  @Argument(help: ArgumentHelp("The folder of an assembled model.", valueName: "model"))
  var model: String

  @Argument(help: ArgumentHelp("The folder to write to.", valueName: "folder"))
  var folder: String

  @Option(help: "The number of held-out captions.")
  var clips = 96

  @Option(help: "The seed of the captions and of the noise.")
  var seed: UInt64 = 1

  @Option(help: "The number of sampling steps.")
  var steps = 24

  @Option(help: "The scale of classifier-free guidance.")
  var guidance = 3.0

  func validate() throws {
    guard clips >= 1 else { throw ValidationError("--clips: must be at least 1") }
    guard steps >= 1 else { throw ValidationError("--steps: must be at least 1") }
    guard guidance.isFinite else { throw ValidationError("--guidance: must be finite") }
  }

  func run() throws {
    var options = Evaluation.Options()
    (options.count, options.seed) = (clips, seed)
    (options.steps, options.guidance) = (steps, guidance)
    let evaluation = try Evaluation(model: model, folder: folder, options: options)
    let shares = try Evaluation.shares(evaluation.run { print($0) })
    for share in shares { print("\(share.name): \(Evaluation.percent(share.value))") }
    let problems = Evaluation.problems(shares)
    for problem in problems { print(problem) }
    guard problems.isEmpty else { throw ExitCode(1) }
  }
}
