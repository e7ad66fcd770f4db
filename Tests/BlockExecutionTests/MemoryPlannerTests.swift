import BlockExecution
import Testing

/// The choice of plans. A block has 10 bytes of weights, keeps 8, has an input of 2 and needs 4 to
/// run; all times are in seconds.
@Suite struct MemoryPlannerTests {
  /// Blocks reach half of the rate of products: 100 operations per second.
  private func machine(
    _ bytes: Int, host: Int = 1000, upload: Double = 100, read: Double = 100, launch: Double = 0
  ) -> MachineResources {
    MachineResources(
      deviceBytes: bytes, hostBytes: host,
      rates: DeviceRates(upload: upload, products: 200, launch: launch), readRate: read)
  }

  private func costs(backward: Double = 1, gradients: Int = 0) -> StackCosts {
    StackCosts(
      blocks: 4, weightBytes: 10, keptBytes: 8, inputBytes: 2, workBytes: 4,
      gradientBytes: gradients, fixedBytes: 5, forwardOperations: 100, backwardFactor: backward)
  }

  private func plan(
    _ bytes: Int, host: Int = 1000, upload: Double = 100, read: Double = 100,
    where allows: (PlannedExecution) -> Bool = { _ in true }
  ) throws -> (plan: PlannedExecution, fits: Bool) {
    let machine = machine(bytes, host: host, upload: upload, read: read)
    let result = MemoryPlanner.plan(costs(), on: machine, where: allows)
    return try #require(result)
  }

  @Test func everythingIsKeptWhereItFits() throws {
    let (plan, fits) = try plan(81)
    #expect(fits && plan.keptBlocks == 4 && plan.streamedBlocks == 0 && !plan.offloadsInputs)
    // 5 fixed, 40 of weights, 4 x 8 kept, 4 to run.
    #expect(plan.peakBytes == 81)
    // Forward and backward of four blocks.
    #expect(plan.seconds == 8)
  }

  @Test func lessMemoryRecomputesBeforeItStreams() throws {
    let (plan, fits) = try plan(80)
    // One recomputed block takes no more than a kept one, plus its input.
    #expect(fits && plan.keptBlocks == 3 && plan.streamedBlocks == 0)
    #expect(plan.peakBytes == 75 && plan.seconds == 9)
  }

  /// Uploads of 10 bytes take a tenth of a second, and are hidden by blocks of a second.
  @Test func streamingIsFreeWhereBlocksHideIt() throws {
    let (plan, fits) = try plan(50)
    #expect(fits && plan.streamedBlocks > 0 && plan.placement == .host)
    #expect(plan.peakBytes <= 50)
    // A slow bus makes the step slower than its blocks.
    let (slow, _) = try self.plan(50, upload: 5)
    #expect(slow.seconds > plan.seconds && slow.peakBytes <= 50)
  }

  @Test func weightsStayInTheFileIfTheHostHasNoRoom() throws {
    #expect(try plan(45, host: 0).plan.placement == .file)
    #expect(try plan(45, host: 1000).plan.placement == .host)
  }

  @Test func theSmallestPlanIsNamedIfNoneFits() throws {
    let (plan, fits) = try plan(10)
    // 5 fixed, two buffers of 10, 8 of the block that is rebuilt, two inputs on their way, 4 to run.
    #expect(!fits && plan.peakBytes == 41)
    #expect(plan.streamedBlocks >= 2 && plan.keptBlocks <= 1 && plan.offloadsInputs)
  }

  @Test func settingsExcludePlans() throws {
    let (plan, fits) = try plan(81) { $0.keptBlocks == 0 && $0.streamedBlocks == 4 }
    #expect(fits && plan.keptBlocks == 0 && plan.streamedBlocks == 4)
    #expect(MemoryPlanner.plan(costs(), on: machine(81), where: { _ in false }) == nil)
  }

  /// At the end of the backward pass, gradients have taken the place of activations.
  @Test func gradientsCountWhenTheyAreComplete() throws {
    let found = MemoryPlanner.plan(costs(gradients: 100), on: machine(1000)) {
      $0.streamedBlocks == 0
    }
    let (plan, _) = try #require(found)
    #expect(plan.peakBytes == 5 + 40 + 4 + 8 + 100)
  }

  @Test func passesWithoutABackwardPassKeepNothing() throws {
    var inference = costs(backward: 0)
    (inference.keptBytes, inference.inputBytes) = (0, 0)
    let (plan, fits) = try #require(MemoryPlanner.plan(inference, on: machine(30)))
    #expect(fits && plan.keptBlocks == 0 && !plan.offloadsInputs)
    // 5 fixed, two buffers of 10, 4 to run.
    #expect(plan.streamedBlocks >= 3 && plan.peakBytes == 29)
  }

  /// A block whose self-attention is kept takes 1 byte more and saves 40 of 100 operations.
  @Test func attentionIsKeptWhereItFits() throws {
    var costs = costs()
    (costs.attentionBytes, costs.attentionOperations) = (1, 40)
    func plan(_ bytes: Int) throws -> PlannedExecution {
      let found = MemoryPlanner.plan(costs, on: machine(bytes)) {
        $0.keptBlocks == 0 && $0.streamedBlocks == 0
      }
      return try #require(found).plan
    }
    // 5 fixed, 40 of weights, 8 of the block that is rebuilt, 4 inputs of 2, 4 to run.
    let (none, some, all) = (try plan(65), try plan(67), try plan(100))
    #expect(none.attentionBlocks == 0 && none.peakBytes == 65 && none.seconds == 12)
    #expect(some.attentionBlocks == 2 && some.peakBytes == 67 && abs(some.seconds - 11.2) < 1e-9)
    #expect(all.attentionBlocks == 4 && all.peakBytes == 69 && abs(all.seconds - 10.4) < 1e-9)
  }

  /// A host that queues slowly decides the time of small blocks.
  @Test func launchesTakeTime() throws {
    let found = MemoryPlanner.plan(costs(), on: machine(1000, launch: 0.02)) { $0.keptBlocks == 4 }
    // Forward and backward of four blocks with 250 launches each.
    #expect(try abs(#require(found).plan.seconds - 40) < 1e-9)
  }
}
