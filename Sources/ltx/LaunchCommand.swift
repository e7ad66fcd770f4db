import ArgumentParser
import Foundation
import Training

struct LaunchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "launch",
    abstract: "Start a command as several processes that train together.",
    usage: "ltx launch --nproc-per-node <n> [<options>] <command> ...",
    discussion: """
      ltx launch --nproc-per-node 2 ltx train config.yaml

      Takes the place of torchrun, whose options it has: each process finds RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and \
      MASTER_PORT in its environment. The command `ltx` is this program. With several machines, run it on each of them \
      with its own --node-rank. Processes on one machine share its cores, unless OMP_NUM_THREADS is set. Lines of ranks \
      other than 0 begin with their rank. Ctrl-C and kill are passed on.

      Exit status: 0 if all processes ended well, else that of the first that failed, after the others were ended; 2 if \
      none could be started.
      """)

  @Option(
    name: [.customLong("nproc-per-node"), .customLong("processes")],
    help: "Processes on this machine; one for each GPU.")
  var processes: Int

  @Option(help: "Machines.")
  var nnodes = 1

  @Option(help: "This machine's number, from 0.")
  var nodeRank = 0

  @Option(help: "The machine with --node-rank 0; needed with several machines.")
  var masterAddr: String?

  @Option(help: "A free port there; 29500 with several machines, any free one with one.")
  var masterPort: Int?

  @Argument(parsing: .captureForPassthrough, help: "The program to start, and its arguments.")
  var command: [String]

  func run() throws {
    var command = command.first == "--" ? Array(command.dropFirst()) : command
    if command.first == "ltx", let program = Bundle.main.executablePath { command[0] = program }
    let plan = try checkingInput {
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
