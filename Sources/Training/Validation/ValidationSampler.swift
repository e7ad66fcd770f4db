import Datasets
import Foundation
import Generation
import LTX
import NN
import Support
import Torch

/// Generates the samples of a configuration with the transformer that is being trained.
///
/// It is created once before training. It then reports all problems, and encodes prompts and media
/// and keeps them on the CPU, so that neither the text encoder nor the VAEs' encoders take memory
/// later. The stages are those of `ltx generate`.
public final class ValidationSampler {
  /// The requirements of the samples; nil without samples.
  let needs: ValidationNeeds?
  /// The modalities of the transformer that the samples need; nil without samples.
  public var modalities: Set<Modality>? { needs?.modalities }
  /// Notes for the user that are not errors.
  public let notes: [String]
  public var sampleCount: Int { plans.count }

  private let configuration: TrainingConfiguration
  private let requests: [ValidationRequest]
  let plans: [GenerationPlan]
  let inputs: [EncodedInputs]
  private let warn: @Sendable (String) -> Void

  /// - Parameters:
  ///   - dtype: the dtype of the run's frozen weights, which samples are computed in too.
  ///   - warn: called with failures that don't end training.
  ///   - report: called while prompts and media are encoded; an error that it throws ends the
  ///     preparation.
  /// - Throws: `ConfigurationProblems` with all invalid samples and keys; `Issue`, `WeightError` or
  ///   `TensorFileError` for invalid models; `MediaError` if media can't be decoded to the end.
  public init(
    _ configuration: TrainingConfiguration, dtype: DType, device: Device = .cpu,
    warn: @escaping @Sendable (String) -> Void = { _ in },
    report: (GenerationProgress) throws -> Void = { _ in }
  ) throws {
    let c = configuration
    self.configuration = c
    self.warn = warn
    guard !c.validation.samples.isEmpty else {
      (needs, notes, requests, plans, inputs) = (nil, [], [], [], [])
      return
    }
    let (models, checkpoint, doubt) = try Self.models(c, dtype: dtype, device: device)
    let blocks = try TransformerConfiguration(checkpoint.config).blocks
    try makeFolder(Self.folder(c))
    (requests, plans) = try Self.plans(c, models, blocks: blocks)
    needs = ValidationNeeds(plans)
    // Repeated notes are shown once.
    notes = ([doubt].compactMap { $0 } + requests.flatMap(\.notes) + plans.flatMap(\.notes))
      .reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    if plans.contains(where: \.decodes.video) { _ = try checkpoint.videoDecoder() }
    if plans.contains(where: \.decodes.audio) {
      _ = try checkpoint.audioDecoder()
      _ = try checkpoint.vocoder()
    }
    let plans = plans
    inputs = try withInference {
      let encoder = try InputEncoder(models)
      let contexts = try Self.contexts(
        of: plans, encoder, PromptCache(folder: c.outputDir + "/.validation_cache", models: models),
        warn,
        report)
      var inputs = plans.map { plan in
        EncodedInputs(contexts: plan.inputs.prompts.compactMap { contexts[$0] })
      }
      try encoder.encodeMedia(of: plans, into: &inputs, report: report)
      return inputs
    }
  }

  /// Whether samples are due after a step.
  public func isDue(at step: Int) -> Bool {
    guard let interval = configuration.validation.interval, !plans.isEmpty else { return false }
    return step == 0
      ? !configuration.validation.skipInitialValidation : step.isMultiple(of: interval)
  }

  /// Generates samples and writes `samples/step_000100_1.mp4` and so on.
  ///
  /// A failed sample is reported and skipped, and its memory is freed. The transformer runs in the
  /// precision of training: its own weights under autocast, adapters unchanged. No random number of
  /// the training is used.
  ///
  /// - Parameters:
  ///   - transformer: built for at least `modalities`. It is only read.
  ///   - autocast: the dtype of the run's mixed precision; nil for none.
  ///   - step: the number of completed steps.
  ///   - work: this rank's share; nil for all samples.
  ///   - endsWithFailure: whether a sample's error is thrown. It must be if the model is sharded
  ///     over ranks, because the others would wait for a rank that gave up a sample.
  ///   - isStopped: called after each unit of work.
  /// - Returns: the files, in the order of the work.
  /// - Throws: `CancellationError` if it was stopped; `Issue` if the transformer lacks a needed
  ///   modality.
  public func run(
    transformer: Transformer, autocast: DType?, step: Int, work: [ValidationWork]? = nil,
    endsWithFailure: Bool = false, report: (ValidationProgress) throws -> Void = { _ in },
    isStopped: () -> Bool = { false }
  ) throws -> [ValidationOutput] {
    let work = work ?? plans.indices.map { ValidationWork(sample: $0) }
    guard !work.isEmpty, let modalities else { return [] }
    guard transformer.modalities == .both || transformer.modalities == modalities else {
      throw Issue(
        ["transformer"],
        "was built for \(transformer.modalities.names), but validation samples need "
          + modalities.names)
    }
    let shared = SharedModels(transformer: transformer, autocast: autocast)
    var outputs: [ValidationOutput] = []
    for (position, item) in work.enumerated() {
      let path = Self.path(configuration, requests[item.sample], step: step)
      do {
        let plan =
          item.isSaved ? plans[item.sample].writing(to: [path]) : plans[item.sample].samplingOnly()
        try GenerationPipeline(plan, sharing: shared).run(inputs[item.sample]) { stage in
          if isStopped() { throw CancellationError() }
          try report(ValidationProgress(position: position, count: work.count, stage: stage))
        }
        guard item.isSaved else { continue }
        outputs.append(
          ValidationOutput(
            sample: item.sample, path: path,
            prompt: configuration.validation.samples[item.sample].prompt))
      } catch let error where error is CancellationError || endsWithFailure {
        throw error
      } catch let error as TorchError where error.kind == .outOfMemory {
        shared.freeDecoders()
        warn(
          "step \(step): memory ran out for validation sample \(item.sample + 1), which is skipped; training continues. "
            + "Reduce its dimensions, or set `offloadsOptimizer` to true (\(describe(error)))"
        )
      } catch {
        shared.freeDecoders()
        warn(
          "step \(step): validation sample \(item.sample + 1) failed and is skipped; training continues: \(describe(error))"
        )
      }
    }
    return outputs
  }

  // MARK: Preparation

  /// Checks all samples without loading or encoding anything.
  ///
  /// - Returns: what they need; nil without samples.
  /// - Throws: the errors of `init`.
  static func needs(
    of c: TrainingConfiguration, dtype: DType, device: Device = .cpu
  ) throws -> ValidationNeeds? {
    guard !c.validation.samples.isEmpty else { return nil }
    let (models, checkpoint, _) = try models(c, dtype: dtype, device: device)
    // A plan requires a writable folder. Nothing is written, so the run's folder need not exist.
    var c = c
    c.outputDir = NSTemporaryDirectory()
    let blocks = try TransformerConfiguration(checkpoint.config).blocks
    return ValidationNeeds(try plans(c, models, blocks: blocks, isDryRun: true).1)
  }

  /// - Returns: The models, and a warning if it is not known whether the text encoder belongs to
  ///   them.
  private static func models(
    _ c: TrainingConfiguration, dtype: DType, device: Device
  ) throws -> (GenerationModels, Checkpoint, doubt: String?) {
    guard let textEncoder = c.model.textEncoderPath else {
      throw c.problem(
        .textEncoder,
        "is missing; validation samples need the folder or file of the text encoder")
    }
    guard FileManager.default.fileExists(atPath: textEncoder) else {
      throw c.problem(.textEncoder, "\(textEncoder) does not exist")
    }
    var files = c.model.files
    files[.textEncoder] = textEncoder
    var models = GenerationModels(files, device: device, dtype: dtype)
    models.textEncoder8bit = c.acceleration.loadTextEncoderIn8Bit
    models.memory.memory = c.acceleration.memory
    try c.requireComponents(decodesAudio: c.validation.generateAudio)
    let checkpoint = try Checkpoint(models.files)
    return (models, checkpoint, try checkpoint.requireTextEncoder())
  }

  /// Returns the samples as checked plans. The problems of all samples are reported together.
  private static func plans(
    _ c: TrainingConfiguration, _ models: GenerationModels, blocks: Int, isDryRun: Bool = false
  ) throws -> ([ValidationRequest], [GenerationPlan]) {
    var problems: [ConfigurationProblems.Problem] = []
    /// A problem of a shared value is reported for the first sample.
    var sharedKeys: Set<String> = []
    var requests: [ValidationRequest] = []
    var plans: [GenerationPlan] = []
    for index in c.validation.samples.indices {
      do {
        let request = try ValidationRequest(index, of: c, blocks: blocks)
        requests.append(request)
        do {
          plans.append(
            try GenerationPlan(
              request.request, models: models,
              output: isDryRun
                ? c.outputDir + "/sample.\(request.fileExtension)" : path(c, request, step: 0),
              checksModels: false))
        } catch let issue as Issue {
          throw request.problem(issue, in: c)
        }
      } catch let error as ConfigurationProblems {
        problems += error.problems.filter {
          $0.key.contains("samples[") || sharedKeys.insert($0.key).inserted
        }
      }
    }
    guard problems.isEmpty else {
      throw ConfigurationProblems(file: c.source.file, problems: problems)
    }
    return (requests, plans)
  }

  /// Returns the contexts of all prompts, each encoded once, on the CPU.
  private static func contexts(
    of plans: [GenerationPlan], _ encoder: InputEncoder, _ cache: PromptCache,
    _ warn: (String) -> Void,
    _ report: (GenerationProgress) throws -> Void
  ) throws -> [String: TextContexts] {
    var contexts: [String: TextContexts] = [:]
    var missing: [String] = []
    for prompt in plans.flatMap(\.inputs.prompts)
    where contexts[prompt] == nil && !missing.contains(prompt) {
      do {
        contexts[prompt] = try cache.contexts(of: prompt)
      } catch {
        warn("a cached prompt can't be loaded and is encoded again: \(describe(error))")
      }
      if contexts[prompt] == nil { missing.append(prompt) }
    }
    guard !missing.isEmpty else { return contexts }
    let encoded = try encoder.contexts(of: missing) {
      try report(GenerationProgress(stage: .encodePrompts(missing), done: $0, total: $1))
    }
    for (prompt, context) in zip(missing, encoded) {
      let context = try context.to(.cpu)
      contexts[prompt] = context
      do {
        try cache.store(context, of: prompt)
      } catch {
        warn("an encoded prompt can't be cached for the next start of the run: \(describe(error))")
      }
    }
    return contexts
  }

  private static func folder(_ c: TrainingConfiguration) -> String { c.outputDir + "/samples" }

  private static func path(_ c: TrainingConfiguration, _ request: ValidationRequest, step: Int)
    -> String
  {
    let digits = String(step)
    let number = String(repeating: "0", count: max(0, 6 - digits.count)) + digits
    return "\(folder(c))/step_\(number)_\(request.index + 1).\(request.fileExtension)"
  }
}
