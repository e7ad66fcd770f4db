import Foundation
import TestSupport
import Testing

/// A rank that is lost in a chosen phase of a step: the launcher starts all ranks again, and the
/// result is that of an undisturbed run. `RandomKillTests` adds kills while files are written.
@Suite struct LostRankTests {
  /// An operation of the pretend GPU that marks a phase. Recomputing calls attention again in the
  /// backward pass, but the first call of a step is in its forward pass.
  enum Phase: String, CaseIterable, Sendable {
    case forward = "aten::_scaled_dot_product_efficient_attention"
    case backward = "aten::_scaled_dot_product_efficient_attention_backward"
    case gatherWeights = "nccl::all_gather"
    case scatterGradients = "nccl::reduce_scatter"
    case reduceGradients = "nccl::all_reduce"
  }

  private static let settings = [
    "model.training_mode=full", "optimization.learning_rate=1e-4",
    "optimization.enable_gradient_checkpointing=true", "acceleration.weight_placement=sharded",
  ]
  private static let steps = 6

  private let prepared: PreparedTraining

  init() throws { prepared = try PreparedTraining.shared.get() }

  private func arguments(_ name: String) throws -> [String] {
    [try prepared.configure(name, steps: Self.steps)]
      + Self.settings.flatMap { ["--set", $0] }
  }

  private func weights(_ name: String) throws -> Data {
    let number = String(format: "%05d", Self.steps)
    return try Data(
      contentsOf: URL(
        fileURLWithPath:
          "\(prepared.path)/\(name)/checkpoints/model_weights_step_\(number).safetensors"))
  }

  @Test func theResultIsThatOfAnUndisturbedRun() throws {
    let calm = try PretendGPU.train(arguments("no-rank-lost"), gpus: 2, in: prepared.path)
    try #require(calm.result.status == 0, "\(calm.result.errors)")
    let expected = try weights("no-rank-lost")
    // A rank that is stopped keeps its connections, which only the other's time limit ends.
    let faults = [SIGKILL, SIGSTOP].flatMap { signal in Phase.allCases.map { (signal, $0) } }
    for (signal, phase) in faults {
      let counts = calm.reports.map { report in report.operations[phase.rawValue]?[0] ?? 0 }
      let calls = counts.min() ?? 0
      // The first call of the run's second half, in the fourth step.
      try #require(calls >= 2 * Self.steps, "\(phase): \(calls) calls")
      let script = """
        if [ $RANK = 1 ] && [ $TORCHELASTIC_RESTART_COUNT = 0 ]; then
          export PRETEND_GPU_FAULT="\(signal) \(phase.rawValue) \(calls / 2 + 1)"
        fi
        exec "$0" train "$@" --device cuda --threads 1
        """
      let name = "lost-in-\(phase)-\(signal)"
      let result = try Program.run(
        [
          "launch", "--nproc-per-node", "2", "--max-restarts", "1", "sh", "-c", script,
          Program.path,
        ] + arguments(name),
        in: prepared.path,
        environment: PretendGPU.environment(count: 2).merging(["LTX_RANK_TIMEOUT": "10"]) { $1 })
      #expect(result.status == 0, "\(name): \(result.errors)")
      #expect(result.errors.contains("(restart 1 of 1)"), "\(name): \(result.errors)")
      #expect(try weights(name) == expected, "\(name)")
    }
  }
}
