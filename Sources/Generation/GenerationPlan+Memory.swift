import BlockExecution
import LTX
import LanguageModels
import NN
import Support
import Torch

/// The memory plans of a generation's stages, made before anything is loaded.
public struct GenerationMemory: Sendable {
  /// The memory that tensors may take; nil if nothing is planned.
  public var limitBytes: Int?
  /// In the order of the stages; empty if nothing is planned.
  public var works: [WorkPlan] = []
  /// The placements of the text encoder's layers.
  var textEncoder: WeightPlacements
  /// The placements of the transformer's blocks in each sampling.
  var samplings: [WeightPlacements]

  /// The lines of a table for the user; empty if nothing is planned.
  public var table: [String] {
    limitBytes.map { WorkPlan.table(works, limitBytes: $0) } ?? []
  }
}

extension GenerationPlan {
  /// Plans the memory of all stages.
  ///
  /// - Throws: `Issue` for the first stage that does not fit; `TensorFileError` for files that can't
  ///   be read; `TorchError` if the device can't be asked.
  public func memory() throws -> GenerationMemory {
    let settings = models.memory
    let samplings = samplings + (detailing?.rounds.map(\.sampling) ?? [])
    var memory = GenerationMemory(
      textEncoder: settings.unplanned, samplings: samplings.map { _ in settings.unplanned })
    guard let limit = try settings.limitBytes(on: models.device) else { return memory }
    memory.limitBytes = limit
    if let text = try checkpoint.textEncoderPlan(
      at: models.files.textEncoder, dtype: models.dtype, device: models.device,
      storage: models.textEncoderStorage, settings, limitBytes: limit)
    {
      memory.textEncoder = text.placements
      memory.works.append(text)
    }
    let sampled = try samplings.map { try workPlan(of: $0, limitBytes: limit) }
    memory.samplings = sampled.map(\.placements)
    memory.works += sampled
    if let bytes = decodingBytes {
      memory.works.append(
        try settings.plan(
          "decoding", peakBytes: bytes, limitBytes: limit,
          suggestion: "Use a device with more memory, or a smaller video."))
    }
    return memory
  }

  private func workPlan(of sampling: Sampling, limitBytes: Int) throws -> WorkPlan {
    let configuration = try TransformerConfiguration(checkpoint.config)
    let sizes = try checkpoint.transformerSizes(
      LoadPolicy(
        dtype: models.dtype, device: models.device,
        storage: models.quantization?.storage() ?? .asStored), modalities: sampling.modalities)
    let pass = sampling.passSize(inputs)
    let costs = StackCosts(
      blocks: configuration.blocks, weightBytes: sizes.blockBytes.max() ?? 0,
      workBytes: configuration.inferenceBytes(pass, elementBytes: models.dtype.size),
      fixedBytes: sizes.otherBytes + adapterBytes(sampling.loras),
      forwardOperations: configuration.forwardOperations(pass))
    let evaluations = sampling.method == .res2s ? 2.0 : 1
    return try models.memory.plan(
      samplings.count == 1 ? "sampling" : "sampling, stage \(sampling.index + 1)",
      per: ("step", evaluations), on: models.device, limitBytes: limitBytes,
      readingFrom: models.files.path(of: .transformer) ?? models.files.name, costs)
  }

  private func adapterBytes(_ loras: [CheckedLoRA]) -> Int {
    guard !models.fusesLoRAs else { return 0 }
    let tensors = loras.flatMap(\.file.modules).flatMap(\.adapter.tensors)
    return tensors.reduce(0) { $0 + $1.tensor.count * models.dtype.size }
  }

  /// The tiles in which frames are decoded.
  ///
  /// - Throws: `TorchError` if the device can't be asked for its memory.
  static func tiling(_ size: OutputSize, _ models: GenerationModels, _ checkpoint: Checkpoint)
    throws -> Tiling
  {
    try checkpoint.recommendedTiling(
      for: VideoSize(width: size.width, height: size.height, frames: size.frames),
      limitBytes: models.memory.limitBytes(on: models.device)
        ?? MemoryBudget.automatic.tensorBytes(on: models.device), dtype: models.dtype)
  }

  /// The predicted memory of decoding the frames; nil if none are decoded.
  package var decodingBytes: Int? {
    guard case .decoded(let tiling)? = output?.frames else { return nil }
    return checkpoint.videoDecodingBytes(
      VideoSize(width: size.width, height: size.height, frames: size.frames), tiling: tiling,
      dtype: models.dtype)
  }

  /// The sizes of the transformer's passes.
  package var passSizes: [PassSize] { samplings.map { $0.passSize(inputs) } }
}

extension GenerationPlan.Sampling {
  /// The size of the transformer's passes. Those of guidance run in one batch.
  func passSize(_ inputs: GenerationPlan.Inputs) -> PassSize {
    let guidances = [video == nil ? nil : guidance.video, audio == nil ? nil : guidance.audio]
      .compactMap { $0 }
    let passes = [
      true, guidances.contains { $0.cfg != 1 }, guidances.contains { $0.stg != 0 },
      guidances.contains { $0.modality != 1 },
    ]
    let videos = inputs.videos.filter { $0.sampling == index }
    let references = videos.filter(\.condition.isReference)
      .map { $0.grid.frames * ($0.grid.rows / $0.scale.space) * ($0.grid.columns / $0.scale.space) }
    return PassSize(
      tokens: PerModality(
        video: video.map {
          ($0.frames + keyframes.count) * $0.rows * $0.columns + references.reduce(0, +)
        },
        audio: audio.map(\.frames)),
      batchSize: passes.count { $0 },
      conditioned: Set(
        (videos.contains { !$0.condition.isWhole } ? [.video] : [])
          + (inputs.audio.contains { !$0.condition.isWhole } ? [.audio] : [])))
  }
}
