import BlockExecution
import LTX
import NN
import Torch

extension GenerationPlan {
  /// The locations of the weights of the transformer's blocks in a sampling.
  ///
  /// - Throws: `Issue` if even the smallest plan does not fit.
  func placements(of sampling: Sampling) throws -> WeightPlacements {
    try models.memory.placements(on: models.device, for: "sampling") {
      let configuration = try TransformerConfiguration(checkpoint.config)
      let sizes = try checkpoint.transformerSizes(
        LoadPolicy(
          dtype: models.dtype, device: models.device,
          storage: models.quantization?.storage() ?? .asStored), modalities: sampling.modalities)
      let pass = sampling.passSize(inputs.videos)
      return StackCosts(
        blocks: configuration.blocks, weightBytes: sizes.blockBytes.max() ?? 0,
        workBytes: configuration.inferenceBytes(pass, elementBytes: models.dtype.size),
        fixedBytes: sizes.otherBytes + adapterBytes(sampling.loras),
        forwardOperations: configuration.forwardOperations(pass))
    }
  }

  private func adapterBytes(_ loras: [CheckedLoRA]) -> Int {
    guard !models.fusesLoRAs else { return 0 }
    let tensors = loras.flatMap(\.file.modules).flatMap(\.adapter.tensors)
    return tensors.reduce(0) { $0 + $1.tensor.count * models.dtype.size }
  }
}

extension GenerationPlan.Sampling {
  /// The size of the transformer's passes. Those of guidance run in one batch.
  func passSize(_ encodings: [GenerationPlan.VideoEncoding]) -> PassSize {
    let guidances = [video == nil ? nil : guidance.video, audio == nil ? nil : guidance.audio]
      .compactMap { $0 }
    let passes = [
      true, guidances.contains { $0.cfg != 1 }, guidances.contains { $0.stg != 0 },
      guidances.contains { $0.modality != 1 },
    ]
    let references = encodings.filter { $0.sampling == index && $0.condition.isReference }
      .map { $0.grid.frames * ($0.grid.rows / $0.scale.space) * ($0.grid.columns / $0.scale.space) }
    return PassSize(
      tokens: PerModality(
        video: video.map { $0.frames * $0.rows * $0.columns + references.reduce(0, +) },
        audio: audio.map(\.frames)),
      batchSize: passes.count { $0 })
  }
}
