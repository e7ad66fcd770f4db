import BlockExecution
import Foundation
import LTX
import TestSupport
import Testing

private let runsAll = ProcessInfo.processInfo.environment["LTX_ALL_PLANS"] == "1"

/// Predicted peaks of training against those that were counted on the pretend GPU, for four clip
/// sizes on six cards.
///
/// `LTX_ALL_PLANS=1` runs the cases that `Tests/Fixtures/budgets/plans.json` lacks, which takes a
/// minute each, and adds them.
@Suite(.serialized) struct PlanCountTests {
  private static let tolerance = 0.05

  /// Models of 4 and of 48 blocks.
  private final class Models: Sendable {
    static let shared = Result { try Models() }
    private let workshops: [Int: Workshop]

    init() throws {
      workshops = try Dictionary(
        uniqueKeysWithValues: [4, 48].map { blocks in
          let workshop = try Workshop()
          try FullSizeModel.writeCheckpoint(to: workshop.path, blocks: blocks)
          return (blocks, workshop)
        })
    }

    func folder(_ run: PlannedRun) throws -> String { try #require(workshops[run.blocks]).path }
  }

  /// Rates of a fast card, at which plans are made; memory does not depend on them.
  private static let machine = MachineResources(
    deviceBytes: .max, hostBytes: .max,
    rates: DeviceRates(upload: 25e9, products: 300e12, launch: 6e-6), readRate: 5e9)

  @Test func predictedPeaksAreTheCountedOnes() throws {
    let counted = try CountedRun.all()
    #expect(Set(counted.map(\.run)) == Set(PlannedRun.all), "plans.json lacks runs")
    let models = try Models.shared.get()
    var costs: [PlannedRun: StackCosts] = [:]
    for row in counted {
      var key = row.run
      key.card = 0
      let own = try costs[key] ?? key.costs(in: models.folder(row.run))
      costs[key] = own
      guard let plan = row.plan, let peak = row.peakBytes else {
        // The smallest plan takes more than the card has.
        let smallest = try #require(MemoryPlanner.plan(own, on: Self.machine.with(bytes: 0))).plan
        #expect(Double(smallest.peakBytes) > Double(row.run.card) * 1e9 / 1.05, "\(row.run)")
        continue
      }
      let predicted = MemoryPlanner.plan(
        own, Self.machine, streamed: plan.streamed,
        placement: plan.streamed == 0 ? .resident : .file,
        kept: plan.kept, offloads: plan.offloadsInputs, attention: plan.attention
      ).peakBytes
      #expect(
        Double(abs(predicted - peak)) <= Self.tolerance * Double(peak),
        "\(row.run): \(predicted) predicted, \(peak) counted")
      #expect(peak <= row.run.card * 1_000_000_000, "\(row.run)")
    }
  }

  @Test(.enabled(if: runsAll)) func countMissingRuns() throws {
    var rows = try CountedRun.all()
    let models = try Models.shared.get()
    for run in PlannedRun.all where !rows.contains(where: { $0.run == run }) {
      rows.append(try count(run, in: models.folder(run)))
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys]
      let lines = try rows.map { String(decoding: try encoder.encode($0), as: UTF8.self) }
      try Data("[\n\(lines.joined(separator: ",\n"))\n]\n".utf8)
        .write(to: URL(fileURLWithPath: CountedRun.path))
    }
  }

  private func count(_ run: PlannedRun, in folder: String) throws -> CountedRun {
    let cache = "\(folder)/cache-\(run.size)"
    if !FileManager.default.fileExists(atPath: cache) {
      try FullSizeCache.write(to: cache, size: run.cacheSize, samples: 2)
    }
    let config = "\(folder)/run.yaml"
    try Data(run.configuration(in: folder).utf8).write(to: URL(fileURLWithPath: config))
    try? FileManager.default.removeItem(atPath: "\(folder)/out")
    let (result, report) = try PretendGPU.run(
      ["train", config, "--device", "cuda", "--overwrite"], in: folder,
      bytes: run.card * 1_000_000_000, environment: ["PRETEND_GPU_NULL": "1"]
    ) {
      // The first step begins once this file is written, and the run ends after it.
      FileManager.default.fileExists(atPath: "\(folder)/out/training_config.yaml")
    }
    if result.status == 2, result.errors.contains("acceleration.memory does not suffice") {
      return CountedRun(run: run, plan: nil, peakBytes: nil)
    }
    try #require(result.status == 130, "\(run): \(result.errors)")
    let line = try #require(
      (result.output + result.errors).split(separator: "\n").first { $0.hasPrefix("  training ") })
    let plan = try #require(CountedRun.Plan(line: String(line), blocks: run.blocks))
    return CountedRun(run: run, plan: plan, peakBytes: report.devices.map(\.peakBytes).max())
  }
}

extension MachineResources {
  fileprivate func with(bytes: Int) -> MachineResources {
    var copy = self
    copy.deviceBytes = bytes
    return copy
  }
}
