import Foundation
import TestSupport
import Testing
import Torch

/// Files that describe several processes: `ltx launch --config` and `ltx train --distributed`.
@Suite struct DistributedFileTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Configs/distributed").path

  private func losses(_ run: String, _ prepared: PreparedTraining) throws -> [Double] {
    struct Step: Decodable { let loss: Double }
    return try String(contentsOfFile: "\(prepared.path)/\(run)/metrics.jsonl", encoding: .utf8)
      .split(separator: "\n").map { try JSONDecoder().decode(Step.self, from: Data($0.utf8)).loss }
  }

  // MARK: Launching

  @Test func theFileGivesDefaultsThatVariablesAndOptionsOverride() throws {
    let shop = try Workshop()
    try shop.write(
      "two.yaml",
      """
      distributed_type: MULTI_CPU
      num_processes: 4
      num_machines: 2
      machine_rank: 1
      main_process_ip: head
      main_process_port: 4000
      same_network: true
      """)
    let script = "echo $RANK/$WORLD_SIZE $MASTER_ADDR:$MASTER_PORT $LTX_DISTRIBUTED_CONFIG"
    func run(
      _ options: [String] = [], _ environment: [String: String] = [:]
    ) throws -> [String] {
      let result = try Program.run(
        ["launch", "--config", "two.yaml"] + options + ["sh", "-c", script], in: shop.path,
        environment: environment)
      #expect(result.status == 0, "\(result.errors)")
      #expect(
        result.errors.contains("note: two.yaml: keys without effect: same_network"),
        "\(result.errors)")
      return result.output.split(separator: "\n").map {
        String($0).replacing(" \(shop.path)/two.yaml", with: "")
      }.sorted()
    }
    // The number of processes is that of all machines.
    #expect(try run() == ["[2] 2/4 head:4000", "[3] 3/4 head:4000"])
    let options = [
      "--node-rank", "0", "--master-addr", "127.0.0.1", "--master_port=29741", "--nproc-per-node",
      "1",
    ]
    #expect(try run(options) == ["0/2 127.0.0.1:29741"])
    #expect(
      try run([], ["PET_NODE_RANK": "0", "PET_MASTER_PORT": "29742"])
        == ["0/4 head:29742", "[1] 1/4 head:29742"])
    // One machine gets all processes of the file.
    #expect(try run(["--standalone", "--master-port", "29743"]).count == 4)
  }

  @Test func gpusAndCoresOfTheFile() throws {
    let shop = try Workshop()
    try shop.write(
      "gpus.yaml", "distributed_type: MULTI_GPU\ngpu_ids: 1,0\nenable_cpu_affinity: false\n")
    let script =
      "echo $RANK $CUDA_VISIBLE_DEVICES $(grep Cpus_allowed_list /proc/self/status | cut -f2)"
    func run(_ options: [String]) throws -> [String] {
      let result = try Program.run(
        ["launch", "--config", "gpus.yaml"] + options + ["sh", "-c", script], in: shop.path)
      #expect(result.status == 0, "\(result.errors)")
      return result.output.split(separator: "\n").map { String($0).replacing("[1] ", with: "") }
        .sorted()
    }
    let unbound = try run([])
    #expect(unbound.map { $0.prefix(5) } == ["0 1,0", "1 1,0"])
    #expect(Set(unbound.map { $0.dropFirst(5) }).count == 1)
    if ProcessInfo.processInfo.activeProcessorCount >= 2 {
      #expect(Set(try run(["--core-binding"]).map { $0.dropFirst(5) }).count == 2)
    }
  }

  @Test func readyFilesStartOneProcessPerGPU() throws {
    let shop = try Workshop()
    for name in ["ddp", "ddp_compile", "fsdp", "fsdp_compile"] {
      let result = try Program.run(
        ["launch", "--config-file", "\(Self.folder)/\(name).yaml", "sh", "-c", "echo $WORLD_SIZE"],
        in: shop.path, environment: PretendGPU.environment(count: 3))
      #expect(result.status == 0, "\(result.errors)")
      #expect(result.output.split(separator: "\n").sorted() == ["3", "[1] 3", "[2] 3"])
      #expect(result.errors.contains("no Python code for torch.compile") == name.contains("_"))
    }
  }

  @Test(arguments: [
    (
      "distributed_type: MULTI_GPU", [],
      "f.yaml:1:1: distributed_type is MULTI_GPU, but CUDA can't be loaded"
    ),
    ("distributed_type: DEEPSPEED", [], "f.yaml:1:1: distributed_type is DEEPSPEED, which"),
    (
      "distributed_type: MULTI_CPU\nnum_processes: 4", ["--nnodes", "3", "--node-rank", "0"],
      "f.yaml:2:1: num_processes is 4, the number on all machines together"
    ),
    (
      "distributed_type: MULTI_CPU\nnum_processes: 4\nnum_machines: 2", [],
      "--node-rank: is missing"
    ),
    (
      "distributed_type: MULTI_CPU\nnum_processes: 4\nnum_machines: 2", ["--node-rank", "1"],
      "--master-addr: is missing"
    ),
  ])
  func filesThatStartNothing(yaml: String, options: [String], text: String) throws {
    let shop = try Workshop()
    try shop.write("f.yaml", yaml)
    let result = try Program.run(
      ["launch", "--config", "f.yaml"] + options + ["true"], in: shop.path)
    #expect(result.status == 2)
    #expect(result.errors.hasPrefix("error: \(text)"), "\(result.errors)")
  }

  @Test func aFileThatIsMissing() throws {
    let shop = try Workshop()
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("no-distributed-file", steps: 1)
    for command in [
      ["launch", "--config", "no.yaml", "ltx", "train", config],
      ["train", config, "--distributed", "no.yaml"],
    ] {
      let result = try Program.run(command, in: shop.path)
      #expect(result.status == 2)
      #expect(result.errors == "error: no.yaml: can't be read; does it exist?\n")
    }
  }

  @Test func aPortInUse() throws {
    let shop = try Workshop()
    let other = try RendezvousStore(
      Rendezvous(host: "127.0.0.1", port: 0),
      ranks: ProcessRanks(rank: 0, worldSize: 2, localRank: 0), timeout: .seconds(300))
    let port = "\(other.place.port)"
    let result = try Program.run(
      ["launch", "--nproc-per-node", "2", "--master-port", port, "true"], in: shop.path)
    #expect(result.status == 2)
    withExtendedLifetime(other) {}
    #expect(
      result.errors.hasPrefix("error: --master-port: \(port) is used by another program."),
      "\(result.errors)")
  }

  // MARK: Training

  /// Two processes with the whole model and two that divide it train the same.
  @Test func filesTrainTwoProcessesOnTheCPU() throws {
    let prepared = try PreparedTraining.shared.get()
    func run(_ name: String, _ file: String) throws -> Program.Result {
      let config = try prepared.configure(name, steps: 3)
      let result = try Program.run(
        ["train", config, "--distributed", file, "--threads", "1"], in: prepared.path)
      #expect(result.status == 0, "\(result.errors)")
      return result
    }
    try Data("distributed_type: MULTI_CPU\nnum_processes: 2\nmixed_precision: bf16\n".utf8).write(
      to: URL(fileURLWithPath: "\(prepared.path)/two-cpus.dist.yaml"))
    try Data("distributed_type: FSDP\nnum_processes: 2\nuse_cpu: true\n".utf8).write(
      to: URL(fileURLWithPath: "\(prepared.path)/two-shards.dist.yaml"))
    let whole = try run("file-whole", "two-cpus.dist.yaml")
    #expect(
      whole.errors.contains(
        "note: acceleration.mixed_precision_mode is no, which is used; "),
      "\(whole.errors)")
    #expect(!whole.errors.contains("[1] note:"), "one rank says it")
    let divided = try run("file-divided", "two-shards.dist.yaml")
    #expect(
      divided.errors.contains("note: acceleration.weight_placement is sharded because of "),
      "\(divided.errors)")
    let losses = try losses("file-whole", prepared)
    #expect(losses.count == 3)
    #expect(try self.losses("file-divided", prepared) == losses)
  }

  /// The ready files on two pretend GPUs, started by each of the two commands.
  @Test func readyFilesTrainOnTwoGPUs() throws {
    let prepared = try PreparedTraining.shared.get()
    func run(_ name: String, _ command: (String) -> [String]) throws -> String {
      let config = try prepared.configure("ready-\(name)", steps: 2)
      let result = try Program.run(
        command(config), in: prepared.path, environment: PretendGPU.environment(count: 2))
      #expect(result.status == 0, "\(result.errors)")
      #expect(try losses("ready-\(name)", prepared).count == 2)
      return result.output + result.errors
    }
    let whole = try run("ddp") {
      ["launch", "--config", "\(Self.folder)/ddp.yaml", "ltx", "train", $0, "--threads", "1"]
    }
    #expect(!whole.contains("weight_placement is"), "\(whole)")
    #expect(whole.contains("peak GPU memory"), "the file chooses the device")
    let divided = try run("fsdp") {
      ["train", $0, "--threads", "1", "--distributed", "\(Self.folder)/fsdp_compile.yaml"]
    }
    #expect(divided.contains("weight_placement is sharded because of"), "\(divided)")
    #expect(divided.contains("no Python code for torch.compile"), "\(divided)")
    #expect(divided.contains("peak GPU memory"), "\(divided)")
  }

  /// A launcher's processes use only the part about training.
  @Test func insideALauncherNothingIsStarted() throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("inside-launcher", steps: 1)
    let result = try Program.run(
      [
        "launch", "--nproc-per-node", "2", "ltx", "train", config, "--dry-run", "--distributed",
        "\(Self.folder)/fsdp.yaml", "--device", "cpu",
      ], in: prepared.path)
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output.contains("weight_placement: \"sharded\""), "\(result.output)")
    #expect(!result.errors.contains("ltx launch"), "\(result.errors)")
  }

  @Test func placementsThatContradictTheFile() throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("contradiction", steps: 1)
    let result = try Program.run(
      [
        "launch", "--config", "\(Self.folder)/fsdp.yaml", "--nproc-per-node", "1", "ltx", "train",
        config, "--device", "cpu", "--set", "acceleration.weight_placement=resident",
      ], in: prepared.path)
    #expect(result.status == 2)
    #expect(
      result.errors.contains("acceleration.weight_placement is resident, but "), "\(result.errors)")
    // One process has nothing to divide the weights with.
    let alone = try Program.run(
      [
        "train", config, "--distributed", "\(Self.folder)/fsdp.yaml", "--dry-run", "--threads", "1",
      ], in: prepared.path, environment: PretendGPU.environment(count: 1))
    #expect(alone.status == 2)
    #expect(alone.errors.contains("which needs several processes"), "\(alone.errors)")
  }
}
