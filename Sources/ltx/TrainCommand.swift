import ArgumentParser
import Datasets
import Foundation
import LoRAFiles
import Media
import Support
import Torch
import Tracking
import Training

struct TrainCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train on a preprocessed dataset.",
    discussion: """
      The configuration has the official trainer's format; `ltx config init` writes one to start from. The run \
      writes checkpoints/, metrics.jsonl, report.html, samples/ and event files for TensorBoard to output_dir. \
      After an interruption, the same command resumes the run. Ctrl-C, SIGTERM and SIGHUP save and stop; a \
      second one stops at once. Only one run at a time can write to output_dir. With torchrun, srun, \
      `ltx launch` or --distributed, several processes train together.

      Exit status: 0 for a finished run, 1 if it failed, 2 if the input can't be used; 128 plus the signal's \
      number if it was stopped by a signal.

      Example:

        ltx train config.yaml --set optimization.steps=2000
      """)

  @Argument(
    help: "The training configuration, YAML.", completion: .file(extensions: ["yaml", "yml"]))
  var config: String

  @Option(
    help: ArgumentHelp(
      "A key to override, such as optimization.steps=50; the value is YAML. Repeatable.",
      valueName: "key=value"))
  var set: [String] = []

  @Flag(help: "Show what would be trained and how much memory it needs, without training.")
  var dryRun = false

  @Flag(help: "Replace the run in output_dir.")
  var overwrite = false

  @Option(
    help: ArgumentHelp(
      "A file that describes several processes, such as Configs/distributed/fsdp.yaml or one of Accelerate. They are started as by `ltx launch --config`, unless a launcher has started them.",
      valueName: "file"),
    completion: .file(extensions: ["yaml", "yml"]))
  var distributed: String?

  @OptionGroup var compute: ComputeOptions

  /// The command that starts the processes of `--distributed`; nil without it, or if a launcher has
  /// started them.
  ///
  /// - Parameter arguments: the arguments of the program.
  func launch(_ arguments: [String]) throws -> LaunchCommand? {
    guard let distributed, try checkingInput({ try ProcessRanks() }) == nil else { return nil }
    return try LaunchCommand.parse(["--config", distributed, "ltx"] + arguments)
  }

  /// The file of `--distributed`, or the one that `ltx launch` was given.
  private func distributedSettings(_ ranks: ProcessRanks?) throws -> DistributedSettings? {
    let launched = ranks.flatMap { _ in
      ProcessInfo.processInfo.environment[DistributedSettings.variable]
    }
    let settings = try (distributed ?? launched).map { try DistributedSettings(path: $0) }
    // `ltx launch` has printed them already.
    if launched == nil, ranks?.rank == 0 {
      for note in settings?.notes ?? [] { printError("note: \(note)") }
    }
    return settings
  }

  private func read(_ settings: DistributedSettings?) throws -> TrainingConfiguration {
    guard let settings else { return try TrainingConfiguration(path: config, overrides: set) }
    return try TrainingConfiguration(path: config, overrides: set, distributed: settings)
  }

  mutating func run() throws {
    let launched = try checkingInput { try ProcessRanks() }
    var locks = OutputLocks("ltx train")
    defer { locks.release() }
    let (device, configuration) = try RankSupervision.checkingBeforeJoining(.training) {
      let settings = try distributedSettings(launched)
      if compute.given == nil, let device = settings?.device {
        compute.given = DeviceChoice(device: device, hasIndex: false)
      }
      try compute.prepare()
      let device = try compute.device(of: launched ?? .single)
      try device.prepare()
      return (device, try read(settings))
    }
    let group = try checkingInput(.training) {
      try ProcessGroup.fromEnvironment(device: device) ?? .single
    }
    if group.isMain {
      for notice in configuration.notices { printError("note: \(notice)") }
      if !configuration.validation.samples.isEmpty { printEncoderNote() }
    }
    let ranks = try RankSupervision(group)
    defer { ranks.finish() }
    if group.isMain, let limitation = group.limitation { printError("note: \(limitation)") }
    let session = try ranks.checkingInput(.training) {
      try group.requireSame([
        ("version", SwiftLTX.version),
        ("the setting", try configuration.resolvedYAML),
      ])
      // Rank 0 holds the lock for all ranks.
      if group.isMain, !dryRun { try locks.lock(folder: configuration.outputDir) }
      let shown = PhasedProgress()
      defer { shown.finish() }
      return try TrainingSession(
        configuration,
        .init(
          device: device, earlierRun: overwrite ? .overwrite : .resume, isDryRun: dryRun),
        group: group, warn: { printError("warning: \(SubjectTable.training.message($0))") },
        planned: { lines in
          shown.finish()
          for line in lines {
            if dryRun { print(line) } else { printError(line) }
          }
        },
        preparing: { shown.show($0) })
    }
    let trainer = session.trainer
    if group.isMain { try working(.training) { try show(trainer, session.resumedFrom) } }
    if dryRun { return }
    if trainer.completedSteps >= trainer.configuration.optimization.steps {
      if group.isMain {
        print(
          "the run is complete: step \(trainer.completedSteps). Increase optimization.steps to continue it."
        )
        let page = try working { try session.publish() }
        if let page { print(page) }
      }
      return
    }
    let interruption = Interruption()
    interruption.waitsForCaller()
    let view = TrainingDisplay(
      totalSteps: trainer.configuration.optimization.steps, resumingAfter: trainer.completedSteps,
      isShown: group.isMain)
    var events = TrainingEvents()
    events.stepped = { view.show($0) }
    events.validated = { view.say($0.line) }
    events.sampling = { view.sampling($0) }
    events.sampled = { media, step in view.say("step \(step): \(media.count) samples in samples/") }
    events.saved = { view.say("saved \($0)") }
    events.shouldStop = { interruption.status != nil }
    events.learned = { summary in
      if !summary.isSuspicious { return }
      view.say("warning: \(summary.sentence)")
    }
    let result = try ranks.working(.training) {
      defer { view.finish() }
      return try session.run(events)
    }
    guard group.isMain else { return }
    for line in result.lines(
      meanLoss: view.loss, report: session.reportPath, showsMemory: compute.device != .cpu)
    { print(line) }
    if result.outcome == .interrupted {
      print("stopped after step \(trainer.completedSteps); the same command resumes the run")
    }
    if let weights = result.weights { print(weights) }
    let page = try working { try session.publish() }
    if let page { print(page) }
    if result.outcome == .interrupted, let status = interruption.status { throw ExitCode(status) }
  }

  private func show(_ trainer: Trainer, _ resumedFrom: String?) throws {
    let summary = try trainer.summary()
    if dryRun {
      print(try trainer.configuration.resolvedYAML)
      for (name, value) in summary.allFacts { print("\(name): \(value)") }
      print("keys of the weights file:")
      for key in capped(summary.keys, rest: { "and \($0) more" }) { print("  \(key)") }
    } else {
      for (name, value) in summary.facts + [summary.totalMemory] { print("\(name): \(value)") }
    }
    if let resumedFrom {
      print("resuming after step \(trainer.completedSteps), from \(resumedFrom)")
    }
  }
}

extension SubjectTable {
  /// The keys and options of `ltx train`, by the subjects of `Training`.
  fileprivate static let training = SubjectTable.trainingConfiguration.merging([
    ["overwrite"]: "--overwrite"
  ])
}

extension TrainingResult {
  /// The lines that end a run, before the path of its weights.
  ///
  /// - Parameters:
  ///   - meanLoss: the moving mean of the loss.
  ///   - report: the path of the run's page.
  ///   - showsMemory: whether the peak of the device's memory is shown.
  fileprivate func lines(meanLoss: Double?, report: String?, showsMemory: Bool) -> [String] {
    var lines: [String] = []
    if let meanLoss { lines.append(String(format: "mean loss of the last steps %.4f", meanLoss)) }
    if let learning { lines += learning.lines.map(SubjectTable.training.translate) }
    lines.append(
      "\(statistics.steps) \(statistics.steps == 1 ? "step" : "steps") in \(statistics.time)")
    if showsMemory {
      lines.append(String(format: "peak GPU memory %.4g GB", Double(statistics.peakBytes) / 1e9))
    }
    if let report { lines.append("report: \(report)") }
    if let best {
      lines.append(
        String(format: "best: step %d, validation loss %.4f: ", best.step, best.loss) + best.weights
      )
    }
    return lines
  }
}
