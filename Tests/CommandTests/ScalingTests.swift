import BlockExecution
import Foundation
import LTX
import TestSupport
import Testing

/// The tables of docs/scaling.md are those that its formulas give for the shapes of LTX-2.3.
/// `LTX_UPDATE_BUDGETS=1` writes their lines.
@Suite(.serialized) struct ScalingTests {
  private static let sizes = ["768x512x121", "512x320x25"]

  /// A model at its published size, as headers only.
  private final class Model: Sendable {
    static let shared = Result { try Model() }
    let workshop: Workshop

    init() throws {
      workshop = try Workshop()
      try FullSizeModel.writeCheckpoint(to: workshop.path, blocks: 48)
    }
  }

  private static let machine = MachineResources(
    deviceBytes: ScalingModel.Rates.memoryBytes, hostBytes: 0,
    rates: DeviceRates(
      upload: 25e9, products: 2 * ScalingModel.Rates.products, launch: 6e-6),
    readRate: .infinity)

  private struct Case {
    var model: ScalingModel
    /// The peak of a GPU's memory.
    var peakBytes: Int
    var fits: Bool { peakBytes <= ScalingModel.Rates.memoryBytes }
  }

  /// LoRAs keep as many activations as fit.
  private func lora(_ size: String) throws -> Case {
    let run = PlannedRun(mode: .lora, size: size, hasAudio: true, card: 80)
    let (sizes, costs) = try run.sizesAndCosts(in: Model.shared.get().workshop.path)
    let plan = try #require(
      MemoryPlanner.plan(costs, on: Self.machine, where: { $0.streamedBlocks == 0 })
    ).plan
    let blocks = Double(costs.blocks)
    let forward = costs.forwardOperations / ScalingModel.Rates.products
    return Case(
      model: ScalingModel(
        plan: .replicated, blocks: costs.blocks, forward: forward,
        backward: plan.seconds / blocks - forward, gatheredBytes: 0,
        gradientBytes: Double(costs.gradientBytes) / blocks,
        endBytes: Double(sizes.trainedBytes - costs.gradientBytes)),
      peakBytes: plan.peakBytes)
  }

  /// Full fine-tuning recomputes all blocks, and its backward pass computes the gradients of weights
  /// too, with as many operations as the forward pass.
  private func full(_ size: String, _ plan: ScalingModel.Plan, ranks: Int) throws -> Case {
    let run = PlannedRun(mode: .full, size: size, hasAudio: true, card: 80)
    let folder = try Model.shared.get().workshop.path
    let (sizes, whole) = try run.sizesAndCosts(in: folder)
    let shards = plan == .sharded ? ranks : min(ranks, ScalingModel.Rates.gpus)
    let costs = try run.sizesAndCosts(in: folder, shards: shards).costs
    let planned = MemoryPlanner.plan(
      costs, Self.machine, streamed: costs.blocks, placement: .sharded, kept: 0, offloads: false,
      attention: 0)
    let forward = costs.forwardOperations / ScalingModel.Rates.products
    let gradients = Double(whole.gradientBytes) / Double(costs.blocks)
    return Case(
      model: ScalingModel(
        plan: plan, blocks: costs.blocks, forward: forward,
        backward: forward * (1 + costs.backwardFactor + 1), gatheredBytes: gradients / 2,
        gradientBytes: gradients, endBytes: Double(sizes.trainedBytes - whole.gradientBytes)),
      peakBytes: planned.peakBytes)
  }

  private func cells(_ found: Case, ranks: Int) -> String {
    let step = found.model.step(ranks: ranks)
    let values = [
      String(format: "%.2f s", step.seconds), String(format: "%.0f ms", step.exposed * 1e3),
      String(format: "%.1f", Double(ranks) / step.seconds),
      String(format: "%.0f %%", 100 * step.compute / step.seconds),
      String(format: "%.1f GB", step.sentBytes / 1e9),
      found.fits ? String(format: "%.0f GB", Double(found.peakBytes) / 1e9) : "does not fit",
    ]
    return values.joined(separator: " | ")
  }

  @Test func documentedTimesAreThePredictedOnes() throws {
    var lines: [(start: String, rest: String)] = []
    for size in Self.sizes {
      let lora = try lora(size)
      for ranks in [1, 8, 64, 512] {
        lines.append(("| \(size) | LoRA | \(ranks) |", cells(lora, ranks: ranks)))
      }
      for (plan, name, counts) in [
        (ScalingModel.Plan.sharded, "full, sharded", [4, 8, 64, 512]),
        (.hybrid, "full, hybrid", [64, 512]),
      ] {
        for ranks in counts {
          lines.append(
            (
              "| \(size) | \(name) | \(ranks) |",
              cells(try full(size, plan, ranks: ranks), ranks: ranks)
            ))
        }
      }
    }
    let small = try lora(Self.sizes[1]).model
    lines.append(
      (
        "| gradients of a LoRA of rank 32 on all linear layers of the blocks, float32 |",
        String(
          format: "%.3f GB a step, %.1f MB a block",
          (small.gradientBytes * Double(small.blocks) + small.endBytes) / 1e9,
          small.gradientBytes / 1e6)
      ))
    let large = try full(Self.sizes[0], .sharded, ranks: 8).model
    lines.append(
      (
        "| weights of the blocks, gathered twice in bfloat16 |",
        String(
          format: "%.1f GB each time, %.0f MB a block",
          large.gatheredBytes * Double(large.blocks) / 1e9, large.gatheredBytes / 1e6)
      ))
    lines.append(
      (
        "| their gradients, float32 |",
        String(
          format: "%.1f GB a step, %.0f MB a block",
          large.gradientBytes * Double(large.blocks) / 1e9, large.gradientBytes / 1e6)
      ))
    let path = "\(Fixtures.root)/../../docs/scaling.md"
    var text = try String(contentsOfFile: path, encoding: .utf8).components(separatedBy: "\n")
    for (start, rest) in lines {
      let place = try #require(
        text.firstIndex { $0.hasPrefix(start) }, "docs/scaling.md lacks \(start)")
      let line = "\(start) \(rest) |"
      if ProcessInfo.processInfo.environment["LTX_UPDATE_BUDGETS"] == "1" {
        text[place] = line
      } else {
        #expect(text[place] == line)
      }
    }
    if ProcessInfo.processInfo.environment["LTX_UPDATE_BUDGETS"] == "1" {
      try Data(text.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: path))
    }
  }

  /// Communication that takes longer than computing decides the time, and otherwise only the
  /// exchanges at both ends of a pass are added.
  @Test func exposedTimesFollowFromTheSchedule() {
    var model = ScalingModel(
      plan: .replicated, blocks: 10, forward: 1, backward: 2, gatheredBytes: 0,
      gradientBytes: 450e9 * 8 / 7 / 2, endBytes: 0)
    // A sum takes 1 s: nine of ten are hidden.
    #expect(abs(model.step(ranks: 8).exposed - 1) < 1e-3)
    model.gradientBytes *= 4
    // A sum takes 4 s: the last block's gradients are there after 2 s, and ten sums follow.
    #expect(abs(model.step(ranks: 8).exposed - (2 + 40 - 20)) < 1e-3)
    model.plan = .sharded
    model.gradientBytes = 450e9 * 8 / 7
    model.gatheredBytes = 450e9 * 8 / 7 / 2
    // Gathering takes 0.5 s and scattering 1 s: both passes wait for their first block.
    #expect(abs(model.step(ranks: 8).exposed - (0.5 + 0.5 + 1)) < 1e-3)
    #expect(model.step(ranks: 1).exposed == 0)
  }
}
