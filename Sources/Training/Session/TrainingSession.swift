import Datasets
import Foundation
import Generation
import LTX
import Support
import Synchronization
import Torch
import Tracking

/// A complete `ltx train` run: the trainer, its display and its outputs.
public final class TrainingSession {
  public struct Options: Sendable {
    public var device: Device
    public var earlierRun: Trainer.EarlierRun
    /// Whether the run is only checked, not started.
    public var isDryRun: Bool

    public init(
      device: Device = .cpu, earlierRun: Trainer.EarlierRun = .resume, isDryRun: Bool = false
    ) {
      (self.device, self.earlierRun, self.isDryRun) = (device, earlierRun, isDryRun)
    }
  }

  public let trainer: Trainer
  /// The path of the state that the run resumes from; nil for a new run.
  public let resumedFrom: String?
  private let group: ProcessGroup
  private let publication: HubPublication?
  /// The messages that the user has seen, for the report.
  private let messages: Messages
  private let warn: @Sendable (String) -> Void

  private final class Messages: Sendable {
    let list = Mutex<[String]>([])
  }
  private var configuration: TrainingConfiguration { trainer.configuration }
  /// The path of the report; nil if none is written.
  public var reportPath: String? { configuration.report.enabled ? trainer.folder.report : nil }

  /// Loads and checks everything; nothing is trained or written yet.
  ///
  /// - Parameters:
  ///   - group: the processes that train together. The first one writes the files.
  ///   - warn: called with warnings for the user.
  ///   - planned: called with a table of the memory plan before the transformer is loaded.
  ///   - preparing: called while prompts and media of validation samples are encoded.
  /// - Throws: the errors of `Trainer.init` and `Trainer.prepareFolder`.
  public init(
    _ configuration: TrainingConfiguration, _ options: Options = Options(),
    group: ProcessGroup = .single,
    warn: @escaping @Sendable (String) -> Void,
    planned: ([String]) -> Void = { _ in },
    preparing: (GenerationProgress) throws -> Void = { _ in }
  ) throws {
    self.group = group
    let messages = Messages()
    self.messages = messages
    self.warn = { text in
      let message = SubjectTable.trainingConfiguration.translate(text)
      messages.list.withLock { $0.append(message) }
      warn(message)
    }
    if group.isMain, configuration.wandb.enabled {
      // A missing key is reported before the models are loaded.
      _ = try WandBSettings(environment: Self.wandbEnvironment(configuration))
    }
    publication =
      group.isMain && !options.isDryRun ? try HubPublication(configuration, progress: warn) : nil
    trainer = try Trainer(
      configuration, device: options.device, group: group, makesSamples: !options.isDryRun,
      warn: self.warn, planned: planned, preparing: preparing)
    // A dry run with `--overwrite` replaces nothing.
    let looksOnly = options.isDryRun && options.earlierRun == .overwrite
    resumedFrom = looksOnly ? nil : try trainer.prepareFolder(options.earlierRun)
  }

  /// Trains to the end, or until `events.shouldStop` asks to stop.
  ///
  /// - Parameter events: the caller's callbacks, which are called in addition to the session's own.
  public func run(_ events: TrainingEvents) throws -> TrainingResult {
    var report = group.isMain && configuration.report.enabled ? try makeReport() : nil
    let reportPath = trainer.folder.report
    let trackers = group.isMain ? try makeTrackers() : RunTrackers([], warn: warn)
    let yaml = try configuration.resolvedYAML
    trackers.text("config", Self.indented(yaml), step: trainer.completedSteps)
    func writeReport() {
      // A report that can't be written must not end the run.
      report?.messages = messages.list.withLock { $0 }
      do { try report?.write(to: reportPath) } catch { warn(describe(error)) }
    }
    var own = events
    own.stepped = { record in
      report?.add(record)
      trackers.scalars(record.scalars, step: record.step)
      events.stepped(record)
    }
    own.validated = { record in
      report?.add(record)
      trackers.scalars(record.scalars, step: record.step)
      events.validated(record)
      writeReport()
    }
    own.sampled = { media, step in
      report?.add(media, step: step)
      trackers.media(media, step: step)
      events.sampled(media, step)
      writeReport()
    }
    own.saved = { path in
      events.saved(path)
      writeReport()
    }
    own.learned = { summary in
      report?.learning = summary
      trackers.scalars(summary.scalars, step: self.trainer.completedSteps)
      events.learned(summary)
    }
    do {
      let result = try trainer.run(own)
      report?.outcome = result.outcome
      trackers.scalars(result.statistics.scalars, step: trainer.completedSteps)
      trackers.finish(result.outcome)
      writeReport()
      return result
    } catch {
      report?.outcome = .failed
      messages.list.withLock { $0.append(describe(error)) }
      trackers.finish(.failed)
      writeReport()
      throw error
    }
  }

  /// Uploads the weights of a complete run to the Hub, if the configuration asks for it. May be
  /// called again.
  ///
  /// - Returns: the URL of the commit; nil if there is nothing to upload.
  public func publish() throws -> String? {
    let step = trainer.completedSteps
    guard let publication, step >= configuration.optimization.steps else { return nil }
    let samples = trainer.folder.samples(upTo: step)
    let newest = samples.map(\.step).max()
    return try publication.upload(
      weights: trainer.folder.weights(step: step),
      samples: media(samples.filter { $0.step == newest }),
      facts: trainer.summary().facts.filter { $0.name != "model" })
  }

  private func media(
    _ samples: [(step: Int, sample: Int, path: String)]
  ) throws -> [ValidationMedia] {
    let prompts = configuration.validation.samples.map(\.prompt)
    return try samples.filter { prompts.indices.contains($0.sample) }.sorted {
      $0.sample < $1.sample
    }
    .map {
      try ValidationOutput(sample: $0.sample, path: $0.path, prompt: prompts[$0.sample]).media()
    }
  }

  private func makeReport() throws -> TrainingReport {
    var metrics = RecordedMetrics()
    if trainer.completedSteps > 0, FileManager.default.fileExists(atPath: trainer.folder.metrics) {
      metrics = try RecordedMetrics(path: trainer.folder.metrics)
      metrics.steps.removeAll { $0.step > trainer.completedSteps }
      metrics.validations.removeAll { $0.step > trainer.completedSteps }
    }
    var report = TrainingReport(
      title: (configuration.outputDir as NSString).lastPathComponent,
      totalSteps: configuration.optimization.steps, configuration: try configuration.resolvedYAML,
      metrics: metrics)
    let summary = try trainer.summary()
    report.facts = summary.allFacts
    report.memoryUnit = summary.memoryUnit
    // The samples of an earlier start.
    let earlier =
      trainer.completedSteps > 0 ? trainer.folder.samples(upTo: trainer.completedSteps) : []
    for (step, samples) in Dictionary(grouping: earlier, by: \.step).sorted(by: { $0.key < $1.key })
    {
      report.add(try media(samples), step: step)
    }
    return report
  }

  private func makeTrackers() throws -> RunTrackers {
    var trackers: [any RunTracker] = []
    if configuration.tensorboard.enabled {
      trackers.append(
        try TensorBoardTracker(
          folder: trainer.folder.path + "/tensorboard", resumingAfter: trainer.completedSteps))
    }
    if configuration.wandb.enabled {
      let options = WandBTracker.Options(
        project: configuration.wandb.project, entity: configuration.wandb.entity,
        name: (configuration.outputDir as NSString).lastPathComponent,
        tags: configuration.wandb.tags,
        configuration: configuration.json.data(JSONFormat(normalizesNumbers: true)),
        folder: configuration.outputDir,
        resumeID: trainer.trackerRunID)
      if let tracker = try WandBTracker.start(
        options, environment: Self.wandbEnvironment(configuration), notice: warn)
      {
        trainer.trackerRunID = tracker.runID
        trackers.append(configuration.wandb.logValidationVideos ? tracker : WithoutMedia(tracker))
      }
    }
    return RunTrackers(trackers, warn: warn)
  }

  /// The configuration's mode overrides the environment's.
  private static func wandbEnvironment(_ configuration: TrainingConfiguration) -> [String: String] {
    var environment = ProcessInfo.processInfo.environment
    if let mode = configuration.wandb.mode { environment["WANDB_MODE"] = mode.rawValue }
    return environment
  }

  /// A Markdown code block.
  private static func indented(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { "    \($0)" }.joined(
      separator: "\n")
  }
}
