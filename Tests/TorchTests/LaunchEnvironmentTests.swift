import Foundation
import Support
import Synchronization
import Testing

@testable import Torch

/// The environment variables of launchers.
@Suite struct LaunchEnvironmentTests {
  @Test func noLauncherOneProcess() throws {
    #expect(try ProcessRanks(environment: ["PATH": "/bin"]) == nil)
    #expect(try ProcessGroup.fromEnvironment(["PATH": "/bin"]) == nil)
    // A group of one needs no rendezvous.
    let group = try #require(try ProcessGroup.fromEnvironment(["RANK": "0", "WORLD_SIZE": "1"]))
    #expect(group === ProcessGroup.single)
  }

  @Test func ranksOfTorchrunAndSlurm() throws {
    let torchrun = ["RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"]
    let slurm = ["SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"]
    #expect(
      try ProcessRanks(environment: torchrun) == ProcessRanks(rank: 5, worldSize: 8, localRank: 1))
    #expect(
      try ProcessRanks(environment: slurm) == ProcessRanks(rank: 3, worldSize: 4, localRank: 1))
    // torchrun inside a job
    #expect(try ProcessRanks(environment: slurm.merging(torchrun) { $1 })?.rank == 5)
    // The step's number of tasks takes precedence over the job's.
    #expect(
      try ProcessRanks(environment: slurm.merging(["SLURM_STEP_NUM_TASKS": "16"]) { $1 })?.worldSize
        == 16)
    #expect(
      try ProcessRanks(environment: slurm.merging(["SLURM_JOB_ID": "7"]) { $1 }) == nil,
      "a job script")
  }

  @Test func ranksOfMPIAndOfLaunchersWithoutLocalRanks() throws {
    let openMPI = [
      "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
      "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    ]
    let hydra = ["PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"]
    #expect(
      try ProcessRanks(environment: openMPI)
        == ProcessRanks(rank: 3, worldSize: 4, localRank: 1, localSize: 2))
    #expect(
      try ProcessRanks(environment: hydra)
        == ProcessRanks(rank: 2, worldSize: 4, localRank: 0, localSize: 2))
    // srun with a PMI plugin
    let step = ["SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1"]
    #expect(try ProcessRanks(environment: hydra.merging(step) { $1 })?.rank == 1)
    // Kubernetes: one process in each container
    let pod = ["RANK": "3", "WORLD_SIZE": "4"]
    #expect(try ProcessRanks(environment: pod)?.localRank == 0)
  }

  /// Without a local rank, several ranks would take the same one of several GPUs.
  @Test func aGPUNeedsALocalRankIfThereAreSeveral() throws {
    let given = try #require(
      try ProcessRanks(environment: ["RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"]))
    #expect(try given.gpu(of: 1) == .cuda(0) && given.gpu(of: 2) == .cuda(1))
    let missing = try #require(try ProcessRanks(environment: ["RANK": "3", "WORLD_SIZE": "4"]))
    #expect(try missing.gpu(of: 1) == .cuda(0))
    let error = #expect(throws: Support.Issue.self) { try missing.gpu(of: 8) }
    #expect(error?.subject == ["LOCAL_RANK"])
    #expect("\(try #require(error))".contains("which of 8 GPUs is its own"))
    let beyond = #expect(throws: Support.Issue.self) {
      try ProcessRanks(rank: 9, worldSize: 16, localRank: 9).gpu(of: 8)
    }
    #expect("\(try #require(beyond))".contains("has no GPU for process 9"))
  }

  @Test(arguments: [
    ("gpu01", "gpu01"), ("gpu[03-07,9],login", "gpu03"), ("a,b", "a"), ("n[12]", "n12"),
    ("rack[1-2]node[08-09]-ib", "rack1node08-ib"), ("", nil), ("n[", nil), ("n[]", nil),
    ("two words", nil),
  ])
  func firstMachineOfASlurmList(list: String, host: String?) {
    #expect(SlurmNodeList.firstHost(of: list) == host)
  }

  @Test func slurmAndOneMachineGiveTheRendezvous() throws {
    let step = [
      "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "gpu[3-4]",
      "SLURM_JOB_NODELIST": "cpu1,gpu[3-4]", "SLURM_JOB_ID": "712345", "SLURM_STEP_ID": "0",
    ]
    let place = try Rendezvous(environment: step)
    #expect(place.host == "gpu3")
    #expect((10_000..<30_000).contains(place.port))
    #expect(try Rendezvous(environment: step) == place, "all processes agree")
    let next = try Rendezvous(environment: step.merging(["SLURM_STEP_ID": "1"]) { $1 })
    #expect(next.port != place.port, "two steps of a job at the same time")
    let given = try Rendezvous(
      environment: step.merging(["MASTER_ADDR": "head", "MASTER_PORT": "4000"]) { $1 })
    #expect(given.host == "head" && given.port == 4000)

    let openMPI = [
      "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    ]
    #expect(try Rendezvous(environment: openMPI).host == "127.0.0.1")
    #expect(throws: Support.Issue.self) {
      try Rendezvous(environment: openMPI.merging(["OMPI_COMM_WORLD_SIZE": "4"]) { $1 })
    }
  }

  @Test(arguments: [
    (["RANK": "2", "WORLD_SIZE": "2"], "RANK", "from 0 to 1"),
    (["RANK": "-1", "WORLD_SIZE": "2"], "RANK", "from 0 to 1"),
    (["RANK": "x", "WORLD_SIZE": "2"], "RANK", "got x"),
    (["RANK": "0", "WORLD_SIZE": "0"], "WORLD_SIZE", "from 1 up"),
    (["RANK": "0", "WORLD_SIZE": "99999999999999999999"], "WORLD_SIZE", "from 1 up"),
    (["RANK": "0"], "WORLD_SIZE", "is not set"),
    (["WORLD_SIZE": "2"], "RANK", "is not set"),
    (["RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "gpu"], "LOCAL_RANK", "got gpu"),
    (["SLURM_PROCID": "4", "SLURM_NTASKS": "4"], "SLURM_PROCID", "below SLURM_NTASKS=4"),
    (["RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "29500"], "MASTER_ADDR", "is not set"),
    (["RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a"], "MASTER_PORT", "is not set"),
    (
      ["RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "", "MASTER_PORT": "1"], "MASTER_ADDR",
      "127.0.0.1"
    ),
    (
      ["RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "65536"], "MASTER_PORT",
      "from 1 to 65535"
    ),
    (["SLURM_PROCID": "1", "SLURM_NTASKS": "4"], "MASTER_ADDR", "scontrol show hostnames"),
    (
      ["OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4"], "MASTER_ADDR",
      "mpirun -x MASTER_ADDR"
    ),
    (["PMI_RANK": "1", "PMI_SIZE": "4"], "MASTER_ADDR", "mpirun -genv MASTER_ADDR"),
    (["PMI_RANK": "1"], "PMI_SIZE", "is not set"),
    (["RANK": "0", "WORLD_SIZE": "-1"], "WORLD_SIZE", "got -1"),
    (["RANK": "0", "WORLD_SIZE": "two"], "WORLD_SIZE", "got two"),
    (["RANK": "", "WORLD_SIZE": "2"], "RANK", "is empty"),
    (
      ["RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "2"], "LOCAL_RANK",
      "from 0 to 1"
    ),
    (
      ["RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8"],
      "LOCAL_WORLD_SIZE", "from 1 to 4"
    ),
    (["RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "x"], "LOCAL_WORLD_SIZE", "got x"),
    (["RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "-1"], "LOCAL_RANK", "got -1"),
    (
      ["RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "http"], "MASTER_PORT",
      "got http"
    ),
  ])
  func invalidVariablesAreNamed(
    environment: [String: String], variable: String, text: String
  ) throws {
    let error = #expect(throws: Support.Issue.self) {
      try ProcessGroup.fromEnvironment(environment)
    }
    #expect(error?.subject == [.name(variable)])
    #expect("\(try #require(error))".contains(text))
  }

  @Test func whereTorchrunServesTheStoreRank0ConnectsToIt() throws {
    let agent = try RendezvousStore(
      Rendezvous(host: "127.0.0.1", port: 0),
      ranks: ProcessRanks(rank: 0, worldSize: 2, localRank: 0),
      timeout: .seconds(300))
    let sums = Mutex([Int: [Double]]())
    DispatchQueue.concurrentPerform(iterations: 2) { rank in
      do {
        let group = try ProcessGroup.fromEnvironment([
          "RANK": "\(rank)", "WORLD_SIZE": "2", "LOCAL_RANK": "\(rank)", "MASTER_ADDR": "127.0.0.1",
          "MASTER_PORT": "\(agent.place.port)", "TORCHELASTIC_USE_AGENT_STORE": "True",
          "TORCHELASTIC_RESTART_COUNT": "1",
        ])
        let sum = try #require(group).allReduce([Double(rank + 1)])
        sums.withLock { $0[rank] = sum }
      } catch {
        Testing.Issue.record(error)
      }
    }
    #expect(sums.withLock { $0 } == [0: [3], 1: [3]])
  }

  @Test func timesAreMillisecondsNoneOfThemEndless() {
    #expect(Duration.seconds(1.5).milliseconds == 1500)
    #expect(Duration.zero.milliseconds == 1)
    #expect(Duration.seconds(-3).milliseconds == 1)
    #expect(Duration.seconds(Int64.max).milliseconds == 31_536_000_000)
  }
}
