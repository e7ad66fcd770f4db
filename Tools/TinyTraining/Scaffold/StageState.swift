import NN
import Optimizers
import Support
import TensorFiles
import Torch

/// The file that a stage is resumed from: weights, the optimizer's moments, the moving average and
/// the number of steps. Random numbers are a function of the seed and the step, so none are stored.
struct StageState {
  private static let fingerprintKey = "fingerprint"
  private static let stepKey = "step"
  private static let secondsKey = "seconds"

  let path: String
  let fingerprint: String

  /// The progress of a stage.
  struct Progress {
    /// The number of finished steps.
    var step = 0
    /// The time that the steps took, in all processes.
    var seconds = 0.0
  }

  /// Writes the state. Readers see the previous file or the new one.
  func save(
    _ progress: Progress, _ optimizer: any Optimizer, _ average: ExponentialMovingAverage
  ) throws {
    try writeSafetensors(
      average.parameters.map { ($0.key, try $0.tensor.detach()) } + optimizer.state + average.state,
      metadata: [
        Self.fingerprintKey: fingerprint, Self.stepKey: String(progress.step),
        Self.secondsKey: String(progress.seconds),
      ], to: path)
  }

  /// Restores the state, if there is a file.
  ///
  /// - Throws: `Issue` for a state of another stage.
  func restore(_ optimizer: any Optimizer, _ average: ExponentialMovingAverage) throws -> Progress {
    guard isFile(path) else { return Progress() }
    let file = try SafetensorsFile(path: path)
    guard let step = file.metadata[Self.stepKey].flatMap(Int.init),
      let seconds = file.metadata[Self.secondsKey].flatMap(Double.init)
    else {
      throw Issue([.file(path)], "is not the state of a stage", suggestion: "Remove the file.")
    }
    guard file.metadata[Self.fingerprintKey] == fingerprint else {
      throw Issue(
        [.file(path)],
        "is the state of another stage (\(file.metadata[Self.fingerprintKey] ?? "unknown"), "
          + "expected \(fingerprint))",
        suggestion: "Remove the file, or choose another folder.")
    }
    try withoutGrad {
      for parameter in average.parameters {
        try parameter.tensor.copy_(file.tensor(parameter.key))
      }
    }
    try optimizer.restore(file.tensor)
    try average.restore(file.tensor)
    return Progress(step: step, seconds: seconds)
  }
}
