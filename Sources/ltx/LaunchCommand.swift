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
      PET_NPROC_PER_NODE and so on).

      Exit status: 0 if all processes succeeded, otherwise the status of the first that failed, after which the \
      others are ended; 2 if no process could be started.

      Example:

        ltx launch --nproc-per-node 2 --max-restarts 3 ltx train config.yaml --device cuda
      """)

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

  @Flag(help: "Let all processes use all cores.")
  var noCoreBinding = false

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
    let (plan, usesGPUs) = try checkingInput(names) { try makePlan(for: command) }
    let shares =
      noCoreBinding
      ? CoreShares.none
      : CoreShares.ofThisMachine(processes: plan.processesPerNode, usesGPUs: usesGPUs)
    let status = try checkingInput(names) {
      try ProcessLauncher(plan, shares: shares) { printError("ltx launch: \($0)") }.run()
    }
    if status != 0 { throw ExitCode(status) }
  }

  /// The plan, and whether each process computes on a GPU of its own.
  private func makePlan(for command: [String]) throws -> (LaunchPlan, usesGPUs: Bool) {
    let defaults = LaunchDefaults()
    if let backend = rdzvBackend ?? defaults["RDZV_BACKEND"], !["static", "c10d"].contains(backend)
    {
      throw Issue(
        ["backend"], "\(backend) is not supported", suggestion: "Use static or c10d.")
    }
    let endpoint = try (rdzvEndpoint ?? defaults["RDZV_ENDPOINT"]).map(Endpoint.init)
    let nodes = try standalone ? 1 : defaults.nodes(nnodes)
    let nodeRank = try nodeRank ?? defaults.number("NODE_RANK")
    guard nodes == 1 || nodeRank != nil else {
      throw Issue(
        ["nodeRank"], "is missing: with several machines, each needs its own number, from 0")
    }
    let processes = try processes ?? defaults.processes ?? .auto
    let (count, usesGPUs) = try processes.count()
    let plan = try LaunchPlan(
      command: command, processesPerNode: count, nodes: nodes, nodeRank: nodeRank ?? 0,
      masterHost: masterAddr ?? endpoint?.host ?? defaults["MASTER_ADDR"],
      masterPort: masterPort ?? endpoint?.port ?? defaults.number("MASTER_PORT"),
      maxRestarts: maxRestarts ?? defaults.number("MAX_RESTARTS") ?? 0,
      jobName: rdzvId ?? defaults["RDZV_ID"], logFolder: logDir)
    return (plan, usesGPUs)
  }

  /// torchrun also accepts its options with underscores.
  static func withHyphens(_ arguments: [String]) -> [String] {
    guard arguments.first == configuration.commandName else { return arguments }
    let flags = ["--standalone", "--no-core-binding", "--help", "-h"]
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

/// The number of processes on a machine.
enum ProcessCount: ExpressibleByArgument, Equatable {
  case number(Int)
  case auto, gpu, cpu

  init?(argument: String) {
    switch argument {
    case "auto": self = .auto
    case "gpu": self = .gpu
    case "cpu": self = .cpu
    default:
      guard let number = Int(argument) else { return nil }
      self = .number(number)
    }
  }

  /// - Throws: `Issue` for `gpu` without one.
  func count() throws -> (Int, usesGPUs: Bool) {
    switch self {
    case .number(let number): return (number, true)
    case .cpu: return (CoreShares.availableCores().count, false)
    case .auto:
      // Without CUDA, there are no GPUs.
      let gpus = (try? Device.cudaCount()) ?? 0
      return (max(gpus, 1), gpus > 0)
    case .gpu:
      let gpus = try Device.cudaCount()
      guard gpus > 0 else {
        throw Issue(["processesPerNode"], "is gpu, but this machine has no GPU that CUDA can use")
      }
      return (gpus, true)
    }
  }
}

/// `host` or `host:port`; an IPv6 address with a port is in brackets.
private struct Endpoint {
  let host: String
  let port: Int?

  init(_ text: String) throws {
    let isAddress = text.filter { $0 == ":" }.count > 1 && !text.contains("]")
    guard !isAddress, let colon = text.lastIndex(of: ":"), text.last != "]" else {
      (host, port) = (text.filter { $0 != "[" && $0 != "]" }, nil)
      return
    }
    guard let number = Int(text[text.index(after: colon)...]), (1...65535).contains(number) else {
      throw Issue(["endpoint"], "has a port that is not between 1 and 65535 (got \(text))")
    }
    (host, port) = (text[..<colon].filter { $0 != "[" && $0 != "]" }, number)
  }
}

/// The options in the environment, under the names that Kubeflow Trainer gives them for torchrun.
private struct LaunchDefaults {
  private let environment = ProcessInfo.processInfo.environment

  subscript(name: String) -> String? { environment["PET_\(name)"] }

  func number(_ name: String) throws -> Int? {
    guard let text = self[name] else { return nil }
    guard let number = Int(text) else {
      throw Issue([.name("PET_\(name)")], "must be a number in the environment (got \(text))")
    }
    return number
  }

  var processes: ProcessCount? {
    get throws {
      guard let text = self["NPROC_PER_NODE"] else { return nil }
      guard let count = ProcessCount(argument: text) else {
        throw Issue(
          [.name("PET_NPROC_PER_NODE")],
          "must be a number, auto, gpu or cpu in the environment (got \(text))")
      }
      return count
    }
  }

  /// - Parameter option: the value of `--nnodes`.
  /// - Throws: `Issue` for a range of machines.
  func nodes(_ option: String?) throws -> Int {
    guard let text = option ?? self["NNODES"] else { return 1 }
    let ends = text.split(separator: ":")
    guard let number = Int(ends.first ?? ""), ends.allSatisfy({ Int($0) == number }) else {
      throw Issue(
        ["nodes"], "must be one number (got \(text))",
        suggestion: "The number of machines can't change during a run.")
    }
    return number
  }
}
