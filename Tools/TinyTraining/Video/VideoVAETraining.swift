import LTX
import Support
import Torch

/// The training of the video VAE: the encoder, the decoder, then both.
public struct VideoVAETraining {
  public var seed: UInt64
  /// The folder of the parts' states.
  public var folder: String

  public init(seed: UInt64, folder: String) { (self.seed, self.folder) = (seed, folder) }

  /// Trains a part, or continues. The encoder and the decoder don't depend on each other; the last
  /// part needs both.
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
    if part == .both {
      for before in [VideoVAEModel.Part.encoder, .decoder] {
        let (model, stage) = try prepare(before)
        guard stage.isFinished else {
          throw Issue([.file(folder)], "the \(before.rawValue) is not trained yet")
        }
        let trained = Dictionary(try model.tensors(stage).map { ($0.key, $0.tensor) }) { $1 }
        let scope = "\(Checkpoint.Prefix.videoVAE).\(before.rawValue)."
        initial = initial.map { key, tensor in
          (key, key.hasPrefix(scope) ? trained[key] ?? tensor : tensor)
        }
      }
    }
    let steps = part.defaultSteps
    let model = try VideoVAEModel(part, steps: steps, initial: initial, seed: seed)
    let options = part.options(steps: steps, seed: seed)
    return (model, try Stage(model, options, folder: "\(folder)/\(part.rawValue)"))
  }
}
