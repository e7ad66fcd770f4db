import LTX
import LoRAFiles
import NN
import Support
import Torch

/// A LoRA whose adapters all fit a layer of a checkpoint.
public struct CheckedLoRA: Sendable {
  public let strength: Double
  let file: LoRAFile
  /// Notes on the parts of the file that are left out, with the reason.
  let notes: [String]

  /// Reads only the headers of the two files.
  ///
  /// - Parameter modalities: The modalities of the transformer to build. Adapters of the others are
  ///   skipped.
  /// - Throws: `Issue` with the LoRA's first key that doesn't fit, and both shapes.
  init(_ choice: LoRARef, checkpoint: Checkpoint, modalities: Set<Modality>) throws {
    strength = choice.strength
    do {
      file = try LoRAFile(path: choice.path)
      notes = try TransformerBuilder(checkpoint).modalities(modalities).lora(
        file, strength: strength
      )
      .notes
    } catch {
      throw Issue(describing: error)
    }
  }
}

extension Checkpoint {
  /// The transformer with LoRAs kept beside its weights or fused into them.
  func transformer(
    _ loras: [CheckedLoRA], _ placement: AdapterSet.Placement = .separate,
    modalities: Set<Modality>,
    dtype: DType? = nil, device: Device = .cpu, storage: WeightStorage = .asStored,
    placements: WeightPlacements = .resident
  ) throws -> Transformer {
    try loras.reduce(
      TransformerBuilder(self).adapters(placement).modalities(modalities).dtype(dtype)
        .storage(storage).placements(placements)
    ) {
      try $0.lora($1.file, strength: $1.strength)
    }.build(device: device)
  }
}
