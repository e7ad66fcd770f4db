import Foundation
import TestSupport
import Testing

/// Several processes with a pretend GPU each.
@Suite struct DistributedGPUTests {
  private func losses(_ run: String, _ prepared: PreparedTraining) throws -> [Double] {
    struct Step: Decodable { let loss: Double }
    return try String(contentsOfFile: "\(prepared.path)/\(run)/metrics.jsonl", encoding: .utf8)
      .split(separator: "\n").map { try JSONDecoder().decode(Step.self, from: Data($0.utf8)).loss }
  }

  /// Copies between GPUs and the host happen as late as allowed, so that a missing order of streams
  /// changes the numbers.
  @Test func twoGPUsTrainLikeTwoProcessesOnTheCPU() throws {
    let prepared = try PreparedTraining.shared.get()
    func train(_ name: String, gpus: Bool, _ settings: [String] = []) throws -> [Double] {
      let config = try prepared.configure(name, steps: 3)
      let command =
        [
          "launch", "--nproc-per-node", gpus ? "gpu" : "2", "ltx", "train", config, "--threads",
          "1",
        ]
        + (gpus ? ["--device", "cuda"] : [])
        + (settings + ["optimization.enable_gradient_checkpointing=true"]).flatMap {
          ["--set", $0]
        }
      let result = try Program.run(
        command, in: prepared.path, environment: gpus ? PretendGPU.environment(count: 2) : [:])
      try #require(result.status == 0, "\(result.errors)")
      return try losses(name, prepared)
    }
    let cpu = try train("two-cpus", gpus: false)
    let gpu = try train("two-gpus", gpus: true, ["acceleration.weight_placement=resident"])
    #expect(cpu.count == 3 && gpu.count == 3)
    for (a, b) in zip(cpu, gpu) { #expect(abs(a / b - 1) <= 1e-5) }
    let sharded = try train("two-shards", gpus: true, ["acceleration.weight_placement=sharded"])
    #expect(sharded == gpu)

    let full = ["model.training_mode=full", "optimization.learning_rate=1e-4"]
    let whole = try train(
      "two-full", gpus: true, full + ["acceleration.weight_placement=resident"])
    let divided = try train(
      "two-full-shards", gpus: true, full + ["acceleration.weight_placement=sharded"])
    #expect(whole.count == 3 && divided.count == 3)
    for (a, b) in zip(whole, divided) { #expect(abs(a / b - 1) <= 1e-5) }
  }

  @Test func processesAndGPUsMustFit() throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("no-gpu-left", steps: 1)
    func errors(_ processes: Int, _ device: String) throws -> String {
      let result = try Program.run(
        [
          "launch", "--nproc-per-node", "\(processes)", "ltx", "train", config, "--device", device,
        ], in: prepared.path, environment: PretendGPU.environment(count: 2))
      #expect(result.status == 2)
      return result.errors
    }
    let third = try errors(3, "cuda")
    #expect(third.contains("--device: has no GPU for process 2 of this machine"), "\(third)")
    let same = try errors(2, "cuda:1")
    #expect(same.contains("is cuda:1, one GPU for all 2 processes"), "\(same)")
  }
}
