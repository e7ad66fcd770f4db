import ArgumentParser
import Foundation
import Support
import Torch
import Training

struct LaunchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "launch",
    abstract: "Start a command as several processes that train together.",
    usage: "ltx launch [--nproc-per-node <n>] [<options>] <command> ...",
    discussion: """
      Replaces torchrun and has its options: each process gets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and \
      MASTER_PORT in its environment. The command `ltx` is this program. With several machines, run it on each \
      of them with its own --node-rank. Processes on one machine get equal shares of its cores, those of their \
      GPU's NUMA node if possible. Lines of ranks other than 0 start with their rank. Ctrl-C and kill are passed \
      on. Options that are not given are read from the variables that Kubeflow Trainer sets (PET_NNODES, \
      PET_NPROC_PER_NODE and so on), and then from the file of --config, which has the format of `accelerate \
      config`. Configs/distributed has such files; `ltx train` reads the rest of them.

      Exit status: 0 if all processes succeeded, otherwise the status of the first that failed, after which the \
      others are ended; 2 if no process could be started.

      Example:

        ltx launch --nproc-per-node 2 --max-restarts 3 ltx train config.yaml --device cuda
      """)

  @Option(
    name: [.customLong("config"), .customLong("config-file")],
    help: ArgumentHelp(
      "A file that describes the processes, such as Configs/distributed/fsdp.yaml or one of Accelerate.",
      valueName: "file"),
    completion: .file(extensions: ["yaml", "yml"]))
  var config: String?

  @Option(
    name: [.customLong("nproc-per-node"), .customLong("processes")],
    help: ArgumentHelp(
      "The number of processes on this machine; gpu for one per GPU, cpu for one per core, auto for one per GPU, or a single one without GPUs. (default: auto)",
      valueName: "n"))
  var processes: ProcessCount?

  @Option(help: ArgumentHelp("The number of machines. (default: 1)", valueName: "n"))
  var nnodes: String?

  @Option(help: ArgumentHelp("The number of this machine, from 0.", valueName: "n"))
  var nodeRank: Int?

  @Option(help: "The address of the machine with --node-rank 0; required with several machines.")
  var masterAddr: String?

  @Option(
    help:
      "A free port on that machine. (default: 29500 with several machines, any free port with one)")
  var masterPort: Int?

  @Option(
    help: ArgumentHelp(
      "The address and the port in one, as torchrun has them.", valueName: "host[:port]"))
  var rdzvEndpoint: String?

  @Option(help: ArgumentHelp("static or c10d, which are the same here.", valueName: "name"))
  var rdzvBackend: String?

  @Option(help: ArgumentHelp("A name for the job, the same on all machines.", valueName: "name"))
  var rdzvId: String?

  @Flag(help: "All processes are on this machine.")
  var standalone = false

  @Option(
    help: ArgumentHelp(
      "How often all processes are started again after one failed; `ltx train` then resumes from its last state. (default: 0)",
      valueName: "n"))
  var maxRestarts: Int?

  @Option(
    help: ArgumentHelp(
      "Write each rank's output to <folder>/attempt_<n>/<rank>/stdout.log and stderr.log; only that of rank 0 is shown too.",
      valueName: "folder"))
  var logDir: String?

  @Flag(
    inversion: .prefixedNo,
    help: "Give each process cores of its own. (default: --core-binding)")
  var coreBinding: Bool?

  @Argument(parsing: .captureForPassthrough, help: "The program to start, and its arguments.")
  var command: [String]

  func run() throws {
    var command = command.first == "--" ? Array(command.dropFirst()) : command
    if command.first == "ltx", let program = Bundle.main.executablePath { command[0] = program }
    let names: SubjectTable = [
      ["command"]: "command", ["processesPerNode"]: "--nproc-per-node", ["nodes"]: "--nnodes",
      ["nodeRank"]: "--node-rank", ["masterHost"]: "--master-addr",
      ["masterPort"]: "--master-port", ["maxRestarts"]: "--max-restarts",
      ["logFolder"]: "--log-dir", ["endpoint"]: "--rdzv-endpoint", ["backend"]: "--rdzv-backend",
    ]
    let (plan, usesGPUs, bindsCores) = try checkingInput(names) { try makePlan(for: command) }
    let shares =
      bindsCores
      ? CoreShares.ofThisMachine(processes: plan.processesPerNode, usesGPUs: usesGPUs)
      : CoreShares.none
    let status = try checkingInput(names) {
      try ProcessLauncher(plan, shares: shares) { printError("ltx launch: \($0)") }.run()
    }
    if status != 0 { throw ExitCode(status) }
  }

  /// The plan, whether each process computes on a GPU of its own, and whether it gets cores of its
  /// own.
  private func makePlan(
    for command: [String]
  ) throws -> (LaunchPlan, usesGPUs: Bool, bindsCores: Bool) {
    let defaults = LaunchDefaults()
    let file = try config.map { try DistributedSettings(path: $0) }
    for note in file?.notes ?? [] { printError("note: \(note)") }
    if let backend = rdzvBackend ?? defaults["RDZV_BACKEND"], !["static", "c10d"].contains(backend)
    {
      throw Issue(
        ["backend"], "\(backend) is not supported", suggestion: "Use static or c10d.")
    }
    let endpoint = try (rdzvEndpoint ?? defaults["RDZV_ENDPOINT"]).map(LaunchEndpoint.init)
    let nodes = try standalone ? 1 : defaults.nodes(nnodes) ?? file?.machines ?? 1
    // A file for one machine does not say which of several this is, and the other way around.
    let inFile = nodes > 1 ? file.flatMap { $0.machines > 1 ? $0 : nil } : nil
    let nodeRank = try nodeRank ?? defaults.number("NODE_RANK") ?? inFile?.machineRank
    guard nodes == 1 || nodeRank != nil else {
      throw Issue(
        ["nodeRank"], "is missing: with several machines, each needs its own number, from 0")
    }
    if let config, let file { share(file, at: config) }
    let (count, usesGPUs) = try count(defaults, file, nodes: nodes)
    let plan = try LaunchPlan(
      command: command, processesPerNode: count, nodes: nodes, nodeRank: nodeRank ?? 0,
      masterHost: masterAddr ?? endpoint?.host ?? defaults["MASTER_ADDR"] ?? inFile?.masterHost,
      masterPort: masterPort ?? endpoint?.port ?? defaults.number("MASTER_PORT")
        ?? file?.masterPort,
      maxRestarts: maxRestarts ?? defaults.number("MAX_RESTARTS") ?? 0,
      jobName: rdzvId ?? defaults["RDZV_ID"], logFolder: logDir)
    return (plan, usesGPUs, coreBinding ?? file?.bindsCores ?? true)
  }

  /// The number of processes on this machine.
  private func count(
    _ defaults: LaunchDefaults, _ file: DistributedSettings?, nodes: Int
  ) throws -> (Int, usesGPUs: Bool) {
    let hasGPUs = file?.device != .cpu
    if let given = try processes ?? defaults.processes {
      let (count, usesGPUs) = try given.count()
      return (count, usesGPUs && hasGPUs)
    }
    guard let file else { return try ProcessCount.auto.count() }
    if let count = try file.processesPerMachine(machines: nodes) { return (count, hasGPUs) }
    return (try file.gpuCount(), true)
  }

  /// Sets the variables through which the processes learn the rest of the file.
  private func share(_ file: DistributedSettings, at path: String) {
    let absolute = URL(fileURLWithPath: path).standardizedFileURL.path
    setenv(DistributedSettings.variable, absolute, 1)
    // This process counts the same GPUs.
    if let gpus = file.gpus { setenv("CUDA_VISIBLE_DEVICES", gpus, 1) }
  }

  /// torchrun also accepts its options with underscores.
  static func withHyphens(_ arguments: [String]) -> [String] {
    guard arguments.first == configuration.commandName else { return arguments }
    let flags = ["--standalone", "--core-binding", "--no-core-binding", "--help", "-h"]
    var result = arguments
    var index = 1
    while index < result.count, result[index].hasPrefix("-"), result[index] != "--" {
      let parts = result[index].split(
        separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0].map { $0 == "_" ? "-" : $0 })
      result[index] = ([name] + parts.dropFirst().map(String.init)).joined(separator: "=")
      index += parts.count > 1 || flags.contains(name) ? 1 : 2
    }
    return result
  }
}
