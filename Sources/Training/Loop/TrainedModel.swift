import BlockExecution
import Datasets
import Foundation
import LTX
import LoRAFiles
import NN
import Support
import TensorFiles
import Torch

/// The transformer of a run, its trained tensors, and the frozen connectors in front of it.
struct TrainedModel: Sendable {
  let checkpoint: Checkpoint
  let transformer: Transformer
  /// Nil if the contexts of all samples were computed before the transformer was loaded.
  let connectors: TextConnectors?
  /// The trained tensors, in the order in which they were built.
  let parameters: [Parameter]
  /// The dtype of the frozen weights and of the contexts.
  let frozenDType: DType
  /// The dtype of matrix products under mixed precision; nil for float32.
  let autocast: DType?
  /// `FreshAdapters.scale`; nil if the weights themselves are trained.
  let adapterScale: Double?
  let dropout: AdapterDropout?
  /// The compression factors of the video VAE.
  let factors: CompressionFactors
  let text: TextConfiguration
  /// The weights that training starts from: the file of `model.load_checkpoint` and its
  /// `FileIdentity`; nil for fresh weights.
  let start: (path: String, identity: String)?
  /// The treatment of each block's weights and activations.
  let plan: TrainingPlan

  /// - Throws: `ConfigurationProblems` that name the key, `WeightError`, `TensorFileError`.
  ///
  /// - Parameters:
  ///   - samples: what validation samples need; nil without samples.
  ///   - passes: the sizes of the batches that are trained on.
  ///   - ranks: the processes that train together.
  ///   - planned: called with a table of the memory plan before the transformer is loaded.
  ///   - prepareContexts: on a GPU, or if weights are streamed, called with the connectors before
  ///     the transformer takes its memory; returns whether it has computed the contexts of all
  ///     samples, so that the connectors can be released.
  init(
    _ c: TrainingConfiguration, _ strategies: PerModality<ModalityStrategy?>,
    samples: ValidationNeeds?, passes: [PassSize], device: Device, ranks: RankMesh,
    planned: ([String]) -> Void = { _ in },
    prepareContexts: (TextConnectors, TextConfiguration, DType) throws -> Bool
  ) throws {
    try c.requireComponents()
    let base = try Checkpoint(c.model.files)
    try base.require("transformer", "vae")
    text = try TextConfiguration(base.config)
    factors = try base.videoCompression()
    (frozenDType, autocast) = Self.precision(c)
    let seed = UInt64(c.seed)
    let start = try c.model.loadCheckpoint.map { try Self.newestWeights(at: $0, c) }
    self.start = try start.map { ($0, try FileIdentity.identity(of: $0)) }
    let isFull = c.model.trainingMode == .full
    checkpoint = try isFull ? start.map { try base.replacingTransformer(by: $0) } ?? base : base
    var adapters: FreshAdapters?
    var trained: TrainedWeights?
    switch c.model.trainingMode {
    case .lora:
      let lora = c.lora ?? .init()
      dropout =
        lora.dropout > 0
        ? AdapterDropout(probability: lora.dropout, seed: RandomSeed.mix(seed, "dropout")) : nil
      let fresh = FreshAdapters(
        targets: lora.targetModules, kind: lora.kind, settings: lora.settings, dropout: dropout,
        generator: try Generator(seed: RandomSeed.mix(seed, "adapters")))
      adapterScale = fresh.scale
      adapters =
        try start.map {
          try fresh.continuing(LoRAFile(path: $0).initialAdapters(scale: fresh.scale))
        }
        ?? fresh
    case .full:
      (dropout, adapterScale) = (nil, nil)
      trained = .transformer(c.model.trainableModules)
    }
    let storage = try c.acceleration.quantization?.storage() ?? .asStored
    let trainedModalities = strategies.present()
    let generated = strategies.compactMap { $1.isGenerated ? $1 : nil }.present()
    var policy = LoadPolicy(
      dtype: frozenDType, device: device, freshAdapters: adapters, trained: trained,
      storage: storage)
    let modalities = trainedModalities.union(samples?.modalities ?? [])
    let configuration = try TransformerConfiguration(checkpoint.config)
    let sizes = try checkpoint.transformerSizes(
      policy, modalities: modalities, training: trainedModalities, generating: generated)
    var plan = try TrainingPlan(
      c, configuration, sizes, passes, samples: samples, autocast: autocast, device: device,
      ranks: ranks.shards.worldSize)
    let makeConnectors = { [checkpoint, frozenDType] in
      try checkpoint.textConnectors(
        dtype: frozenDType, device: device, modalities: trainedModalities)
    }
    let isEarly = device != .cpu || plan.planned.streamedBlocks > 0
    var early: TextConnectors?
    if isEarly {
      early = try makeConnectors()
      if let made = early, try prepareContexts(made, text, frozenDType) {
        early = nil
        // On the CPU, connectors are views of the file, whose pages would stay in memory.
        checkpoint.source.keys.forEach(checkpoint.source.release)
      } else if device != .cpu {
        plan = try TrainingPlan(
          c, configuration, sizes, passes, samples: samples, autocast: autocast, device: device,
          ranks: ranks.shards.worldSize, residentBytes: device.memory().liveBytes,
          limitBytes: plan.limitBytes)
      }
    }
    self.plan = plan
    if let limit = plan.limitBytes { planned(WorkPlan.table(plan.works, limitBytes: limit)) }
    policy.placements = plan.placements
    policy.ranks = ranks.shards
    policy.gatheredDType = autocast
    do {
      transformer = try checkpoint.transformer(
        policy, modalities: modalities, training: trainedModalities, generating: generated)
    } catch let error as UnmatchedTarget {
      let nearest =
        NearestName.find(error.target, in: error.layers).map { "; did you mean \($0)?" } ?? ""
      throw c.problem(
        adapters == nil ? .trainableModules : .targetModules,
        "\(describe(error))\(nearest)")
    } catch let issue as Issue where issue.subject.first == InitialAdapters.subject {
      let file = issue.file.map { "\($0): " } ?? ""
      throw c.problem(.startingWeights, file + issue.message)
    }
    parameters = transformer.parameters
    connectors = isEarly ? early : try makeConnectors()
  }

  /// The dtypes of frozen weights and, under mixed precision, of matrix products.
  static func precision(_ c: TrainingConfiguration) -> (frozen: DType, autocast: DType?) {
    switch c.acceleration.mixedPrecisionMode ?? .no {
    case .no: (.float32, nil)
    case .bf16: (.bfloat16, .bfloat16)
    case .fp16: (.bfloat16, .float16)
    }
  }

  /// Returns the file that `model.load_checkpoint` names: the path itself, or the newest
  /// `*step_NNNNN.safetensors` of a folder.
  private static func newestWeights(at path: String, _ c: TrainingConfiguration) throws -> String {
    guard FileManager.default.fileExists(atPath: path) else {
      throw c.problem(.startingWeights, "\(path) does not exist")
    }
    guard isFolder(path) else { return path }
    let names = FileManager.default.enumerator(atPath: path)?.compactMap { $0 as? String } ?? []
    let weights = names.compactMap { name -> (step: Int, name: String)? in
      guard name.hasSuffix(".safetensors"), !name.contains("training_state"),
        let mark = name.range(of: "step_", options: .backwards)
      else { return nil }
      return Int(name[mark.upperBound...].dropLast(".safetensors".count)).map { ($0, name) }
    }
    guard let newest = weights.max(by: { ($0.step, $1.name) < ($1.step, $0.name) }) else {
      throw c.problem(.startingWeights, "\(path) has no file *step_NNNNN.safetensors")
    }
    return "\(path)/\(newest.name)"
  }

  /// Converts text features to the transformer's contexts. The connectors are frozen, so they
  /// record no graph.
  func contexts(_ text: TextFeatures, device: Device) throws -> TextContexts {
    let connectors =
      try connectors ?? checkpoint.textConnectors(dtype: frozenDType, device: device)
    return try connectors.contexts(of: text, dtype: frozenDType, on: device)
  }

  /// Saves values of the trained tensors: adapters as a LoRA, weights as a whole transformer.
  func write(
    _ values: WholeTensors, dtype: DType, metadata: [String: String], to path: String
  ) throws {
    guard let adapterScale else {
      return try checkpoint.writeTransformer(
        values.layouts.mapValues(\.shape), dtype: dtype, metadata: metadata, to: path
      ) { try values[$0] }
    }
    let adapters = try parameters.compactMap { parameter in
      try values[parameter.key].map { Parameter(key: parameter.key, tensor: $0) }
    }
    try writeSafetensors(
      LoRAFile.tensors(of: adapters, scale: adapterScale, dtype: dtype), metadata: metadata,
      to: path)
  }
}

extension TextConnectors {
  /// Converts text features to contexts without a graph.
  func contexts(of text: TextFeatures, dtype: DType, on device: Device) throws -> TextContexts {
    let features = try text.map {
      try $0.uploaded(to: device, dtype)
    } mask: {
      try $0.uploaded(to: device)
    }
    return try withoutGrad { try self(features) }
  }
}
