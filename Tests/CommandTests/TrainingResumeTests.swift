import Foundation
import TensorFiles
import Testing
import Tracking

/// Runs that were killed, stopped or damaged: 20 steps give the same bits, however they were run.
@Suite(.serialized) struct TrainingResumeTests {
  /// A run of one or more processes.
  private struct Run {
    let prepared: PreparedTraining
    let name: String
    let arguments: [String]
    let ranks: Int

    var folder: String { "\(prepared.path)/\(name)" }

    init(_ name: String, _ options: [String], ranks: Int = 1, steps: Int = 20) throws {
      prepared = try PreparedTraining.shared.get()
      self.name = name
      self.ranks = ranks
      arguments =
        ["train", try prepared.configure(name, steps: steps)] + options.flatMap { ["--set", $0] }
    }

    func start(_ more: [String] = []) throws -> [Process] {
      // Each start uses a new port, because the previous one may still be in use.
      let port = String(Int.random(in: 20_000..<30_000))
      return try (0..<ranks).map { rank in
        let place = "\(prepared.path)/\(name)-rank-\(rank)"
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        let environment =
          ranks == 1
          ? [:]
          : [
            "RANK": String(rank), "LOCAL_RANK": String(rank), "WORLD_SIZE": String(ranks),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
          ]
        return try Program.start(
          arguments + ["--threads", "1"] + more, in: place, environment: environment)
      }
    }

    /// Runs to the end.
    func finish(_ more: [String] = [], status: Int32 = 0) throws {
      for process in try start(more) {
        process.waitUntilExit()
        #expect(process.terminationStatus == status, "\(errors)")
      }
    }

    /// Runs until a number of steps is recorded, and sends a signal to all processes.
    func interrupt(after steps: Int, with number: Int32) throws -> [Process] {
      let processes = try start()
      while processes.allSatisfy(\.isRunning), try recordedSteps() < steps { usleep(10_000) }
      for process in processes { kill(process.processIdentifier, number) }
      for process in processes { process.waitUntilExit() }
      return processes
    }

    func recordedSteps() throws -> Int {
      FileManager.default.contents(atPath: "\(folder)/metrics.jsonl")?.filter { $0 == 10 }.count
        ?? 0
    }

    func steps() throws -> [StepRecord] {
      try RecordedMetrics(path: "\(folder)/metrics.jsonl").steps
    }

    func weights(step: Int) throws -> Data {
      try Data(
        contentsOf: URL(
          fileURLWithPath: folder
            + String(format: "/checkpoints/lora_weights_step_%05d.safetensors", step)))
    }

    private func text(_ file: String) -> String {
      FileManager.default.contents(atPath: "\(prepared.path)/\(name)-rank-0/\(file)")
        .map { String(decoding: $0, as: UTF8.self) } ?? "there is no \(file)"
    }
    var errors: String { text("stderr.txt") }
    var output: String { text("stdout.txt") }
  }

  private static let common = [
    "training_strategy.first_frame_conditioning_p=0.5", "lora.dropout=0.1",
    "optimization.scheduler_type=cosine", "optimization.ema_decay=0.9", "optimization.batch_size=2",
  ]

  /// Train 20 steps at once, or train about 7, get killed, and resume up to 20.
  @Test(arguments: [
    ("adamw", [], 1),
    ("adamw8bit", ["optimization.optimizer_type=adamw8bit"], 1),
    ("prodigy", ["optimization.optimizer_type=prodigy", "optimization.learning_rate=1"], 1),
    ("accumulation", ["optimization.gradient_accumulation_steps=2"], 1),
    ("ranks", ["optimization.batch_size=1"], 2),
  ])
  func killedRunsEndInTheSameBytes(name: String, options: [String], ranks: Int) throws {
    let whole = try Run("whole-\(name)", Self.common + options, ranks: ranks)
    try whole.finish()
    let broken = try Run("broken-\(name)", Self.common + options, ranks: ranks)
    _ = try broken.interrupt(after: 7, with: SIGKILL)
    #expect((7..<20).contains(try broken.recordedSteps()))
    try broken.finish()
    #expect(broken.output.contains("resuming after step "), "\(broken.output)")
    #expect(try broken.steps().map(\.step) == Array(1...20))
    #expect(try broken.steps().map(\.loss) == whole.steps().map(\.loss))
    #expect(try broken.steps().map(\.gradientNorm) == whole.steps().map(\.gradientNorm))
    #expect(try broken.weights(step: 20) == whole.weights(step: 20))
    let average = "ema/lora_weights_step_00020.safetensors"
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: "\(broken.folder)/\(average)"))
        == Data(contentsOf: URL(fileURLWithPath: "\(whole.folder)/\(average)")))
  }

  /// One signal saves and ends the run; the resumed run gives the same result as an uninterrupted
  /// one.
  @Test(arguments: [SIGTERM, SIGINT, SIGHUP, SIGUSR1])
  func signalsSaveAndEnd(number: Int32) throws {
    let whole = try Run("whole-signal-\(number)", Self.common)
    try whole.finish()
    let stopped = try Run("stopped-\(number)", Self.common)
    let process = try #require(try stopped.interrupt(after: 5, with: number).first)
    #expect(process.terminationReason == .exit)
    #expect(process.terminationStatus == 128 + number)
    let last = try #require(try stopped.steps().last?.step)
    #expect((5..<20).contains(last))
    #expect(stopped.output.contains("stopped after step \(last)"))
    _ = try stopped.weights(step: last)
    try stopped.finish()
    #expect(stopped.output.contains("resuming after step \(last),"))
    #expect(try stopped.weights(step: 20) == whole.weights(step: 20))
  }

  /// If the newest state is damaged, a warning says so and the previous one is used; the result is
  /// the same.
  @Test(arguments: [true, false])
  func damagedStates(isTruncated: Bool) throws {
    // The schedule does not depend on the number of steps, so that a run can be extended.
    let options =
      Self.common + [
        "optimization.scheduler_type=constant", "checkpoints.interval=4",
        "checkpoints.keep_last_n=-1",
        "checkpoints.save_training_state=full",
      ]
    let whole = try Run("whole-damaged-\(isTruncated)", options)
    try whole.finish()
    let damaged = try Run("damaged-\(isTruncated)", options, steps: 8)
    try damaged.finish()
    let newest = [
      "training_state.safetensors", "checkpoints/training_state_step_00008.safetensors",
    ]
    for file in newest {
      let url = URL(fileURLWithPath: "\(damaged.folder)/\(file)")
      var bytes = try Data(contentsOf: url)
      if isTruncated { bytes.removeLast(100) } else { bytes[bytes.count - 50] ^= 4 }
      try bytes.write(to: url)
    }
    let longer = try Run("damaged-\(isTruncated)", options, steps: 20)
    try longer.finish()
    #expect(longer.errors.components(separatedBy: "using the previous state instead").count == 3)
    #expect(longer.output.contains("resuming after step 4,"), "\(longer.output)")
    #expect(try longer.steps().map(\.step) == Array(1...20))
    #expect(try longer.weights(step: 20) == whole.weights(step: 20))
  }

  /// A run that was killed before it stored anything starts again.
  @Test func killedBeforeTheFirstState() throws {
    let run = try Run("early", ["checkpoints.save_training_state=off"], steps: 20)
    _ = try run.interrupt(after: 2, with: SIGKILL)
    try run.finish()
    #expect(try run.steps().map(\.step) == Array(1...20))
    // Weights without a state to resume from are not replaced without `--overwrite`.
    try run.finish(status: 2)
    #expect(run.errors.contains("holds a run without a state to resume from"), "\(run.errors)")
  }

  /// After a kill right after a checkpoint with the default, minimal state, the older full state is
  /// preferred.
  @Test func aMinimalStateDoesNotStandInForAWholeOne() throws {
    let options = Self.common + ["checkpoints.interval=1", "checkpoints.keep_last_n=-1"]
    let whole = try Run("whole-minimal", options)
    try whole.finish()
    let broken = try Run("broken-minimal", options)
    _ = try broken.interrupt(after: 7, with: SIGKILL)
    try broken.finish()
    #expect(!broken.errors.contains("without the optimizer's state"), "\(broken.errors)")
    #expect(try broken.weights(step: 20) == whole.weights(step: 20))
  }

  /// If the weights of a minimal state are damaged, the previous checkpoint is used.
  @Test func damagedWeightsOfAMinimalState() throws {
    let run = try Run(
      "minimal",
      [
        "optimization.scheduler_type=constant", "checkpoints.interval=2",
        "checkpoints.keep_last_n=-1",
      ],
      steps: 4)
    try run.finish()
    try FileManager.default.removeItem(atPath: "\(run.folder)/training_state.safetensors")
    let newest = URL(
      fileURLWithPath: "\(run.folder)/checkpoints/lora_weights_step_00004.safetensors")
    try Data(contentsOf: newest).prefix(100).write(to: newest)
    let longer = try Run(
      "minimal",
      [
        "optimization.scheduler_type=constant", "checkpoints.interval=2",
        "checkpoints.keep_last_n=-1",
      ],
      steps: 6)
    try longer.finish()
    #expect(longer.errors.contains("using the previous state instead"), "\(longer.errors)")
    #expect(longer.output.contains("resuming after step 2,"), "\(longer.output)")
  }

  /// The official trainer's way to resume: `load_checkpoint` names the run's own folder.
  /// `--overwrite` must not remove it.
  @Test func aRunMayNameItsOwnFolder() throws {
    let options = ["optimization.scheduler_type=constant"]
    let first = try Run("own", options, steps: 3)
    try first.finish()
    let load = "model.load_checkpoint=\(first.folder)/checkpoints"
    let again = try Run("own", options + [load], steps: 5)
    try again.finish()
    #expect(again.output.contains("resuming after step 3,"), "\(again.output) \(again.errors)")
    try again.finish(["--overwrite"], status: 2)
    #expect(again.errors.contains("would be removed by --overwrite"), "\(again.errors)")
    _ = try again.weights(step: 5)
  }

  /// A run that starts over removes the states of the previous run.
  @Test func noResumeLeavesNoOldStates() throws {
    let options = ["optimization.scheduler_type=constant"]
    try Run("anew", options, steps: 5).finish()
    let anew = try Run("anew", options + ["checkpoints.no_resume=true"], steps: 2)
    try anew.finish()
    let states = FileManager.default.enumerator(atPath: anew.folder)?.compactMap { $0 as? String }
      .filter { $0.contains("training_state_step_") }
    #expect(states == ["checkpoints/training_state_step_00002.safetensors"])
  }

  /// If all states are damaged, nothing is overwritten without `--overwrite`.
  @Test func allStatesDamaged() throws {
    let run = try Run("all-damaged", ["optimization.scheduler_type=constant"], steps: 2)
    try run.finish()
    try Data("rubbish".utf8).write(
      to: URL(fileURLWithPath: "\(run.folder)/training_state.safetensors"))
    try FileManager.default.removeItem(
      atPath: "\(run.folder)/checkpoints/training_state_step_00002.safetensors")
    try run.finish(status: 2)
    #expect(run.errors.contains("states are all damaged. Start over with --overwrite"))
    try run.finish(["--overwrite"])
    #expect(try run.steps().map(\.step) == [1, 2])
  }

  private static let officialState = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent(
      "Fixtures/training/training_state_step_00003.pt")

  /// `model.load_checkpoint` resumes a run at its state, like the official trainer: completely from
  /// our state, at the same step from the official trainer's. If the runs don't agree, only the
  /// weights are loaded.
  @Test func loadedCheckpoints() throws {
    let options = ["optimization.scheduler_type=constant", "checkpoints.save_training_state=full"]
    let whole = try Run("whole-loaded", options, steps: 6)
    try whole.finish()
    let first = try Run("first-loaded", options, steps: 3)
    try first.finish()
    let checkpoints = "\(first.folder)/checkpoints"
    let load = "model.load_checkpoint=\(checkpoints)"

    let second = try Run("second-loaded", options + [load], steps: 6)
    try second.finish()
    #expect(
      second.output.contains("resuming after step 3, from \(checkpoints)/training_state"),
      "\(second.output)")
    #expect(try second.steps().map(\.step) == [4, 5, 6])
    #expect(try second.weights(step: 6) == whole.weights(step: 6))

    let fresh = try Run("fresh-loaded", options + [load, "checkpoints.no_resume=true"], steps: 2)
    try fresh.finish()
    #expect(try fresh.steps().map(\.step) == [1, 2])

    try FileManager.default.removeItem(
      atPath: "\(checkpoints)/training_state_step_00003.safetensors")
    try FileManager.default.copyItem(
      at: Self.officialState,
      to: URL(fileURLWithPath: "\(checkpoints)/training_state_step_00003.pt"))
    let official = try Run("official-loaded", options + [load], steps: 5)
    try official.finish()
    #expect(try official.steps().map(\.step) == [4, 5])
    #expect(official.errors.contains("has no readable optimizer state"), "\(official.errors)")

    let other = try Run(
      "other-loaded", options + [load, "optimization.optimizer_type=lion"], steps: 2)
    try other.finish()
    #expect(try other.steps().map(\.step) == [1, 2])
    #expect(other.errors.contains("a different optimization.optimizer_type"), "\(other.errors)")
  }

  /// A complete run says so, and changes nothing.
  @Test func stepsAlreadyReached() throws {
    let run = try Run("done", ["optimization.scheduler_type=constant"], steps: 3)
    try run.finish()
    let before = try run.weights(step: 3)
    try run.finish()
    #expect(run.output.contains("the run is complete: step 3"))
    #expect(try run.weights(step: 3) == before)
    let fewer = try Run("done", ["optimization.scheduler_type=constant"], steps: 2)
    try fewer.finish(status: 2)
    #expect(fewer.errors.contains("has completed 3 steps"), "\(fewer.errors)")
  }

  /// Another configuration in the folder requires `--overwrite`, which replaces the run.
  @Test func overwriting() throws {
    let first = try Run("overwritten", [], steps: 3)
    try first.finish()
    let other = try Run("overwritten", ["lora.rank=4"], steps: 2)
    try other.finish(status: 2)
    #expect(other.errors.contains("lora.rank was 16 and is now 4"), "\(other.errors)")
    #expect(other.errors.contains("--overwrite"))
    try other.finish(["--overwrite"])
    #expect(try other.steps().count == 2)
    #expect(throws: (any Error).self) { try first.weights(step: 3) }
  }

  /// Steps with a non-finite loss or gradient are skipped, and after too many the run saves its
  /// weights and ends.
  @Test func nonFiniteSteps() throws {
    let run = try Run(
      "diverging", ["optimization.learning_rate=1e20", "optimization.max_skipped_steps=3"],
      steps: 20)
    try run.finish(status: 1)
    let steps = try run.steps()
    #expect(steps.suffix(3).allSatisfy { $0.skipped != nil })
    #expect(steps.count < 20)
    #expect(run.errors.contains("was not finite in 3 steps in a row"), "\(run.errors)")
    let file = try SafetensorsFile(
      path: run.folder
        + String(format: "/checkpoints/lora_weights_step_%05d.safetensors", steps.count))
    for key in file.entries.keys { #expect(try file.tensor(key).isAllFinite(), "\(key)") }
  }
}
