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

  /// Rates of a fast card, and a host that holds all weights.
  private static let machine = MachineResources(
    deviceBytes: .max, hostBytes: 64_000_000_000,
    rates: DeviceRates(upload: 25e9, products: 300e12, launch: 6e-6), readRate: 5e9)

  @Test func predictedPeaksAreTheCountedOnes() throws {
    let counted = try CountedRun.all()
    // Both modes, all sizes and all cards are among them.
    #expect(Set(counted.map(\.run)).isSubset(of: PlannedRun.all))
    #expect(Set(counted.map(\.run.mode)) == [.lora, .full])
    #expect(Set(counted.map(\.run.size)).count == FullSizeCache.Size.all.count)
    #expect(Set(counted.map(\.run.card)) == Set(PlannedRun.cards))
    let models = try Models.shared.get()
    var costs: [PlannedRun: StackCosts] = [:]
    for row in counted {
      var key = row.run
      key.card = 1
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

  /// Four blocks of LTX-2.5, on a card that holds everything and on one that doesn't.
  @Test(arguments: [6, 16]) func predictedPeaksOfLTX25AreTheCountedOnes(card: Int) throws {
    let workshop = try Workshop()
    try FullSizeModel.writeCheckpoint(to: workshop.path, generation: .ltx25, blocks: 4)
    let run = PlannedRun(
      mode: .lora, blocks: 4, size: FullSizeCache.Size.small.name, hasAudio: true, card: card)
    let counted = try count(run, in: workshop.path)
    let plan = try #require(counted.plan)
    let peak = try #require(counted.peakBytes)
    #expect((plan.kept == run.blocks) == (card == 16), "\(plan)")
    let predicted = MemoryPlanner.plan(
      try run.costs(in: workshop.path), Self.machine, streamed: plan.streamed,
      placement: plan.streamed == 0 ? .resident : .file, kept: plan.kept,
      offloads: plan.offloadsInputs, attention: plan.attention
    ).peakBytes
    #expect(
      Double(abs(predicted - peak)) <= Self.tolerance * Double(peak),
      "\(plan): \(predicted) predicted, \(peak) counted")
  }

  @Test func fullFineTuningOfThePublishedModelFitsOnNoCard() throws {
    let run = PlannedRun(mode: .full, size: "512x320x25", hasAudio: false, card: 141)
    let costs = try run.costs(in: Models.shared.get().folder(run))
    let smallest = try #require(MemoryPlanner.plan(costs, on: Self.machine.with(bytes: 0))).plan
    #expect(smallest.peakBytes > 141_000_000_000)
  }

  /// The tables of README.md and docs/benchmarks.md have what is predicted now.
  /// `LTX_UPDATE_BUDGETS=1` writes their lines.
  @Test func documentedPlansAreThePredictedOnes() throws {
    let models = try Models.shared.get()
    var lines: [(start: String, rest: String)] = []
    for size in FullSizeCache.Size.all {
      for hasAudio in [true, false] {
        let run = PlannedRun(mode: .lora, size: size.name, hasAudio: hasAudio, card: 1)
        let costs = try run.costs(in: models.folder(run))
        let plans = PlannedRun.cards.compactMap { card in
          MemoryPlanner.plan(
            costs, on: Self.machine.with(bytes: Int(Double(card) * 1e9 / 1.05)))
        }
        try #require(plans.count == PlannedRun.cards.count)
        let cells = plans.map { $0.fits ? Self.cell($0.plan, of: costs.blocks) : "does not fit" }
        lines.append(
          (
            "| \(size.name), \(hasAudio ? "video and audio" : "video") |",
            cells.joined(separator: " | ")
          ))
        if hasAudio, size.name == FullSizeCache.Size.small.name {
          let peaks = plans.map { Self.rounded(Double($0.plan.peakBytes) / 1e9) }
          let times = plans.map { Self.rounded($0.plan.seconds) }
          let text = [peaks, times].map { $0.joined(separator: "; ") }
          lines.append(
            (
              "| LoRA, rank 32, bfloat16, on a card of 16; 24; 32; 48; 80; 141 GB |",
              "\(text[0]) GB, \(text[1]) s per step | up to 38 GB | predicted"
            ))
        }
      }
    }
    for (start, rest) in lines {
      let name = start.hasPrefix("| LoRA") ? "README.md" : "docs/benchmarks.md"
      let path = "\(Fixtures.root)/../../\(name)"
      var text = try String(contentsOfFile: path, encoding: .utf8).components(separatedBy: "\n")
      let place = try #require(text.firstIndex { $0.hasPrefix(start) }, "\(name) lacks \(start)")
      let line = "\(start) \(rest) |"
      if ProcessInfo.processInfo.environment["LTX_UPDATE_BUDGETS"] == "1" {
        text[place] = line
        try Data(text.joined(separator: "\n").utf8).write(to: URL(fileURLWithPath: path))
      } else {
        #expect(text[place] == line, "\(name)")
      }
    }
  }

  private static func cell(_ plan: PlannedExecution, of blocks: Int) -> String {
    let parts = [
      (plan.keptBlocks, "kept"), (plan.attentionBlocks, "with attention kept"),
      (plan.streamedBlocks, "streamed"),
    ].filter { $0.0 > 0 }.map { "\($0.0 == blocks ? "all" : "\($0.0)") \($0.1)" }
    let text = parts.isEmpty ? "all recomputed" : parts.joined(separator: ", ")
    return "\(rounded(Double(plan.peakBytes) / 1e9)) GB, \(rounded(plan.seconds)) s: \(text)"
  }

  private static func rounded(_ number: Double) -> String { String(format: "%.1f", number) }

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
