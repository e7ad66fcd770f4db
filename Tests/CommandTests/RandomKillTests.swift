import Foundation
import TestSupport
import Testing

/// Runs whose ranks are killed at random times, or killed or stopped while they write a file, and
/// started again.
///
/// `LTX_KILLS=50` kills so often, which takes some minutes.
@Suite struct RandomKillTests {
  private static let kills =
    ProcessInfo.processInfo.environment["LTX_KILLS"].flatMap { Int($0) } ?? 3

  private let prepared: PreparedTraining
  private let shop: Workshop
  private let steps = 10 + 12 * Self.kills

  init() throws {
    prepared = try PreparedTraining.shared.get()
    shop = try Workshop()
  }

  private func launch(_ name: String, _ settings: [String]) throws -> [String] {
    [
      "launch", "--nproc-per-node", "2", "--max-restarts", "\(Self.kills)", "ltx", "train",
      try prepared.configure(name, steps: steps), "--threads", "1",
    ] + settings.flatMap { ["--set", $0] }
  }

  private func completedSteps(_ name: String) -> Int {
    (FileManager.default.contents(atPath: "\(prepared.path)/\(name)/metrics.jsonl") ?? Data())
      .count { $0 == UInt8(ascii: "\n") }
  }

  /// Whether a file of the run is being written.
  private func isWriting(_ name: String) -> Bool {
    ["", "/checkpoints"].contains { folder in
      let files = try? FileManager.default.contentsOfDirectory(
        atPath: "\(prepared.path)/\(name)\(folder)")
      return files?.contains { $0.hasSuffix(".partial") } ?? false
    }
  }

  /// The processes that a process has started, without the guard of the launcher.
  private func ranks(of launcher: Process) throws -> [pid_t] {
    let id = launcher.processIdentifier
    return try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }
      .filter { other in
        let stat = FileManager.default.contents(atPath: "/proc/\(other)/stat") ?? Data()
        // The number, the name in parentheses, the state, the parent.
        let fields = String(decoding: stat, as: UTF8.self).split(separator: " ")
        return fields.count > 3 && fields[1] == "(ltx)" && fields[3] == "\(id)"
      }.sorted()
  }

  @Test(arguments: ["lora", "sharded"])
  func theResultIsThatOfAnUndisturbedRun(kind: String) throws {
    let settings =
      kind == "lora"
      ? []
      : [
        "model.training_mode=full", "optimization.learning_rate=1e-4",
        "optimization.enable_gradient_checkpointing=true", "acceleration.weight_placement=sharded",
      ]
    let (calm, name) = ("calm-\(kind)", "killed-at-random-\(kind)")
    let whole = try Program.run(launch(calm, settings), in: shop.path)
    try #require(whole.status == 0, "\(whole.errors)")

    let outputs = "\(shop.path)/launcher"
    try FileManager.default.createDirectory(atPath: outputs, withIntermediateDirectories: true)
    let launcher = try Program.start(
      launch(name, settings), in: shop.path, environment: ["LTX_RANK_TIMEOUT": "20"],
      outputs: outputs)
    // The number of restarts that the launcher has announced.
    func restarts() throws -> Int {
      try String(contentsOfFile: "\(outputs)/stderr.txt", encoding: .utf8)
        .components(separatedBy: "starting all ranks again").count - 1
    }
    var generator = SystemRandomNumberGenerator()
    for kill in 0..<Self.kills {
      // A rank that was not killed can complete another step before the launcher ends it.
      while launcher.isRunning, try restarts() < kill { usleep(1000) }
      let before = completedSteps(name)
      while launcher.isRunning, completedSteps(name) <= before { usleep(1000) }
      let ranks = try ranks(of: launcher)
      try #require(launcher.isRunning && ranks.count == 2, "before kill \(kill)")
      var victim = ranks.randomElement(using: &generator) ?? ranks[0]
      var signal = SIGKILL
      if kill % 3 == 2 {
        // The first rank writes the files.
        victim = ranks[0]
        let limit = ContinuousClock.now + .seconds(5)
        while launcher.isRunning, !isWriting(name), ContinuousClock.now < limit {}
        // A rank that is stopped is found by the time limit.
        if kind == "sharded" { signal = SIGSTOP }
      } else {
        usleep(UInt32.random(in: 0..<200_000, using: &generator))
      }
      Foundation.kill(victim, signal)
    }
    launcher.waitUntilExit()
    let errors = try String(contentsOfFile: "\(outputs)/stderr.txt", encoding: .utf8)
    try #require(launcher.terminationStatus == 0, "\(errors)")
    #expect(try restarts() == Self.kills)
    let prefix = kind == "lora" ? "lora" : "model"
    let number = String(format: "%05d", steps)
    let weights = [calm, name].map {
      FileManager.default.contents(
        atPath: "\(prepared.path)/\($0)/checkpoints/\(prefix)_weights_step_\(number).safetensors")
    }
    #expect(weights[0] != nil && weights[0] == weights[1])
  }
}
