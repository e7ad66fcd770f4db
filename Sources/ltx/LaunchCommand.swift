import ArgumentParser
import Foundation
import Support
import Training

struct LaunchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "launch",
    abstract: "Start a command as several processes that train together.",
    usage: "ltx launch --nproc-per-node <n> [<options>] <command> ...",
    discussion: """
      Replaces torchrun and has its options: each process gets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and \
      MASTER_PORT in its environment. The command `ltx` is this program. With several machines, run it on each \
      of them with its own --node-rank. Processes on one machine share its cores unless OMP_NUM_THREADS is set. \
      Lines of ranks other than 0 start with their rank. Ctrl-C and kill are passed on.

      Exit status: 0 if all processes succeeded, otherwise the status of the first that failed, after which the \
      others are ended; 2 if no process could be started.

      Example:

        ltx launch --nproc-per-node 2 ltx train config.yaml
      """)

  @Option(
    name: [.customLong("nproc-per-node"), .customLong("processes")],
    help: "The number of processes on this machine, one per GPU.")
  var processes: Int

  @Option(help: "The number of machines.")
  var nnodes = 1

  @Option(help: "The number of this machine, from 0.")
  var nodeRank = 0

  @Option(help: "The address of the machine with --node-rank 0; required with several machines.")
  var masterAddr: String?

  @Option(
    help:
      "A free port on that machine. (default: 29500 with several machines, any free port with one)")
  var masterPort: Int?

  @Argument(parsing: .captureForPassthrough, help: "The program to start, and its arguments.")
  var command: [String]

  func run() throws {
    var command = command.first == "--" ? Array(command.dropFirst()) : command
    if command.first == "ltx", let program = Bundle.main.executablePath { command[0] = program }
    let names: SubjectTable = [
      ["command"]: "command", ["processesPerNode"]: "--nproc-per-node", ["nodes"]: "--nnodes",
      ["nodeRank"]: "--node-rank", ["masterHost"]: "--master-addr",
      ["masterPort"]: "--master-port",
    ]
    let plan = try checkingInput(names) {
      try LaunchPlan(
        command: command, processesPerNode: processes, nodes: nnodes, nodeRank: nodeRank,
        masterHost: masterAddr,
        masterPort: masterPort)
    }
    let status = try checkingInput {
      try ProcessLauncher(plan) { printError("ltx launch: \($0)") }.run()
    }
    if status != 0 { throw ExitCode(status) }
  }
}
