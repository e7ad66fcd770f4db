import LTX
import Torch

/// The LoRAs of a generation, checked against the model, for each of its stages.
struct LoRASet {
  private let chosen: [CheckedLoRA]
  private let distilledFirst: CheckedLoRA?
  private let distilled: CheckedLoRA?
  /// How much coarser references are than the video, as the LoRAs were trained.
  let referenceScale: (spatial: Int, temporal: Int)

  init(_ models: GenerationModels, checkpoint: Checkpoint, streams: Streams, notes: inout [String]) throws {
    func check(_ choice: GenerationModels.LoRA) throws -> CheckedLoRA {
      let lora = try CheckedLoRA(choice, checkpoint: checkpoint, streams: streams)
      notes += lora.notes
      return lora
    }
    chosen = try models.loras.map(check)
    var referenceScale = (spatial: 1, temporal: 1)
    for (choice, lora) in zip(models.loras, chosen) {
      try Self.agree(&referenceScale.spatial, "reference_downscale_factor", lora, choice.path)
      try Self.agree(&referenceScale.temporal, "reference_temporal_scale_factor", lora, choice.path)
    }
    self.referenceScale = referenceScale
    distilled = try models.distilledLoRA.map(check)
    if let choice = models.distilledLoRA, models.distilledFirstStageStrength != 0 {
      distilledFirst = try CheckedLoRA(
        .init(path: choice.path, strength: models.distilledFirstStageStrength), checkpoint: checkpoint,
        streams: streams)
    } else {
      distilledFirst = nil
    }
  }

  /// What the first sampling has.
  var first: [CheckedLoRA] { chosen + [distilledFirst].compactMap { $0 } }

  /// What the refining one has. An IC-LoRA has done its work before: references are shown to the first sampling only.
  func refining(refersToVideos: Bool) -> [CheckedLoRA] {
    (refersToVideos ? [] : chosen) + [distilled].compactMap { $0 }
  }

  private static func agree(_ scale: inout Int, _ key: String, _ lora: CheckedLoRA, _ path: String) throws {
    guard let text = lora.file.metadata[key] else { return }
    guard let value = Int(text), (1...64).contains(value) else {
      throw GenerationError(.lora, "\(path): \(key) is \"\(text)\"; expected a whole number from 1 to 64")
    }
    guard value != 1, value != scale else { return }
    guard scale == 1 else {
      throw GenerationError(
        .lora,
        "\(path): its references are \(value) times coarser than the video (\(key)), another LoRA's \(scale) times; "
          + "they can't be used together")
    }
    scale = value
  }
}
