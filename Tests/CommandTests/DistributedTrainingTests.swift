import Foundation
import TestSupport
import Testing

/// `ltx train` as several processes, some of which fail, hang or differ.
@Suite struct DistributedTrainingTests {
  private let prepared: PreparedTraining
  private let shop: Workshop

  init() throws {
    prepared = try PreparedTraining.shared.get()
    shop = try Workshop()
  }

  /// Starts one of two ranks without a launcher.
  private func start(
    rank: Int, port: Int, _ arguments: [String], outputs: String
  ) throws -> Process {
    try FileManager.default.createDirectory(atPath: outputs, withIntermediateDirectories: true)
    return try Program.start(
      ["train"] + arguments + ["--threads", "1"], in: shop.path,
      environment: [
        "RANK": "\(rank)", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "\(port)",
        "LTX_RANK_TIMEOUT": "10",
      ], outputs: outputs)
  }

  private func errors(_ folder: String) throws -> String {
    try String(contentsOfFile: "\(folder)/stderr.txt", encoding: .utf8)
  }

  private func steps(of run: String) -> Int {
    (FileManager.default.contents(atPath: "\(prepared.path)/\(run)/metrics.jsonl") ?? Data())
      .count { $0 == UInt8(ascii: "\n") }
  }

  @Test func ranksWithOtherSettingsAreRefused() throws {
    let config = try prepared.configure("other-settings", steps: 2)
    let folders = [0, 1].map { "\(shop.path)/rank\($0)" }
    let processes = try [0, 1].map { rank in
      try start(
        rank: rank, port: 29711, [config, "--set", "optimization.learning_rate=\(rank + 1)e-3"],
        outputs: folders[rank])
    }
    for (process, folder) in zip(processes, folders) {
      process.waitUntilExit()
      #expect(process.terminationStatus == 2)
      let text = try errors(folder)
      #expect(text.contains("rank[1]: on ") && text.contains("learning_rate: 0.002"), "\(text)")
      #expect(text.contains("but rank 0 on ") && text.contains("learning_rate: 0.001"), "\(text)")
    }
    #expect(steps(of: "other-settings") == 0)
  }

  /// It joins the other only to say so.
  @Test func aRankWhoseConfigurationIsWrongIsNamedByTheOther() throws {
    let config = try prepared.configure("wrong-settings", steps: 2)
    let folders = [0, 1].map { "\(shop.path)/rank\($0)" }
    let start = Date()
    let processes = try [0, 1].map { rank in
      try self.start(
        rank: rank, port: 29714,
        [config] + (rank == 1 ? ["--set", "optimization.steps=-1"] : []), outputs: folders[rank])
    }
    for (process, folder) in zip(processes, folders) {
      process.waitUntilExit()
      #expect(process.terminationStatus == 2)
      let text = try errors(folder)
      #expect(text.contains("optimization.steps"), "\(text)")
      #expect(text.contains("error: rank 1 on ") == folder.hasSuffix("0"), "\(text)")
    }
    #expect(Date().timeIntervalSince(start) < 60)
  }

  /// A stopped process keeps its connections, so that no collective fails.
  @Test(arguments: [0, 1]) func aRankThatHangsEndsTheOther(hanging: Int) throws {
    let name = "hanging-\(hanging)"
    let config = try prepared.configure(name, steps: 2000)
    let folders = [0, 1].map { "\(shop.path)/rank\($0)" }
    let processes = try [0, 1].map { rank in
      try start(rank: rank, port: 29712 + hanging, [config], outputs: folders[rank])
    }
    while processes[0].isRunning, processes[1].isRunning, steps(of: name) < 3 { usleep(5000) }
    kill(processes[hanging].processIdentifier, SIGSTOP)
    let other = 1 - hanging
    processes[other].waitUntilExit()
    #expect(processes[other].terminationStatus == 1)
    let text = try errors(folders[other])
    #expect(
      text.contains("error: rank \(hanging) on ") && text.contains("is gone or hangs"), "\(text)")
    kill(processes[hanging].processIdentifier, SIGKILL)
    processes[hanging].waitUntilExit()
    // Files are whole: the run resumes.
    let resumed = try Program.run(
      ["launch", "--nproc-per-node", "2", "ltx", "train", config, "--dry-run"], in: shop.path)
    #expect(resumed.status == 0, "\(resumed.errors)")
  }

  @Test func aRunWhoseRanksAreKilledIsRestartedAndEndsWithTheSameWeights() throws {
    func config(_ name: String) throws -> String {
      try prepared.configure(
        name, steps: 12, "seed: 5", batch: 1
      )
    }
    func launch(_ arguments: [String]) -> [String] {
      ["launch", "--nproc-per-node", "2"] + arguments
    }
    let whole = try Program.run(
      launch(["ltx", "train", config("undisturbed"), "--threads", "1"]), in: shop.path)
    #expect(whole.status == 0, "\(whole.errors)")
    // A rank kills itself in the first two attempts, once it has written some steps.
    let killed = try config("killed-and-restarted")
    let script = """
      if [ $RANK = 1 ] && [ $TORCHELASTIC_RESTART_COUNT -lt 2 ]; then
        "$0" train "$1" --threads 1 & id=$!
        want=$((4 + 4 * TORCHELASTIC_RESTART_COUNT))
        while [ "$(cat "$2" 2>/dev/null | wc -l)" -lt $want ] && kill -0 $id; do sleep 0.01; done
        kill -9 $id; wait $id; exit 9
      fi
      exec "$0" train "$1" --threads 1
      """
    let restarted = try Program.run(
      launch([
        "--max-restarts", "3", "sh", "-c", script, Program.path, killed,
        "\(prepared.path)/killed-and-restarted/metrics.jsonl",
      ]), in: shop.path, environment: ["LTX_RANK_TIMEOUT": "20"])
    #expect(restarted.status == 0, "\(restarted.errors)")
    #expect(restarted.errors.contains("(restart 2 of 3)"), "\(restarted.errors)")
    let file = "checkpoints/lora_weights_step_00012.safetensors"
    let weights = ["undisturbed", "killed-and-restarted"].map {
      FileManager.default.contents(atPath: "\(prepared.path)/\($0)/\(file)")
    }
    #expect(weights[0] != nil && weights[0] == weights[1])
  }
}
