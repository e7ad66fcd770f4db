import LTX
import LoRAFiles
import Support
import Torch

/// The LoRAs of a generation, checked against the model, for each of its stages.
struct LoRASet {
  private let chosen: [CheckedLoRA]
  private let distilledFirst: CheckedLoRA?
  private let distilled: CheckedLoRA?
  /// The factors by which references are coarser than the video, as the LoRAs were trained.
  let referenceScale: ReferenceScale

  init(
    _ models: GenerationModels, _ defaults: GenerationDefaults, checkpoint: Checkpoint,
    modalities: Set<Modality>,
    notes: inout [String]
  ) throws {
    func check(
      _ choice: LoRARef, _ subject: Issue.PathComponent = "loras"
    ) throws -> CheckedLoRA {
      try Issue.within(subject) {
        try CheckedLoRA(choice, checkpoint: checkpoint, modalities: modalities)
      }
    }
    chosen = try models.loras.map { try check($0) }
    notes += chosen.flatMap(\.notes)
    var referenceScale = ReferenceScale()
    for (choice, lora) in zip(models.loras, chosen) {
      try Self.agree(&referenceScale.space, "reference_downscale_factor", lora, choice.path)
      try Self.agree(&referenceScale.time, "reference_temporal_scale_factor", lora, choice.path)
    }
    self.referenceScale = referenceScale
    let strengths = (
      first: models.distilledFirstStageStrength ?? defaults.distilledStrengths.first,
      second: models.distilledStrength ?? defaults.distilledStrengths.second
    )
    distilled = try models.distilledLoRA.map {
      try check(.init(path: $0, strength: strengths.second), "distilledLoRA")
    }
    notes += distilled?.notes ?? []
    distilledFirst =
      strengths.first == 0
      ? nil
      : try models.distilledLoRA.map {
        try check(.init(path: $0, strength: strengths.first), "distilledLoRA")
      }
  }

  /// The LoRAs of the first sampling.
  var first: [CheckedLoRA] { chosen + [distilledFirst].compactMap { $0 } }

  /// The LoRAs of the refining sampling. IC-LoRAs are left out: references are shown only to the
  /// first sampling.
  func refining(refersToVideos: Bool) -> [CheckedLoRA] {
    (refersToVideos ? [] : chosen) + [distilled].compactMap { $0 }
  }

  private static func agree(_ scale: inout Int, _ key: String, _ lora: CheckedLoRA, _ path: String)
    throws
  {
    guard let text = lora.file.metadata[key] else { return }
    guard let value = Int(text), (1...64).contains(value) else {
      throw Issue(
        ["loras", .file(path), .name(key)],
        "must be an integer between 1 and 64 (got \"\(text)\")")
    }
    guard value != 1, value != scale else { return }
    guard scale == 1 else {
      throw Issue(
        ["loras", .file(path), .name(key)],
        "must be the same in all LoRAs (got \(value), expected \(scale) as in another LoRA)",
        suggestion: "Leave one of them out.")
    }
    scale = value
  }
}
