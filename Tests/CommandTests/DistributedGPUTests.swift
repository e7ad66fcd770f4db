import Foundation
import TestSupport
import Testing

/// Several processes with a pretend GPU each.
@Suite struct DistributedGPUTests {
  private let prepared: PreparedTraining

  init() throws {
    prepared = try PreparedTraining.shared.get()
  }

  /// A finished run.
  private struct Run {
    let losses: [Double]
    /// The file of the trained weights, float32.
    let weights: TensorBytes
    let reports: [PretendGPU.Report]
    let errors: String

    /// The calls of a collective between GPUs by each rank, and the bytes of its tensors.
    func collective(_ name: String) -> [[Int]] {
      reports.map { $0.operations["nccl::\(name)"] ?? [0, 0] }
    }
  }

  /// The elements in a safetensors file, without the header.
  private struct TensorBytes: Equatable {
    let floats: [Float]
    var byteCount: Int { floats.count * 4 }

    init(path: String) throws {
      let data = try Data(contentsOf: URL(fileURLWithPath: path))
      let header = data.prefix(8).enumerated().reduce(0) { $0 + Int($1.element) << (8 * $1.offset) }
      floats = Array(data.dropFirst(8 + header)).withUnsafeBytes {
        Array($0.bindMemory(to: Float.self))
      }
    }

    /// The norm of the difference, relative to that of the other elements.
    func distance(to other: TensorBytes) -> Float {
      guard floats.count == other.floats.count else { return .infinity }
      func norm(_ values: some Sequence<Float>) -> Float {
        values.reduce(0) { $0 + $1 * $1 }.squareRoot()
      }
      return norm(zip(floats, other.floats).lazy.map { $0 - $1 }) / norm(other.floats)
    }
  }

  /// Trains with a pretend GPU for each process. Copies between GPUs and the host happen as late as
  /// allowed, so that a missing order of streams changes the numbers.
  private func train(
    _ name: String, gpus: Int, steps: Int = 3, accumulation: Int = 1, _ settings: [String] = [],
    environment: [String: String] = [:]
  ) throws -> Run {
    let config = try prepared.configure(name, steps: steps, accumulation: accumulation)
    let (result, reports) = try PretendGPU.train(
      [config]
        + (settings + ["optimization.enable_gradient_checkpointing=true"]).flatMap {
          ["--set", $0]
        },
      gpus: gpus, in: prepared.path, environment: environment)
    try #require(result.status == 0, "\(result.errors)")
    struct Step: Decodable { let loss: Double }
    let losses = try String(
      contentsOfFile: "\(prepared.path)/\(name)/metrics.jsonl", encoding: .utf8
    )
    .split(separator: "\n").map { try JSONDecoder().decode(Step.self, from: Data($0.utf8)).loss }
    let folder = "\(prepared.path)/\(name)/checkpoints"
    let file = try #require(
      try FileManager.default.contentsOfDirectory(atPath: folder).first {
        $0.hasSuffix(String(format: "_weights_step_%05d.safetensors", steps))
      })
    try #require(losses.count == steps && reports.count == gpus)
    return Run(
      losses: losses, weights: try TensorBytes(path: "\(folder)/\(file)"), reports: reports,
      errors: result.errors)
  }

  private func areClose(_ a: Run, _ b: Run) -> Bool {
    zip(a.losses, b.losses).allSatisfy { abs($0 / $1 - 1) <= 1e-5 }
  }

  private static let resident = "acceleration.weight_placement=resident"
  private static let sharded = "acceleration.weight_placement=sharded"
  private static let gloo = ["LTX_COLLECTIVES": "gloo"]

  @Test(arguments: [2, 4]) func gradientsTravelBetweenGPUsWithoutTheHost(gpus: Int) throws {
    let steps = 3
    let direct = try train("direct-\(gpus)", gpus: gpus, steps: steps, [Self.resident])
    let throughHost = try train(
      "through-host-\(gpus)", gpus: gpus, steps: steps, [Self.resident], environment: Self.gloo)
    let one = try train(
      "one-of-\(gpus)", gpus: 1, steps: steps, accumulation: gpus, [Self.resident])
    #expect(!direct.errors.contains("through host memory"), "\(direct.errors)")

    #expect(direct.losses == throughHost.losses)
    #expect(direct.weights == throughHost.weights)
    #expect(areClose(direct, one))
    // AdamW divides gradients by their size, so that the rounding of small ones counts.
    #expect(direct.weights.distance(to: one.weights) <= 1e-5)

    // Each gradient is sent once per step, and not a byte more than a ring needs.
    let bytes = steps * direct.weights.byteCount
    for report in direct.reports {
      #expect(report.operations["nccl::all_reduce"]?[1] == bytes)
      #expect(report.sentBytes == 2 * bytes * (gpus - 1) / gpus)
    }
    // One message for each block and one for the rest.
    let calls = direct.collective("all_reduce").map { $0[0] }
    #expect(calls.allSatisfy { $0 == calls[0] && $0 > 0 && $0 <= steps * 5 }, "\(calls)")
    #expect(throughHost.collective("all_reduce").allSatisfy { $0 == [0, 0] })
    func total(_ run: Run, _ count: (PretendGPU.Report) -> Int) -> Int {
      run.reports.reduce(0) { $0 + count($1) }
    }
    for count in [\PretendGPU.Report.downloadedBytes, \.pinnedBytes] {
      let more = total(throughHost) { $0[keyPath: count] } - total(direct) { $0[keyPath: count] }
      #expect(more == gpus * bytes)
    }
  }

  /// The reports of the ranks: the one that saves copies most to the host.
  private func sorted(_ run: Run) -> [PretendGPU.Report] {
    run.reports.sorted { $0.downloadedBytes < $1.downloadedBytes }
  }

  @Test func shardedWeightsTravelBetweenGPUsWithoutTheHost() throws {
    let whole = try train("two-whole", gpus: 2, [Self.resident])
    let divided = try train("two-divided", gpus: 2, [Self.sharded])
    let throughHost = try train(
      "two-divided-host", gpus: 2, [Self.sharded], environment: Self.gloo)
    #expect(divided.losses == whole.losses)
    #expect(divided.weights == whole.weights)
    #expect(divided.weights == throughHost.weights)
    let gathered = divided.collective("all_gather")
    #expect(gathered.allSatisfy { $0[1] > 0 && $0 == gathered[0] })
    for (a, b) in zip(sorted(divided), sorted(whole)) {
      #expect(a.downloadedBytes == b.downloadedBytes)
    }
    for (a, b) in zip(sorted(throughHost), sorted(divided)) {
      // Half of what is gathered is this rank's.
      #expect(a.downloadedBytes > b.downloadedBytes + gathered[0][1] / 2)
    }
  }

  @Test func trainedWeightsAreShardedBetweenGPUs() throws {
    let full = ["model.training_mode=full", "optimization.learning_rate=1e-4"]
    let whole = try train("two-full", gpus: 2, full + [Self.resident])
    let divided = try train("two-full-divided", gpus: 2, full + [Self.sharded])
    let throughHost = try train(
      "two-full-divided-host", gpus: 2, full + [Self.sharded], environment: Self.gloo)
    #expect(areClose(whole, divided))
    #expect(whole.weights.distance(to: divided.weights) <= 1e-5)
    #expect(divided.losses == throughHost.losses)
    #expect(divided.weights == throughHost.weights)
    #expect(divided.collective("reduce_scatter").allSatisfy { $0[0] > 0 })
    let floor = divided.reports.map { report in
      ["all_reduce": 2, "all_gather": 1, "reduce_scatter": 1].reduce(0) { sum, kind in
        sum + kind.value * (report.operations["nccl::\(kind.key)"]?[1] ?? 0) / 2
      }
    }
    #expect(divided.reports.map(\.sentBytes) == floor)
  }

  @Test func twoGPUsTrainLikeTwoProcessesOnTheCPU() throws {
    let config = try prepared.configure("two-cpus", steps: 3)
    let result = try Program.run(
      [
        "launch", "--nproc-per-node", "2", "ltx", "train", config, "--threads", "1", "--set",
        "optimization.enable_gradient_checkpointing=true",
      ], in: prepared.path)
    try #require(result.status == 0, "\(result.errors)")
    #expect(!result.errors.contains("through host memory"), "\(result.errors)")
    let gpus = try train("two-gpus", gpus: 2, [Self.resident])
    struct Step: Decodable { let loss: Double }
    let losses = try String(
      contentsOfFile: "\(prepared.path)/two-cpus/metrics.jsonl", encoding: .utf8
    )
    .split(separator: "\n").map { try JSONDecoder().decode(Step.self, from: Data($0.utf8)).loss }
    #expect(losses.count == gpus.losses.count)
    for (a, b) in zip(losses, gpus.losses) { #expect(abs(a / b - 1) <= 1e-5) }
  }

  @Test func processesAndGPUsMustFit() throws {
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

  /// The second GPU is smaller than the configuration says.
  @Test func aRankWhoseMemoryRunsOutIsNamed() throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("a-small-gpu", steps: 3)
    let settings = [
      "--device", "cuda", "--threads", "1", "--set", "acceleration.weight_placement=resident",
      "--set", "acceleration.memory=8GB", "--set", "acceleration.activations=keep",
    ]
    let (alone, report) = try PretendGPU.run(
      ["train", config, "--overwrite"] + settings, in: prepared.path)
    try #require(alone.status == 0, "\(alone.errors)")
    let peak = try #require(report.devices.map(\.peakBytes).max())
    // The weights fit, and the activations of a step don't.
    let script = """
      if [ $RANK = 1 ]; then export PRETEND_GPU_BYTES=\(peak * 4 / 5); fi
      exec "$0" train "$@"
      """
    let result = try Program.run(
      ["launch", "--nproc-per-node", "2", "sh", "-c", script, Program.path, config, "--overwrite"]
        + settings,
      in: prepared.path, environment: PretendGPU.environment(count: 2))
    #expect(result.status == 1)
    #expect(
      result.errors.contains("error: rank 1 on ") && result.errors.contains("memory"),
      "\(result.errors)")
  }

  /// A rank that has no GPU tells the others at once, which would wait for it otherwise.
  @Test func aRankWithoutAGPUIsNamedByAll() throws {
    let prepared = try PreparedTraining.shared.get()
    let shop = try Workshop()
    let config = try prepared.configure("one-without-gpu", steps: 1)
    let folders = [0, 1].map { "\(shop.path)/rank\($0)" }
    let start = Date()
    let processes = try [0, 1].map { rank in
      try FileManager.default.createDirectory(
        atPath: folders[rank], withIntermediateDirectories: true)
      let variables = [
        "RANK": "\(rank)", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29751",
      ]
      return try Program.start(
        ["train", config, "--device", "cuda", "--threads", "1"], in: shop.path,
        environment: rank == 0
          ? variables.merging(PretendGPU.environment(count: 1)) { $1 } : variables,
        outputs: folders[rank])
    }
    for (process, folder) in zip(processes, folders) {
      process.waitUntilExit()
      #expect(process.terminationStatus == 2)
      let text = try String(contentsOfFile: "\(folder)/stderr.txt", encoding: .utf8)
      #expect(text.contains("CUDA can't be loaded"), "\(text)")
      #expect(text.contains("error: rank 1 on ") == folder.hasSuffix("0"), "\(text)")
    }
    #expect(Date().timeIntervalSince(start) < 60)
  }

  @Test func aRankThatDoesNotKnowItsGPUIsRefused() throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("unknown-gpu", steps: 1)
    let result = try Program.run(
      [
        "launch", "--nproc-per-node", "2", "sh", "-c",
        "unset LOCAL_RANK; exec \"$0\" train \"$1\" --device cuda", Program.path, config,
      ], in: prepared.path, environment: PretendGPU.environment(count: 2))
    #expect(result.status == 2)
    #expect(
      result.errors.contains("error: LOCAL_RANK: is not set in the environment"), "\(result.errors)"
    )
  }
}
