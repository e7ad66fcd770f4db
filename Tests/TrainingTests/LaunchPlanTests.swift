import Foundation
import TestSupport
import Testing

@testable import Training

@Suite struct LaunchPlanTests {
  @Test func eachProcessGetsItsRanksAndTorchrunsVariables() throws {
    let plan = try LaunchPlan(
      command: ["sh", "-c", "x"], processesPerNode: 4, nodes: 2, nodeRank: 1, masterHost: "node0")
    #expect(plan.executable.hasSuffix("/sh"))
    #expect(plan.arguments == ["-c", "x"])
    #expect(plan.ranks == 4..<8)
    let base = ["HOME": "/h", "RANK": "9", "TORCHELASTIC_USE_AGENT_STORE": "True"]
    #expect(
      plan.environment(of: 6, base: base, threads: 2) == [
        "HOME": "/h", "RANK": "6", "WORLD_SIZE": "8", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "4",
        "GROUP_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500", "OMP_NUM_THREADS": "2",
        "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_MAX_RESTARTS": "0",
      ])
    #expect(
      plan.environment(of: 6, base: ["OMP_NUM_THREADS": "7"], threads: 2)["OMP_NUM_THREADS"]
        == "7")
  }

  @Test func oneMachineTakesAFreePortAndOneProcessAllCores() throws {
    let plan = try LaunchPlan(command: ["/bin/sh"], processesPerNode: 1)
    let environment = plan.environment(of: 0, base: [:], threads: 8)
    #expect(environment["MASTER_ADDR"] == "127.0.0.1")
    #expect((1024...65535).contains(try #require(Int(environment["MASTER_PORT"] ?? ""))))
    #expect(environment["OMP_NUM_THREADS"] == nil)
    #expect(
      try LaunchPlan(command: ["/bin/sh"], processesPerNode: 1, masterPort: 4000).masterPort == 4000
    )
  }

  @Test func aRestartMeetsUnderOtherKeysAndAtAnotherPort() throws {
    var plan = try LaunchPlan(
      command: ["/bin/sh"], processesPerNode: 2, maxRestarts: 3, jobName: "job", logFolder: "/logs")
    let port = plan.masterPort
    try plan.restart()
    let environment = plan.environment(of: 1, base: [:], threads: 1)
    #expect(environment["TORCHELASTIC_RESTART_COUNT"] == "1")
    #expect(environment["TORCHELASTIC_MAX_RESTARTS"] == "3")
    #expect(environment["TORCHELASTIC_RUN_ID"] == "job")
    #expect(plan.masterPort != port)
    #expect(plan.logFolder(of: 1) == "/logs/attempt_1/1")

    var fixed = try LaunchPlan(command: ["/bin/sh"], processesPerNode: 2, masterPort: 4000)
    try fixed.restart()
    #expect(fixed.masterPort == 4000)
  }

  @Test func processesShareTheCoresNearTheirGPUs() {
    func shares(
      _ processes: Int, _ available: [Int], nodes: [Int: [Int]] = [:], gpus: [Int?] = []
    ) -> [[Int]] {
      CoreShares(processes: processes, available: available, nodes: nodes, gpuNodes: gpus).cores
    }
    let nodes = [0: [0, 1, 2, 3], 1: [4, 5, 6, 7]]
    let all = Array(0..<8)
    #expect(shares(1, all).isEmpty, "one process has all")
    #expect(shares(3, all) == [[0, 1], [2, 3, 4], [5, 6, 7]])
    #expect(shares(3, [1, 5]).isEmpty, "fewer cores than processes")
    #expect(shares(2, all, nodes: nodes, gpus: [1, 0]) == [[4, 5, 6, 7], [0, 1, 2, 3]])
    #expect(shares(3, all, nodes: nodes, gpus: [0, 0, 1]) == [[0, 1], [2, 3], [4, 5, 6, 7]])
    #expect(
      shares(2, [0, 1, 2, 4], nodes: nodes, gpus: [1, 1]) == [[0, 1], [2, 4]],
      "not enough cores of the node are allowed")
    #expect(shares(2, all, nodes: nodes, gpus: [1, nil]) == [[0, 1, 2, 3], [4, 5, 6, 7]])
    #expect(CoreShares(processes: 3, available: all).threads(of: 1, processes: 3) == 3)
    #expect(CoreShares(processes: 3, available: [1, 5]).threads(of: 1, processes: 3) == 1)
    #expect(CoreShares.cores(inList: "0-2,8\n") == [0, 1, 2, 8])
    #expect(CoreShares.cores(inList: "\n").isEmpty)
  }

  @Test func commandsThatCantBeLaunchedAreRefused() throws {
    let scratch = try ScratchFolder()
    let text = try scratch.write("not a program", to: "text.txt")
    func problem(
      _ command: [String] = ["/bin/sh"], _ processes: Int = 2, nodes: Int = 1, nodeRank: Int = 0,
      host: String? = nil, port: Int? = nil
    ) -> String {
      message {
        _ = try LaunchPlan(
          command: command, processesPerNode: processes, nodes: nodes, nodeRank: nodeRank,
          masterHost: host,
          masterPort: port, searchPath: "/nonexistent:\(scratch.path)")
      }
    }
    #expect(problem([]).contains("command: is missing"))
    #expect(problem(["sh"]).contains("is not a program in PATH"))
    #expect(problem([text]).contains("text.txt: is not an executable program"))
    #expect(problem([scratch.path]).contains("is not an executable program"), "a folder")
    #expect(problem(["/bin/sh"], 0).contains("processesPerNode: must be"))
    #expect(problem(nodes: 0).contains("nodes: must be"))
    #expect(problem(nodes: 2, nodeRank: 2, host: "a").contains("nodeRank: must be between 0 and 1"))
    #expect(problem(nodes: 2).contains("masterHost: is missing"))
    #expect(problem(port: 70000).contains("masterPort: must be"))
  }
}
