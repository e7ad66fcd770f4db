import LTX
import Support
import TensorFiles
import Torch

/// The training of the video VAE: the encoder, the decoder, then both.
public struct VideoVAETraining {
  public var seed: UInt64
  /// The folder of the parts' states.
  public var folder: String
  /// A checkpoint of such a VAE, whose weights a part begins with in place of those that the parts
  /// before it have; nil for none.
  public var initial: String?
  /// The steps of each part; nil for those of the demo's VAE.
  public var steps: Int?

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
    if part == .finish { try model.write(stage, to: path) }
    return true
  }

  private func prepare(
    _ part: VideoVAEModel.Part
  ) throws -> (VideoVAEModel, Stage<VideoVAEModel>) {
    var tensors = try VideoVAEModel.initialTensors(seed: seed)
    if let path = initial {
      let file = try SafetensorsFile(path: path)
      tensors = try tensors.map { key, tensor in
        // The statistics are measured at the end.
        (key, key.contains("per_channel_statistics") ? tensor : try file.tensor(key))
      }
    }
    for before in initial == nil ? part.before : [] {
      let (model, stage) = try prepare(before)
      guard stage.isFinished else {
        throw Issue([.file(folder)], "the part \(before.rawValue) is not trained yet")
      }
      let trained = Dictionary(try model.tensors(stage).map { ($0.key, $0.tensor) }) { $1 }
      tensors = tensors.map { key, tensor in
        (key, before.trains(key) ? trained[key] ?? tensor : tensor)
      }
    }
    let model = try VideoVAEModel(part, initial: tensors, seed: seed)
    let options = part.options(steps: steps ?? part.defaultSteps, seed: seed)
    return (model, try Stage(model, options, folder: "\(folder)/\(part.rawValue)"))
  }
}
