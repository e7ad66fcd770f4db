import BlockExecution
import Foundation
import LTX
import TestSupport
import Testing

private let runsAll = ProcessInfo.processInfo.environment["LTX_ALL_PLANS"] == "1"

/// Predicted peaks of full fine-tuning of the published model, divided among GPUs, against those
/// that were counted on pretend GPUs.
///
/// `LTX_ALL_PLANS=1` runs the cases of 48 blocks that `Tests/Fixtures/budgets/sharded-plans.json`
/// lacks, which takes several minutes each, and adds them. A smaller model is counted each time.
@Suite(.serialized) struct ShardedPlanCountTests {
  /// The peaks of a run.
  private struct Counted: Codable {
    let size: String
    /// The memory of each rank at its peak, in 10^9 bytes, in the order of ranks. New peaks are logged
    /// when they are 0.27 higher.
    let peaks: [Double]
  }

  private static let path = "\(Fixtures.root)/budgets/sharded-plans.json"
  private static let cases = [("768x512x121", 8), ("768x512x121", 4), ("1280x704x49", 8)]
  /// The peak is that of the second step, which has the optimizer's state from its beginning.
  private static let steps = 2

  private static func counted() throws -> [Counted] {
    guard let data = FileManager.default.contents(atPath: path) else { return [] }
    return try JSONDecoder().decode([Counted].self, from: data)
  }

  private static func run(_ size: String, blocks: Int = 48) -> PlannedRun {
    PlannedRun(mode: .full, blocks: blocks, size: size, hasAudio: true, card: 141)
  }

  private static func model(blocks: Int = 48) throws -> Workshop {
    let workshop = try Workshop()
    try FullSizeModel.writeCheckpoint(to: workshop.path, blocks: blocks)
    return workshop
  }

  private static func requirePredicted(
    _ peaks: [Double], of run: PlannedRun, in folder: String
  ) throws {
    let machine = MachineResources(
      deviceBytes: .max, hostBytes: 64_000_000_000,
      rates: DeviceRates(upload: 25e9, products: 300e12, launch: 6e-6), readRate: 5e9)
    let costs = try run.sizesAndCosts(in: folder, shards: peaks.count).costs
    let predicted = MemoryPlanner.plan(
      costs, machine, streamed: costs.blocks, placement: .sharded, kept: 0, offloads: false,
      attention: 0
    ).peakBytes
    for peak in peaks {
      #expect(
        abs(Double(predicted) / 1e9 - peak) <= 0.05 * peak,
        "\(run.size) on \(peaks.count): \(predicted) bytes predicted, \(peak) GB counted")
    }
  }

  /// Enough blocks that whole gradients which stay in memory would exceed the prediction.
  @Test func thePeakOfEightBlocksIsThePredictedOne() throws {
    let run = Self.run("512x320x25", blocks: 8)
    let model = try Self.model(blocks: 8)
    try Self.requirePredicted(peaks(of: run, ranks: 2, in: model.path), of: run, in: model.path)
  }

  @Test func predictedPeaksAreTheCountedOnes() throws {
    let counted = try Self.counted()
    #expect(counted.map(\.size) == Self.cases.map(\.0))
    #expect(counted.map(\.peaks.count) == Self.cases.map(\.1))
    let model = try Self.model()
    for row in counted {
      try Self.requirePredicted(row.peaks, of: Self.run(row.size), in: model.path)
    }
  }

  @Test(.enabled(if: runsAll)) func countMissingRuns() throws {
    var rows = try Self.counted()
    let model = try Self.model()
    for (size, ranks) in Self.cases
    where !rows.contains(where: { $0.size == size && $0.peaks.count == ranks }) {
      rows.append(
        Counted(size: size, peaks: try peaks(of: Self.run(size), ranks: ranks, in: model.path)))
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys]
      let lines = try rows.map { String(decoding: try encoder.encode($0), as: UTF8.self) }
      try Data("[\n\(lines.joined(separator: ",\n"))\n]\n".utf8)
        .write(to: URL(fileURLWithPath: Self.path))
    }
  }

  /// Trains until the steps are done, and kills the ranks, so that they write no checkpoint of the
  /// size of the model.
  private func peaks(of run: PlannedRun, ranks: Int, in folder: String) throws -> [Double] {
    let cache = "\(folder)/cache-\(run.size)"
    if !FileManager.default.fileExists(atPath: cache) {
      try FullSizeCache.write(to: cache, size: run.cacheSize, samples: 2 * ranks)
    }
    let config = "\(folder)/run.yaml"
    let text = run.configuration(in: folder)
      .replacing("acceleration: {", with: "acceleration: {weight_placement: sharded, ")
      .replacing("optimization: {", with: "optimization: {enable_gradient_checkpointing: true, ")
    try Data(text.utf8).write(to: URL(fileURLWithPath: config))
    let output = "\(folder)/out"
    for old in [output] + (0..<ranks).map({ "\(folder)/peaks.\($0)" })
    where FileManager.default.fileExists(atPath: old) {
      try FileManager.default.removeItem(atPath: old)
    }
    let command = [
      Program.path, "train", config, "--device", "cuda", "--threads", "1",
    ].joined(separator: " ")
    let environment = try PretendGPU.environment(count: ranks).merging([
      "PRETEND_GPU_NULL": "1", "PRETEND_GPU_BYTES": "\(run.card * 1_000_000_000)",
      "LTX_RANK_TIMEOUT": "1200",
    ]) { $1 }
    let launcher = try Program.start(
      [
        "launch", "--nproc-per-node", "\(ranks)", "sh", "-c",
        "echo $$ > \(folder)/process.$RANK; export PRETEND_GPU_PEAKS=\(folder)/peaks.$RANK; "
          + "exec \(command)",
      ], in: folder, environment: environment)
    while launcher.isRunning, try Self.lines(of: "\(output)/metrics.jsonl").count < Self.steps {
      usleep(100_000)
    }
    for rank in 0..<ranks where launcher.isRunning {
      let process = try Self.lines(of: "\(folder)/process.\(rank)").first.flatMap { pid_t($0) }
      kill(try #require(process), SIGKILL)
    }
    let result = try Program.result(of: launcher, in: folder)
    try #require(
      try Self.lines(of: "\(output)/metrics.jsonl").count >= Self.steps, "\(result.errors)")
    return try (0..<ranks).map { rank in
      // The last line of the log is the highest peak.
      let last = try #require(try Self.lines(of: "\(folder)/peaks.\(rank)").last)
      return try #require(last.split(separator: " ").first.flatMap { Double($0) }, "\(last)")
    }
  }

  private static func lines(of path: String) throws -> [String] {
    guard FileManager.default.fileExists(atPath: path) else { return [] }
    return try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
  }
}
