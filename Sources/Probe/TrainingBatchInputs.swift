import LTX
import Support
import Torch
import Training

/// Training batches and their random numbers, from a probe's inputs.
struct TrainingBatchInputs {
  private let inputs: ProbeInputs
  private let strategies: PerModality<ModalityStrategy?>
  private let options: Probe.Options

  init(
    _ inputs: ProbeInputs, strategies: PerModality<ModalityStrategy?>, options: Probe.Options
  ) {
    (self.inputs, self.strategies, self.options) = (inputs, strategies, options)
  }

  private func isUsed(_ name: String, _ prefix: String) -> Bool {
    inputs.has("\(prefix)\(name).latents")
  }

  /// The batch of the tensors whose names begin with a prefix, without modalities that have no
  /// latents.
  mutating func batch(prefix: String) throws -> TrainingBatch {
    let batch = try strategies.compactMap { try part($0, $1, prefix) }
    guard !batch.present().isEmpty else {
      throw Issue(
        "none of the strategy's modalities has latents, \(prefix)video.latents or "
          + "\(prefix)audio.latents")
    }
    return batch
  }

  private func part(
    _ modality: Modality, _ strategy: ModalityStrategy, _ prefix: String
  ) throws -> ModalityBatch? {
    let own = "\(prefix)\(modality)"
    guard inputs.has("\(own).latents") else { return nil }
    let isVideo = modality == .video
    // The sizes are the batch's own, because they may differ between the batches of a run.
    let n = prefix
    let shape = isVideo ? "B C \(n)F \(n)H \(n)W" : "B Z \(n)T 16"
    var batch = ModalityBatch(
      latents: .init(
        try here(inputs.float("\(own).latents", shape)), fps: isVideo ? try fps("\(own).fps") : 24))
    for condition in strategy.conditions {
      if let folder = condition.referenceFolder {
        let sizes = isVideo ? "B C \(n)f \(n)h \(n)w" : "B Z \(n)t 16"
        batch.references[folder] = .init(
          try here(inputs.float("\(own).reference.latents", sizes)),
          fps: isVideo ? try fps("\(own).reference.fps") : 24)
      }
      if let folder = condition.maskFolder {
        batch.masks[folder] = try here(
          inputs.float("\(own).mask", isVideo ? "B \(n)F \(n)H \(n)W" : "B \(n)T"))
      }
    }
    return batch
  }

  private func fps(_ name: String) throws -> Double {
    guard let rates = try inputs.optionalFloat(name, "B"),
      let first = try rates.array(of: Float.self).first
    else { return 24 }
    guard first.isFinite, first > 0 else {
      throw Issue([.name("\(name)")], "must be positive (begins with \(first))")
    }
    return Double(first)
  }

  private func here(_ tensor: Tensor) throws -> Tensor { try tensor.to(options.device) }

  /// A context in the dtype and on the device of the frozen model.
  func context(_ name: String, _ shape: String) throws -> Tensor {
    try inputs.float("\(name).context", "B \(shape)").to(options.device, options.dtype)
  }

  /// The strategies of the batch's modalities.
  func present(_ batch: TrainingBatch) -> PerModality<ModalityStrategy?> {
    strategies.compactMap { batch[$0] == nil ? nil : $1 }
  }

  /// The scale that the trainer infers from the files of a dataset.
  func referenceScale(_ batch: TrainingBatch) throws -> ReferenceScale {
    guard let video = batch.video, let strategy = strategies.video,
      let folder = strategy.conditions.lazy.compactMap(\.referenceFolder).first,
      let reference = video.references[folder]
    else { return ReferenceScale() }
    return try ReferenceScale(
      reference: Array(reference.tensor.shape[2...]),
      target: Array(video.latents.tensor.shape[2...]),
      keepsTime: strategy.referencesKeepTime)
  }

  /// The random numbers of a batch; with `step`, those of one step of a run.
  func draws(_ batch: TrainingBatch, step: Int? = nil, of steps: Int = 0) throws -> TrainingDraws {
    let lead = step == nil ? "" : "steps "
    func row(_ tensor: Tensor) throws -> Tensor {
      try step.map { try tensor.select(0, $0) } ?? tensor
    }
    // The conditions of both modalities share one table, video first.
    let counts = strategies.map { $0?.drawnConditions ?? 0 }
    var table: [[Double]] = []
    if let numbers = try inputs.optionalFloat("condition_draws", "\(lead)conditions B") {
      let numbers = try row(numbers)
      guard numbers.size(0) == counts.video + counts.audio else {
        throw Issue(
          ["condition_draws"],
          "has \(numbers.size(0)) rows; the configuration has \(counts.video + counts.audio) "
            + "conditions")
      }
      table = try (0..<numbers.size(0)).map { try numbers.select(0, $0).to(.float64).array() }
    }
    func conditions(_ strategy: ModalityStrategy, from first: Int) -> [[Double]] {
      strategy.conditions.indices.map { index in
        let drawn = index < strategy.drawnConditions && !table.isEmpty
        return drawn ? table[first + index] : Array(repeating: 0, count: batch.count)
      }
    }
    func noise(_ modality: Modality, for latents: Tensor) throws -> Tensor {
      let noise = try row(
        inputs.float("\(modality).noise", "\(lead)B \(modality == .video ? "Tv C" : "Ta Ca")"))
      let shape = latents.shape
      // Video [B, C, F, H, W], audio [B, Z, T, 16].
      let tokens = modality == .video ? shape[2...].reduce(1, *) : shape[2]
      let wanted = [shape[0], tokens, latents.count / (shape[0] * tokens)]
      guard noise.shape == wanted else {
        throw Issue(
          "\(modality).noise of a batch has shape \(noise.shape); latents of shape \(shape) take \(wanted)"
        )
      }
      return try here(noise)
    }
    func sigma(_ modality: Modality) throws -> Tensor {
      try here(row(inputs.float("\(modality).sigma", "\(lead)B")))
    }
    var draws = TrainingDraws()
    for modality in Modality.allCases {
      guard let strategy = strategies[modality], let part = batch[modality] else { continue }
      let isGenerated = strategy.isGenerated
      draws[modality] = ModalityDraws(
        sigma: strategy.takesVideoSigma
          ? draws.video?.sigma : isGenerated ? try sigma(modality) : nil,
        noise: isGenerated ? try noise(modality, for: part.latents.tensor) : nil,
        conditions: conditions(strategy, from: modality == .video ? 0 : counts.video))
    }
    return draws
  }
}
