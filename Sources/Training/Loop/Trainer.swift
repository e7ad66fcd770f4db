import BlockExecution
import Datasets
import Foundation
import LTX
import NN
import TensorFiles
import Torch

/// Trains adapters on a preprocessed dataset, step by step, as a configuration says.
///
/// A run is a function of its configuration: the batches and the noise of a step follow from the seed and the step's
/// number. A run that was killed therefore goes on exactly where its last stored state was.
public final class Trainer {
  public let configuration: TrainingConfiguration
  public let dataset: PrecomputedDataset
  /// The trained tensors.
  public let parameters: [Parameter]
  /// Samples whose cache was made with another model file.
  public let samplesOfAnotherModel: Int
  /// Steps that an earlier start of the run has done.
  public let completedSteps: Int

  private let device: Device
  private let connectors: TextConnectors
  /// What contexts are computed in; the frozen model's own type.
  private let frozenDType: DType
  private let step: TrainingStep
  private let flowMatching: FlowMatching
  private let optimizer: any Optimizer
  private let schedule: LearningRateSchedule
  private let folder: RunFolder
  private let fingerprint: RunFingerprint
  private var order: BatchOrder

  /// Reads what a run needs, and checks that it fits together. Nothing is trained or written yet.
  ///
  /// - Throws: `ConfigurationProblems`, `DatasetError`, `WeightError`, `ConfigurationError`, `TensorFileError`, each
  ///   naming the file and the key.
  public init(_ configuration: TrainingConfiguration, device: Device = .cpu) throws {
    let c = configuration
    self.configuration = c
    self.device = device
    try device.prepare()
    if let problem = OutputFolder.problem(c.outputFolder + "/checkpoints") {
      throw c.problem(.outputFolder, "\(c.outputFolder) \(problem)")
    }
    guard FileManager.default.fileExists(atPath: c.dataRoot) else {
      throw c.problem(.dataRoot, "\(c.dataRoot) does not exist; run `ltx preprocess` first")
    }
    dataset = try PrecomputedDataset(root: c.dataRoot, latentsFolder: c.latentsFolder)
    let checkpoint = try Checkpoint(path: c.modelPath)
    try checkpoint.require("transformer", "vae")
    let text = try TextConfiguration(checkpoint.config)
    let factors = try VideoVAEConfiguration.Encoder(checkpoint.config).compression
    let channels = try TransformerConfiguration(checkpoint.config).video.inputs
    if let other = dataset.entries.first(where: { $0.shape[0] != channels }) {
      throw DatasetError(
        path: other.latents,
        problem:
          "holds latents of \(other.shape[0]) channels, but the model \(c.modelPath) takes \(channels); "
          + "preprocess the dataset with this model")
    }

    try dataset.requireTextFeatures(width: text.video.width, model: c.modelPath)

    frozenDType = c.mixedPrecision == .bf16 ? .bfloat16 : .float32
    let seed = UInt64(c.seed)
    let transformer: Transformer
    do {
      transformer = try checkpoint.transformer(
        dtype: frozenDType, device: device,
        freshAdapters: FreshAdapters(
          targets: c.lora.targetModules, rank: c.lora.rank, alpha: Double(c.lora.alpha),
          generator: Generator(seed: RandomSeed.mix(seed, "adapters"))),
        streams: .video)
    } catch let error as UnmatchedTarget {
      let nearest = NearestName.find(error.target, in: error.layers).map { "; did you mean \($0)?" } ?? ""
      throw c.problem(.targetModules, "\(error)\(nearest)")
    }
    parameters = transformer.parameters
    connectors = try checkpoint.textConnectors(dtype: frozenDType, device: device, streams: .video)
    step = TrainingStep(
      transformer: transformer,
      plan: ExecutionPlan(
        blocks: transformer.configuration.blocks, activations: c.activations,
        autocast: c.mixedPrecision == .bf16 ? .bfloat16 : nil))
    flowMatching = FlowMatching(
      sampler: c.timestepSampling == .uniform ? .uniform : .shiftedLogitNormal,
      firstFrameProbability: c.firstFrameProbability, factors: factors)
    optimizer = try AdamW([ParameterGroup(parameters, learningRate: c.learningRate)])
    schedule =
      c.scheduler == .constant
      ? .constant
      : LearningRateSchedule(
        .linear(start: c.schedulerFactors.start, end: c.schedulerFactors.end), steps: c.steps)
    order = BatchOrder(
      shapes: dataset.entries.map(\.shape), batchSize: c.batchSize, seed: RandomSeed.mix(seed, "order"))
    folder = RunFolder(path: c.outputFolder)
    let identity = try FileIdentity.identity(of: c.modelPath)
    samplesOfAnotherModel = try dataset.samplesOfAnotherModel(than: identity)
    fingerprint = RunFingerprint(
      c, model: identity, samples: dataset.entries.map(\.name))
    completedSteps = c.ignoresEarlierRun ? 0 : try folder.restore(optimizer, fingerprint: fingerprint)
  }

  /// Trains until the configured number of steps is done.
  ///
  /// - Parameter onStep: called after each step.
  /// - Returns: the files of saved adapters, the final one last.
  public func run(onStep: (StepMetrics) throws -> Void) throws -> [String] {
    let c = configuration
    try folder.create()
    try folder.truncateMetrics(after: completedSteps)
    let metricsFile = try folder.openMetrics()
    defer { metricsFile.closeFile() }
    var saved: [String] = []
    // The adapters and two moments of each.
    var pacing = StatePacing(bytes: 3 * parameters.reduce(0) { $0 + $1.tensor.byteCount })
    for number in completedSteps..<max(c.steps, completedSteps) {
      let metrics = try trainStep(number)
      try onStep(metrics)
      let line = try JSONEncoder.sorted.encode(metrics) + Data("\n".utf8)
      try metricsFile.write(contentsOf: line)
      let isLast = metrics.step == c.steps
      if isLast || c.checkpointInterval.map({ metrics.step.isMultiple(of: $0) }) ?? false {
        saved.append(try save(step: metrics.step))
        try folder.pruneAdapters(keeping: c.keptCheckpoints, upTo: metrics.step)
      }
      try pacing.write(isForced: isLast) {
        try folder.saveState(optimizer, step: metrics.step, fingerprint: fingerprint)
      }
    }
    if saved.isEmpty { saved.append(try save(step: completedSteps)) }
    return saved
  }

  /// Samples of the dataset at noise and sigmas that are a function of the seed.
  public func example(samples: [Int], noiseSeed: UInt64) throws -> TrainingExample {
    try example(samples, generator: Generator(seed: noiseSeed))
  }

  /// The loss of the adapters as they are now, per sample: [B].
  public func loss(_ example: TrainingExample) throws -> Tensor { try step.loss(example) }

  /// - Parameter number: of the step, from 0.
  private func trainStep(_ number: Int) throws -> StepMetrics {
    let start = ContinuousClock.now
    let c = configuration
    var gradients: [String: Tensor] = [:]
    var loss = 0.0
    for part in 0..<c.accumulationSteps {
      let batch = number * c.accumulationSteps + part
      let generator = try Generator(seed: RandomSeed.mix(UInt64(c.seed), "noise", batch))
      let result = try step(
        example(order.batch(batch), generator: generator), scale: 1 / Double(c.accumulationSteps))
      for (key, gradient) in result.gradients {
        gradients[key] = try gradients[key].map { try $0 + gradient } ?? gradient
      }
      loss += try result.loss.mean().item() / Double(c.accumulationSteps)
    }
    let learningRate = schedule.learningRate(base: c.learningRate, at: number)
    let norm = try GradientClipping.clip(parameters.compactMap { gradients[$0.key] }, to: c.maxGradientNorm)
    guard loss.isFinite, norm.isFinite else {
      throw TrainingError(
        problem: "step \(number + 1): the loss is \(Self.shown(loss)) and the gradient's norm "
          + "\(Self.shown(norm)); lower the learning rate or "
          + "check the dataset for damaged samples")
    }
    try optimizer.step(gradients, schedule: schedule, at: number)
    return StepMetrics(
      step: number + 1, loss: loss, gradientNorm: norm, learningRate: learningRate,
      seconds: (ContinuousClock.now - start) / .seconds(1), tensorBytes: try device.memory().liveBytes)
  }

  /// Swift shows the bits of numbers that are none.
  private static func shown(_ x: Double) -> String { x.isNaN ? "not a number" : "\(x)" }

  private func example(_ samples: [Int], generator: Generator) throws -> TrainingExample {
    let loaded = try samples.map { try dataset.sample($0) }
    let latents = try Tensor.stack(loaded.map { try $0.latents.to(.float32) }).to(device)
    let features = try Tensor.stack(loaded.map(\.videoFeatures)).to(device, frozenDType)
    let mask = try Tensor.stack(loaded.map(\.mask)).to(device)
    // The connectors are frozen: nothing of them is recorded.
    let contexts = try withoutGrad {
      try connectors(TextFeatures(video: features, audio: features, mask: mask))
    }
    guard let context = contexts.video else {
      throw TrainingError(problem: "the connectors gave no video context")
    }
    return try flowMatching.example(
      latents: latents, fps: loaded[0].fps, context: context, contextMask: contexts.mask, generator: generator
    )
  }

  private func save(step number: Int) throws -> String {
    try folder.saveAdapters(
      parameters, scale: Double(configuration.lora.alpha) / Double(configuration.lora.rank), step: number,
      dtype: configuration.savedPrecision == .bfloat16 ? .bfloat16 : .float32)
  }
}

/// A run that can't go on.
public struct TrainingError: Error, CustomStringConvertible, Sendable {
  public let problem: String
  public var description: String { problem }
}

/// Writes the state after every step, so that a killed run loses the step at hand; a state so large that this would
/// take more than a twentieth of the time, less often.
private struct StatePacing {
  /// Smaller ones are in the page cache before they are noticed.
  private static let alwaysWritten = 256 << 20
  private let isAlwaysWritten: Bool
  private var lastEnd = ContinuousClock.now
  private var lastDuration = Duration.zero

  init(bytes: Int) { isAlwaysWritten = bytes <= Self.alwaysWritten }

  mutating func write(isForced: Bool, _ body: () throws -> Void) throws {
    guard isForced || isAlwaysWritten || ContinuousClock.now - lastEnd >= lastDuration * 20 else { return }
    let start = ContinuousClock.now
    try body()
    lastEnd = ContinuousClock.now
    lastDuration = lastEnd - start
  }
}

extension JSONEncoder {
  /// Keys in a fixed order, so that equal values make equal lines.
  fileprivate static var sorted: JSONEncoder {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return encoder
  }
}
