import ArgumentParser
import Datasets
import Foundation
import Torch
import Training

struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train a LoRA on a preprocessed dataset.",
    discussion: """
      Writes OUTPUT_DIR/checkpoints/lora_weights_step_NNNNN.safetensors with ComfyUI's key names, and one line for each \
      step to OUTPUT_DIR/metrics.jsonl. Run again after an interruption, it goes on where it was. Relative paths in the \
      configuration are relative to the working directory.

      Exit status: 0 for a finished run, 1 if it failed on the way, 2 if the input can't be used.
      """)

  @Argument(help: "The training configuration, YAML.", completion: .file(extensions: ["yaml", "yml"]))
  var config: String

  @OptionGroup var compute: ComputeOptions

  func run() throws {
    compute.apply()
    let trainer = try checkingInput {
      try Trainer(TrainingConfiguration(path: config), device: compute.device)
    }
    let c = trainer.configuration
    for notice in c.notices { printError("note: \(notice)") }
    let numbers = trainer.parameters.reduce(0) { $0 + $1.tensor.count }
    print(
      "\(trainer.dataset.count) samples, \(numbers) trained parameters in \(trainer.parameters.count / 2) adapters"
    )
    if trainer.dataset.unmatchedCount > 0 {
      printError("note: \(trainer.dataset.unmatchedCount) latents have no text features and are left out")
    }
    if trainer.samplesOfAnotherModel > 0 {
      printError(
        "warning: \(trainer.samplesOfAnotherModel) samples were preprocessed with another model file; run "
          + "`ltx preprocess` with \(c.modelPath) unless that is meant")
    }
    if trainer.completedSteps > 0 { print("going on after step \(trainer.completedSteps)") }

    let progress = ProgressLine(
      "training", total: c.steps, unit: "steps", alreadyDone: trainer.completedSteps)
    var first: Double?
    var last: Double?
    let files = try working {
      defer { progress.finish() }
      return try trainer.run { metrics in
        first = first ?? metrics.loss
        last = metrics.loss
        progress.update(
          metrics.step,
          String(
            format: "loss %.4f, lr %.2e, |grad| %.3g", metrics.loss, metrics.learningRate,
            metrics.gradientNorm))
      }
    }
    if let first, let last { print(String(format: "loss %.4f at first, %.4f at last", first, last)) }
    for file in files.suffix(1) { print(file) }
  }
}
