import BlockExecution
import LTX
import LoRAFiles
import NN
import Support
import Torch
import Training

func probeTimestepSampler(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let tokens = try inputs.integer("tokens")
  guard tokens > 0 else { throw Issue(["tokens"], "must be positive (got \(tokens))") }
  let sigmas = try TimestepSampler.shiftedLogitNormal().sigmas(
    normal: inputs.float("normal", "n"), uniform: inputs.float("uniform", "n"),
    probability: inputs.float("probability", "n"), tokens: tokens)
  return [("sigmas", sigmas)]
}

func probeTrainingInputs(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let configuration = try options.trainingConfiguration()
  let strategies = configuration.trainingStrategy.modalities
  let factors = try options.trainer(configuration).videoCompression()
  var reader = TrainingBatchInputs(inputs, strategies: strategies, options: options)
  let batch = try reader.batch(prefix: "")
  let draws = try reader.draws(batch)
  let flow = try FlowMatching(
    strategies: reader.present(batch), sampler: TimestepSampler(configuration),
    factors: factors, referenceScale: reader.referenceScale(batch))
  let noised = try flow.noised(batch, draws)
  var outputs: [(key: String, tensor: Tensor)] = []
  for (name, noised) in noised.pairs {
    guard let noised else { continue }
    outputs += [
      ("\(name).latent", noised.latent), ("\(name).sigma", noised.sigma),
      ("\(name).timesteps", try noised.timesteps.expand(Array(noised.latent.shape.prefix(2)))),
      ("\(name).positions", noised.positions),
    ]
    if let target = noised.target { outputs.append(("\(name).target", target)) }
    if let mask = noised.lossMask { outputs.append(("\(name).loss_mask", try mask.to(.int64))) }
  }
  return outputs
}

func probeTrainingRun(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let configuration = try options.trainingConfiguration()
  let checkpoint = try Checkpoint(path: options.requireModel())
  let strategies = configuration.trainingStrategy.modalities
  guard let lora = configuration.lora else {
    throw Issue(
      [.file(configuration.source.file)], "the section lora is missing; the run trains adapters")
  }
  guard options.loras.count == 1, let initial = options.loras.first else {
    throw Issue(["loras"], "must be exactly one, the initial adapters of training-run")
  }
  var adapters = AdapterSet()
  try LoRAFile(path: initial.path).add(
    to: &adapters, strength: initial.strength * Double(lora.alpha) / Double(lora.rank),
    dtype: .float32,
    device: options.device, isTrained: true)
  let transformer = try checkpoint.transformer(
    LoadPolicy(dtype: options.dtype, device: options.device, adapters: adapters))
  let step = TrainingStep(
    transformer: transformer,
    plan: ExecutionPlan(
      blocks: transformer.configuration.blocks,
      activations: configuration.optimization.enableGradientCheckpointing ? .recompute : .keep,
      autocast: options.dtype == .float32 ? nil : options.dtype))
  let optimization = try Optimization(transformer.parameters, configuration)

  let order = try inputs.int("order", "steps").array(of: Int.self)
  var reader = TrainingBatchInputs(inputs, strategies: strategies, options: options)
  var batches: [Int: (batch: TrainingBatch, contexts: PerModality<Tensor?>)] = [:]
  for number in Set(order).sorted() {
    let batch = try reader.batch(prefix: "data.\(number).")
    let contexts = try batch.compactMap { modality, _ in
      try reader.context(
        "data.\(number).\(modality)", modality == .video ? "Sv Wv" : "Sa Wa")
    }
    batches[number] = (batch, contexts)
  }
  var losses: [Float] = []
  var norms: [Float] = []
  var rates: [Float] = []
  let factors = try options.trainer(configuration).videoCompression()
  for (index, number) in order.enumerated() {
    guard let (batch, contexts) = batches[number] else { continue }
    let flow = try FlowMatching(
      strategies: reader.present(batch), sampler: TimestepSampler(configuration),
      factors: factors, referenceScale: reader.referenceScale(batch))
    let noised = try flow.noised(batch, reader.draws(batch, step: index, of: order.count))
    let example = noised.compactMap { modality, noised in
      contexts[modality].map { noised.example(context: $0) }
    }
    let result = try step(example, configuration.trainingStrategy.objective)
    let loss = try result.loss.mean().item()
    let outcome = try optimization.apply(result.gradients, loss: loss, at: index)
    losses.append(Float(loss))
    norms.append(Float(outcome.gradientNorm))
    rates.append(Float(outcome.learningRates[0]))
  }
  return [
    ("loss", try Tensor(losses)), ("gradient_norm", try Tensor(norms)),
    ("learning_rate", try Tensor(rates)),
  ] + transformer.parameters.map { ("lora.\(LoRAFile.filePath($0.key))", $0.tensor) }
}

extension Probe.Options {
  /// The files that the trainer would use: the model, and the video VAE of the configuration.
  fileprivate func trainer(_ configuration: TrainingConfiguration) throws -> Checkpoint {
    try Checkpoint(
      ModelFiles(unified: requireModel(), videoVAE: configuration.model.videoVAEPath))
  }

  /// The trainer's configuration; its paths are not opened.
  func trainingConfiguration() throws -> TrainingConfiguration {
    guard let config else {
      throw Issue(["configuration"], "is missing, but this component needs it")
    }
    return try TrainingConfiguration(path: config, checksPaths: false)
  }
}
