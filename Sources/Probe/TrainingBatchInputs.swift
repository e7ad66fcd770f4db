import LTX
import Support
import Torch
import Training

/// Batches of training and their random numbers, from a probe's inputs.
struct TrainingBatchInputs {
  private let inputs: ProbeInputs
  private let strategies: StreamStrategies
  private let options: Probe.Options

  init(_ inputs: ProbeInputs, strategies: StreamStrategies, options: Probe.Options) {
    (self.inputs, self.strategies, self.options) = (inputs, strategies, options)
  }

  private func isUsed(_ name: String, _ prefix: String) -> Bool {
    inputs.has("\(prefix)\(name).latents")
  }

  /// The batch whose tensors' names begin with a prefix. A stream whose latents are left out is
  /// left out.
  mutating func batch(prefix: String) throws -> TrainingBatch {
    let batch = TrainingBatch(
      video: try strategies.video.flatMap { try stream("video", $0, prefix) },
      audio: try strategies.audio.flatMap { try stream("audio", $0, prefix) })
    guard batch.video != nil || batch.audio != nil else {
      throw Issue(
        "none of the strategy's streams has latents, \(prefix)video.latents or \(prefix)audio.latents"
      )
    }
    return batch
  }

  private func stream(_ name: String, _ strategy: StreamStrategy, _ prefix: String) throws
    -> TrainingBatch.Stream?
  {
    guard inputs.has("\(prefix)\(name).latents") else { return nil }
    let own = "\(prefix)\(name)"
    let isVideo = name == "video"
    // Sizes are the batch's own: those of a run may differ from batch to batch.
    let n = prefix
    let shape = isVideo ? "B C \(n)F \(n)H \(n)W" : "B Z \(n)T 16"
    var stream = TrainingBatch.Stream(
      latents: .init(
        try here(inputs.float("\(own).latents", shape)), fps: isVideo ? try fps("\(own).fps") : 24))
    for condition in strategy.conditions {
      switch condition.kind {
      case .reference(let folder):
        let sizes = isVideo ? "B C \(n)f \(n)h \(n)w" : "B Z \(n)t 16"
        stream.references[folder] = .init(
          try here(inputs.float("\(own).reference.latents", sizes)),
          fps: isVideo ? try fps("\(own).reference.fps") : 24)
      case .mask(let folder):
        stream.masks[folder] = try here(
          inputs.float("\(own).mask", isVideo ? "B \(n)F \(n)H \(n)W" : "B \(n)T"))
      default: break
      }
    }
    return stream
  }

  private func fps(_ name: String) throws -> Double {
    guard let rates = try inputs.optionalFloat(name, "B"),
      let first = try rates.array(of: Float.self).first
    else { return 24 }
    guard first.isFinite, first > 0 else {
      throw Issue([.name("\(name)")], "begins with \(first); it must be positive")
    }
    return Double(first)
  }

  private func here(_ tensor: Tensor) throws -> Tensor { try tensor.to(options.device) }

  /// A context as the frozen model takes it.
  func context(_ name: String, _ shape: String) throws -> Tensor {
    try inputs.float("\(name).context", "B \(shape)").to(options.device, options.dtype)
  }

  /// The strategies of the streams that the batch has.
  func present(_ batch: TrainingBatch) -> StreamStrategies {
    StreamStrategies(
      video: batch.video == nil ? nil : strategies.video,
      audio: batch.audio == nil ? nil : strategies.audio)
  }

  /// As the trainer infers it from the files of a dataset.
  func referenceScale(_ batch: TrainingBatch) throws -> ReferenceScale {
    guard let stream = batch.video, let strategy = strategies.video,
      let folder = strategy.conditions.lazy.compactMap(\.referenceFolder).first,
      let reference = stream.references[folder]
    else { return ReferenceScale() }
    return try ReferenceScale(
      reference: Array(reference.tensor.shape[2...]),
      target: Array(stream.latents.tensor.shape[2...]),
      keepsTime: strategy.referencesKeepTime)
  }

  /// The random numbers of a batch; with `step`, those of one step of a run.
  func draws(_ batch: TrainingBatch, step: Int? = nil, of steps: Int = 0) throws -> TrainingDraws {
    let lead = step == nil ? "" : "steps "
    func row(_ tensor: Tensor) throws -> Tensor {
      try step.map { try tensor.select(0, $0) } ?? tensor
    }
    // Conditions of both streams share one table, video's first.
    let counts = [strategies.video, strategies.audio].map { $0?.drawnConditions ?? 0 }
    var table: [[Double]] = []
    if let numbers = try inputs.optionalFloat("condition_draws", "\(lead)conditions B") {
      let numbers = try row(numbers)
      guard numbers.size(0) == counts[0] + counts[1] else {
        throw Issue(
          ["condition_draws"],
          "has \(numbers.size(0)) rows; the configuration has \(counts[0] + counts[1]) conditions")
      }
      table = try (0..<numbers.size(0)).map { try numbers.select(0, $0).to(.float64).array() }
    }
    func conditions(_ strategy: StreamStrategy, from first: Int) -> [[Double]] {
      strategy.conditions.indices.map { index in
        let drawn = index < strategy.drawnConditions && !table.isEmpty
        return drawn ? table[first + index] : Array(repeating: 0, count: batch.count)
      }
    }
    func noise(_ name: String, _ size: String, for latents: Tensor) throws -> Tensor {
      let noise = try row(inputs.float("\(name).noise", "\(lead)B \(size)"))
      let shape = latents.shape
      // Video [B, C, F, H, W], sound [B, Z, T, 16].
      let tokens = name == "video" ? shape[2...].reduce(1, *) : shape[2]
      let wanted = [shape[0], tokens, latents.count / (shape[0] * tokens)]
      guard noise.shape == wanted else {
        throw Issue(
          "\(name).noise of a batch has shape \(noise.shape); latents of shape \(shape) take \(wanted)"
        )
      }
      return try here(noise)
    }
    func sigma(_ name: String) throws -> Tensor {
      try here(row(inputs.float("\(name).sigma", "\(lead)B")))
    }
    var draws = TrainingDraws(video: nil, audio: nil)
    if let strategy = strategies.video, let stream = batch.video {
      draws.video = ModalityDraws(
        sigma: strategy.isGenerated ? try sigma("video") : nil,
        noise: strategy.isGenerated ? try noise("video", "Tv C", for: stream.latents.tensor) : nil,
        conditions: conditions(strategy, from: 0))
    }
    if let strategy = strategies.audio, let stream = batch.audio {
      let own =
        strategy.takesVideoSigma
        ? draws.video?.sigma : strategy.isGenerated ? try sigma("audio") : nil
      draws.audio = ModalityDraws(
        sigma: own,
        noise: strategy.isGenerated ? try noise("audio", "Ta Ca", for: stream.latents.tensor) : nil,
        conditions: conditions(strategy, from: counts[0]))
    }
    return draws
  }
}
