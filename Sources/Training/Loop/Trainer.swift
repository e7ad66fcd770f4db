import BlockExecution
import Datasets
import Foundation
import Generation
import LTX
import NN
import Optimizers
import Support
import TensorFiles
import Torch
import Tracking

/// Trains on a preprocessed dataset, step by step, according to a configuration.
///
/// A run is a function of its configuration: the batches and the noise of a step depend only on the
/// seed and the step's number. A run that was killed therefore resumes exactly from its last stored
/// state.
public final class Trainer {
  public let configuration: TrainingConfiguration
  public let dataset: PrecomputedDataset
  let batchShapes: BatchShapes
  /// The samples that the validation loss is measured on; they are not trained on.
  public let heldOut: PrecomputedDataset?
  /// The trained tensors.
  public var parameters: [Parameter] { model.parameters }
  /// Those that are divided among the ranks, by key.
  private(set) lazy var shardedParameters = Dictionary(
    uniqueKeysWithValues: parameters.filter { $0.shard != nil }.map { ($0.key, $0) })
  /// Whether all ranks must run the model equally often.
  var sharesModel: Bool { model.plan.planned.placement == .sharded }
  /// The number of completed steps, including those of earlier starts.
  public internal(set) var completedSteps = 0

  let device: Device
  let group: ProcessGroup
  let mesh: RankMesh
  let model: TrainedModel
  let step: TrainingStep
  let objective: Objective
  let flowMatching: FlowMatching
  let captionDropout: CaptionDropout?
  var optimization: Optimization
  let average: ExponentialMovingAverage?
  let folder: RunFolder
  var fingerprint: RunFingerprint
  /// The number of batches that all ranks together process in one step. A run keeps it when it
  /// resumes on another number of ranks.
  var batchesPerStep: Int
  let validation: ValidationSampler?
  let contexts: ContextCache
  let saves = SaveQueue()
  let saved = SavedFiles()
  let warn: @Sendable (String) -> Void
  var order: BatchOrder
  var skippedInARow = 0
  /// The requests of all ranks in the last step.
  var signals: RankSignals = []
  var lossScale: LossScale?
  let pacing = StatePacing()
  /// The adapters that a run starts from, on the CPU; empty for fresh ones.
  let initial: [Parameter]
  /// The validation losses of the run, in the order of the steps; those of earlier starts are on
  /// the first rank only.
  var validations: [ValidationRecord] = []
  /// The best checkpoint, with `checkpoints.keep_best`, on the first rank.
  var best: BestCheckpoint?
  /// Identifies the samples, noise and sigmas of the validation loss, on the first rank.
  var validationSet: String?
  var hasLostRecords = false
  /// The Weights & Biases run of an earlier start.
  public internal(set) var trackerRunID: String?

  /// Loads everything that a run needs and checks that it fits together. Nothing is trained or
  /// written yet.
  ///
  /// - Parameters:
  ///   - group: the processes that train together.
  ///   - makesSamples: whether validation samples are prepared, if the configuration has any.
  ///   - warn: called with warnings for the user.
  ///   - planned: called with a table of the memory plan before the transformer is loaded.
  ///   - preparing: called while prompts and media of validation samples are encoded.
  /// - Throws: `ConfigurationProblems`, `Issue`, `WeightError`, `TensorFileError`, each naming the
  ///   file and the key.
  public init(
    _ configuration: TrainingConfiguration, device: Device = .cpu, group: ProcessGroup = .single,
    makesSamples: Bool = true, warn: @escaping @Sendable (String) -> Void = { _ in },
    planned: ([String]) -> Void = { _ in },
    preparing: (GenerationProgress) throws -> Void = { _ in }
  ) throws {
    var c = configuration
    (self.device, self.group, self.warn) = (device, group, warn)
    try device.prepare()
    if c.acceleration.mixedPrecisionMode == .bf16, let problem = try device.bfloat16Problem() {
      throw c.problem(
        .mixedPrecision, "is bf16, but \(problem). Use fp16 or another GPU")
    }
    let mesh = try RankMesh(group, c)
    self.mesh = mesh
    if let problem = OutputFolder.problem(c.outputDir + "/checkpoints") {
      throw c.problem(.outputDir, "\(c.outputDir) \(problem)")
    }
    let strategies = c.trainingStrategy.modalities
    let all = try PrecomputedDataset(
      root: c.data.preprocessedDataRoot, strategies: strategies, group: group)
    let (training, held) = try Self.heldOut(c, of: all, strategies, group)
    heldOut = held?.withoutIdentities()
    if group.isMain, c.checkpoints.keepBest {
      validationSet = try held?.identities().map {
        FileIdentity.identity(ofNames: $0 + ["seed \(c.validation.heldOut.seed)"])
      }
    }
    let samplesPerEpoch = training.samplesPerEpoch
    guard c.optimization.batchSize <= samplesPerEpoch else {
      throw c.problem(
        .batchSize,
        "is \(c.optimization.batchSize), but there are \(samplesPerEpoch) samples to train on; set it to "
          + "\(samplesPerEpoch) or less")
    }
    guard group.worldSize <= samplesPerEpoch else {
      throw Issue(
        ["rank"],
        "there are fewer samples to train on (\(samplesPerEpoch)) than ranks (\(group.worldSize))",
        suggestion: "Start fewer processes.")
    }
    batchShapes = BatchShapes(training, batchSize: c.optimization.batchSize)
    dataset = batchShapes.dataset(training).withoutIdentities()
    if group.isMain, let note = dataset.silentAudio.note { warn("\(dataset.root): \(note)") }
    let captionDropout = try CaptionDropout(c, dataset)
    self.captionDropout = captionDropout
    try c.requireComponents()
    let base = try Checkpoint(c.model.files)
    try base.require("transformer", "vae")
    try training.requireFit(base, path: c.model.modelPath, emptyPrompt: captionDropout?.file)
    try heldOut?.requireFit(base, path: c.model.modelPath)
    // The text encoder and the VAEs are released before the transformer is loaded.
    let hasSamples = c.validation.interval != nil && !c.validation.samples.isEmpty
    if hasSamples {
      let taken = try SampleComparison(c, dataset).applyingReferenceScales()
      c = taken.configuration
      if group.isMain { try (taken.notes + SampleComparison(c, dataset).notes).forEach(warn) }
    }
    self.configuration = c
    let dtype = TrainedModel.precision(c).frozen
    validation =
      hasSamples && makesSamples ? try Self.sampler(c, dtype, device, group, warn, preparing) : nil
    let sampled =
      hasSamples
      ? try validation.map(\.needs)
        ?? ValidationSampler.needs(of: c, dtype: dtype, device: device) : nil
    let passes = Self.passes(dataset, batchSize: c.optimization.batchSize)
    let contexts = ContextCache(for: device)
    self.contexts = contexts
    func showPlan(_ lines: [String]) {
      if group.isMain { planned(lines) }
    }
    let model = try TrainedModel(
      c, strategies, samples: sampled, passes: passes, device: device, ranks: mesh,
      planned: showPlan
    ) { connectors, text, dtype in
      let emptyPrompt = captionDropout?.file
      var files = training.textFiles(emptyPrompt: emptyPrompt)
      for dataset in [training, held].compactMap(\.self) {
        try dataset.requireTextFeatures(
          video: text.connectors.video.width,
          audio: strategies.audio == nil ? nil : text.connectors.audio.width,
          model: c.model.modelPath, emptyPrompt: emptyPrompt)
        files.formUnion(dataset.textFiles(emptyPrompt: nil))
      }
      return try contexts.fill(files, for: device) { path in
        try TextFeatures(ofOne: PrecomputedDataset.text(SampleFile(path: path)))
      } _: {
        try connectors.contexts(of: $0, dtype: dtype, on: device)
      }
    }
    self.model = model
    if group.isMain { try model.startNotes.forEach(warn) }
    initial = group.isMain ? try Self.initialAdapters(model) : []
    step = TrainingStep(
      transformer: model.transformer,
      plan: ExecutionPlan(steps: model.plan.steps, autocast: model.autocast))
    objective = c.trainingStrategy.objective
    flowMatching = FlowMatching(
      strategies: strategies, sampler: try TimestepSampler(c), factors: model.factors,
      referenceScale: try dataset.referenceScale())
    optimization = try Optimization(model.parameters, c)
    average = try c.optimization.emaDecay.map {
      try ExponentialMovingAverage(decay: $0, model.parameters)
    }
    lossScale = c.acceleration.mixedPrecisionMode == .fp16 ? LossScale() : nil
    order = BatchOrder(
      keys: batchShapes.keys, repeats: dataset.entries.map(\.repeats),
      batchSize: c.optimization.batchSize,
      seed: RandomSeed.mix(UInt64(c.seed), "order"))
    folder = RunFolder(
      path: c.outputDir, prefix: c.model.trainingMode == .lora ? "lora" : "model")
    let identity = try FileIdentity.identity(of: model.checkpoint.files)
    try all.requireSameModel(model.checkpoint.files, c, emptyPrompt: captionDropout?.file)
    if c.validation.heldOut.preprocessedDataRoot != nil {
      try heldOut?.requireSameModel(model.checkpoint.files, c)
    }
    batchesPerStep = c.optimization.gradientAccumulationSteps * group.worldSize
    fingerprint = RunFingerprint(
      configuration: c.fingerprintValues, implied: c.impliedKeys, model: identity,
      dataset: try training.identity(emptyPrompt: captionDropout?.file, group: group),
      start: model.start?.identity, ranks: group.worldSize)
  }

  /// The sizes of the batches of each shape, references included.
  private static func passes(_ dataset: PrecomputedDataset, batchSize: Int) -> [PassSize] {
    let conditioned = Modality.allCases.filter { modality in
      dataset.strategies[modality]?.conditions.contains { $0.probability > 0 } == true
    }
    let all = dataset.entries.map { entry in
      let tokens = dataset.strategies.compactMap { modality, strategy -> Int? in
        guard let shape = entry.shapes[strategy.latentsFolder] else { return nil }
        let references = strategy.conditions.compactMap(\.referenceFolder).compactMap {
          entry.shapes[$0]
        }
        return ([shape] + references).reduce(0) { $0 + modality.tokenCount($1) }
      }
      return PassSize(tokens: tokens, batchSize: batchSize, conditioned: Set(conditioned))
    }
    return Array(Set(all))
  }

  /// Makes the sampler. The first rank encodes the prompts, and the others load them from its
  /// cache.
  private static func sampler(
    _ c: TrainingConfiguration, _ dtype: DType, _ device: Device, _ group: ProcessGroup,
    _ warn: @escaping @Sendable (String) -> Void, _ preparing: (GenerationProgress) throws -> Void
  ) throws -> ValidationSampler {
    if !group.isMain { try group.barrier() }
    let sampler = try ValidationSampler(
      c, dtype: dtype, device: device, warn: warn, report: preparing)
    if group.isMain {
      try group.barrier()
      sampler.notes.forEach(warn)
    }
    return sampler
  }

  /// Takes held-out samples from a folder of their own or from the dataset.
  private static func heldOut(
    _ c: TrainingConfiguration, of all: PrecomputedDataset,
    _ strategies: PerModality<ModalityStrategy?>, _ group: ProcessGroup
  ) throws -> (PrecomputedDataset, PrecomputedDataset?) {
    let options = c.validation.heldOut
    guard options.isUsed else { return (all, nil) }
    if let root = options.preprocessedDataRoot {
      let other = try PrecomputedDataset(root: root, strategies: strategies, group: group)
      guard options.count > 0 else { return (all, other) }
      return (
        all, HeldOutLoss.split(other, count: options.count, seed: UInt64(options.seed)).heldOut
      )
    }
    guard options.count > 0 else { return (all, nil) }
    guard options.count < all.count else {
      throw c.problem(
        .heldOutCount,
        "is \(options.count), but the dataset has \(all.count) samples, and some must remain to train on"
      )
    }
    let split = HeldOutLoss.split(all, count: options.count, seed: UInt64(options.seed))
    return (split.training, split.heldOut)
  }

  // MARK: Examples

  /// Returns samples of the dataset at noise and sigmas that are a function of the seed.
  public func example(samples: [Int], noiseSeed: UInt64) throws -> TrainingExample {
    let batch = try dataset.load(BatchOrder.Batch(samples: samples, position: 0), number: 0)
    let generators = try samples.map {
      try Generator(seed: RandomSeed.mix(noiseSeed, "sample", $0))
    }
    return try example(
      batch,
      flowMatching.draws(for: batch.batch, samples: generators, step: Generator(seed: noiseSeed)))
  }

  /// Returns the current loss of each sample, [B].
  public func loss(_ example: TrainingExample) throws -> Tensor {
    try step.loss(example, objective)
  }

  func example(_ loaded: LoadedBatch, _ draws: TrainingDraws) throws -> TrainingExample {
    let noised = try flowMatching.noised(
      loaded.batch.uploaded(to: device), draws.compactMap { try $1.uploaded(to: device) })
    let contexts = try contexts.contexts(of: loaded, on: device) {
      try model.contexts($0, device: device)
    }
    return noised.compactMap { modality, noised in
      contexts.byModality[modality].map {
        noised.example(context: $0)
      }
    }
  }

  // MARK: Steps

  /// Draws the random numbers of a batch, which are a function of the seed and of the batch's
  /// number.
  var draws: @Sendable (LoadedBatch) throws -> TrainingDraws {
    let (seed, flowMatching, perStep) = (UInt64(configuration.seed), flowMatching, batchesPerStep)
    return { loaded in
      let samples = try loaded.order.samples.indices.map {
        try Generator(seed: RandomSeed.mix(seed, "sample", loaded.order.position + $0))
      }
      // The decision to use references holds for the whole step.
      let step = try Generator(seed: RandomSeed.mix(seed, "step", loaded.number / perStep))
      return try flowMatching.draws(for: loaded.batch, samples: samples, step: step)
    }
  }

  /// The batches of this rank.
  var batchShare: BatchShare {
    BatchShare(batchesPerStep: batchesPerStep, ranks: group.share)
  }

  /// - Parameters:
  ///   - number: the number of the step, from 0.
  ///   - stops: whether this rank is asked to stop. With several ranks it is called during the step,
  ///     and `signals` then holds whether any of them is.
  func trainStep(
    _ number: Int, _ loader: BatchLoader, stops: () -> Bool = { false }
  ) throws -> StepRecord {
    let start = ContinuousClock.now
    let c = configuration
    let share = batchShare
    let first = number * batchesPerStep
    let sizes = try (first..<first + batchesPerStep).map { try order.batch($0).samples.count }
    let total = sizes.reduce(0, +)
    var computation = StepComputation()
    var dataSeconds = 0.0
    var passSeconds = 0.0
    let reduction = group.worldSize > 1 ? GradientReduction(mesh) : nil
    for part in 0..<share.count {
      let waiting = ContinuousClock.now
      let (loaded, draws) = try loader.next()
      dataSeconds += (ContinuousClock.now - waiting) / .seconds(1)
      let example = try example(loaded, draws)
      let scale = Double(loaded.batch.count) / Double(total) * (lossScale?.value ?? 1)
      let passing = ContinuousClock.now
      let result = try model.inPass(loaded.number) {
        guard let reduction else { return try step(example, objective, scale: scale) }
        return try step(example, objective, scale: scale) { parameters, gradients in
          try reduction.take(
            parameters, gradients, isLast: part == share.count - 1, &computation)
        }
      }
      try computation.add(result, example)
      passSeconds += (ContinuousClock.now - passing) / .seconds(1)
    }
    let passes = ContinuousClock.now
    if let reduction {
      var own: RankSignals = stops() ? .stops : []
      if sharesTrainedWeights, isStateDue { own.insert(.storesState) }
      signals = try computation.reduce(
        reduction, group, maxSamples: c.optimization.batchSize * share.largestCount, signals: own)
    }
    let gradients = parameters.compactMap { computation.gradients[$0.key] }
    if let lossScale {
      try Tensor.multiply_(gradients, by: .scalar(1 / lossScale.value, device: device))
    }
    let outcome = try optimization.apply(computation.gradients, at: number, group: mesh.shards) {
      (try computation.read(with: $0), computation.loss)
    }
    let loss = computation.loss
    let skipped = outcome.skipped
    if skipped == nil { try average?.update() }
    skippedInARow = skipped == nil ? 0 : skippedInARow + 1
    lossScale?.update(isFinite: skipped == nil)
    completedSteps = number + 1
    let end = ContinuousClock.now
    let (epoch, index) = order.position(of: first + batchesPerStep)
    let rates = outcome.learningRates
    return StepRecord(
      step: number + 1, epoch: Double(epoch) + Double(index) / Double(order.batchesPerEpoch),
      loss: loss,
      sigmaLosses: computation.sigmaLosses, videoLoss: computation.videoLoss,
      audioLoss: computation.audioLoss, gradientNorm: outcome.gradientNorm,
      learningRate: rates.first ?? 0,
      learningRates: rates.count > 1
        ? Dictionary(zip(optimization.groupNames, rates), uniquingKeysWith: { $1 }) : [:],
      seconds: (end - start) / .seconds(1), dataSeconds: dataSeconds,
      forwardSeconds: computation.forwardSeconds,
      backwardSeconds: passSeconds - computation.forwardSeconds,
      optimizerSeconds: (end - passes) / .seconds(1), samples: total,
      tensorBytes: try device.memory().liveBytes, skipped: skipped)
  }
}

extension TrainedModel {
  /// Runs a forward and backward pass, with dropout if it is configured.
  func inPass<R>(_ number: Int, _ body: () throws -> R) rethrows -> R {
    try dropout?.inPass(number, body) ?? body()
  }
}
