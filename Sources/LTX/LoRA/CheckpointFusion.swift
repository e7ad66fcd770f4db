import NN
import TensorFiles
import Torch

/// A checkpoint with LoRAs added to its weights, to be written tensor by tensor: never the whole model in memory.
///
/// It does what the checkpoint does with the LoRAs beside it: what `TransformerBuilder` leaves out is left out here.
public struct CheckpointFusion: Sendable {
  private let checkpoint: Checkpoint
  private let adapters: AdapterSet
  /// What of the LoRAs is left out, and why.
  public let notes: [String]

  /// How many weights the LoRAs change.
  public var changedCount: Int { adapters.paths.count }

  /// - Throws: `WeightError` for a LoRA that does not fit, for a strength that is not finite, and for a weight that is
  ///   stored in a form that nothing can be added to.
  public init(_ checkpoint: Checkpoint, loras: [(file: LoRAFile, strength: Double)]) throws {
    let builder = try loras.reduce(TransformerBuilder(checkpoint).adapters(.fused)) {
      try $0.lora($1.file, strength: $1.strength)
    }
    adapters = try builder.adapterSet()
    notes = builder.notes
    self.checkpoint = checkpoint
    for path in adapters.paths {
      for scale in ["weight_scale", "scale_weight", "weight_scale_2"]
      where checkpoint.source.entries["\(path).\(scale)"] != nil {
        throw WeightError(
          file: checkpoint.source.name, key: "\(path).weight",
          problem:
            "is quantised with a scale, and no LoRA can be merged into it; give the checkpoint in bfloat16")
      }
    }
  }

  /// Writes all tensors of the checkpoint, in their own element types, and its metadata.
  ///
  /// - Parameter report: called after each tensor.
  public func write(to path: String, report: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }) throws
  {
    let source = checkpoint.source
    let weights = checkpoint.weights(adapters: adapters)
    let changed = Set(adapters.paths.map { "\($0).weight" })
    let entries = source.entries.map { (key: $0.key, dtype: $0.value.dtype, shape: $0.value.shape) }
    var done = 0
    // The file's pages are let go as soon as they have been copied, or the whole file would seem to be in memory.
    var written: String?
    try writeSafetensors(entries, metadata: source.metadata, to: path) { key in
      if let written { source.release(written) }
      written = key
      var tensor = try source.tensor(key)
      if changed.contains(key) {
        let layer = weights / String(key.dropLast(".weight".count))
        tensor = try layer.tensor("weight").to(tensor.dtype)
      }
      done += 1
      try report(done, entries.count)
      return tensor
    }
  }
}
