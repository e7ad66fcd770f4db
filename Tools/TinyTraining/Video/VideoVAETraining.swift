import LTX
import Support
import Torch

/// The training of the video VAE: the encoder, the decoder, then both.
public struct VideoVAETraining {
  public var seed: UInt64
  /// The folder of the parts' states.
  public var folder: String

  public init(seed: UInt64, folder: String) { (self.seed, self.folder) = (seed, folder) }

  /// Trains a part, or continues. The parts of the encoder and of the decoder don't depend on each
  /// other; the last part needs all.
  ///
  /// - Parameters:
  ///   - minutes: The time after which training stops, to be resumed; nil for none.
  ///   - path: The checkpoint that the last part writes.
  ///   - report: Called with each line of the log.
  /// - Returns: Whether the part is finished.
  public func run(
    _ part: VideoVAEModel.Part, minutes: Double? = nil, writingTo path: String,
    report: (String) -> Void = { _ in }
  ) throws -> Bool {
    let (model, stage) = try prepare(part)
    guard try stage.run(minutes: minutes, report: report) else { return false }
    if part == .both { try model.write(stage, to: path) }
    return true
  }

  private func prepare(
    _ part: VideoVAEModel.Part
  ) throws -> (VideoVAEModel, Stage<VideoVAEModel>) {
    var initial = try VideoVAEModel.initialTensors(seed: seed)
    for before in part.before {
      let (model, stage) = try prepare(before)
      guard stage.isFinished else {
        throw Issue([.file(folder)], "the part \(before.rawValue) is not trained yet")
      }
      let trained = Dictionary(try model.tensors(stage).map { ($0.key, $0.tensor) }) { $1 }
      initial = initial.map { key, tensor in
        (key, before.trains(key) ? trained[key] ?? tensor : tensor)
      }
    }
    let model = try VideoVAEModel(part, initial: initial, seed: seed)
    let options = part.options(steps: part.defaultSteps, seed: seed)
    return (model, try Stage(model, options, folder: "\(folder)/\(part.rawValue)"))
  }
}
