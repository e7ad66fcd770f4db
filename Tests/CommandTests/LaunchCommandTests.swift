import Foundation
import TestSupport
import Testing

@Suite struct LaunchCommandTests {
  @Test func itStartsThisProgramOrAnotherAsRanks() throws {
    let shop = try Workshop()
    let versions = try Program.run(
      ["launch", "--nproc-per-node", "2", "ltx", "--version"], in: shop.path)
    #expect(versions.status == 0)
    let own = try Program.run(["--version"], in: shop.path).output.trimmingCharacters(in: .newlines)
    #expect(
      versions.output.split(separator: "\n").map(String.init).sorted()
        == [own, "[1] \(own)"].sorted())

    let ranks = try Program.run(
      [
        "launch", "--processes", "2", "--nnodes", "2", "--node-rank", "1", "--master-addr", "a",
        "--", "sh",
        "-c",
        "echo $RANK/$WORLD_SIZE $MASTER_ADDR:$MASTER_PORT",
      ], in: shop.path)
    #expect(ranks.status == 0)
    #expect(ranks.output.split(separator: "\n").sorted() == ["[2] 2/4 a:29500", "[3] 3/4 a:29500"])
  }

  @Test func linesOfRanksOtherThan0CarryTheirRankAndNoneIsLost() throws {
    let shop = try Workshop()
    let result = try Program.run(
      [
        "launch", "--nproc-per-node", "3", "sh", "-c",
        "[ $RANK = 0 ] || { printf 'a\\rb\\r\\n\\n%s' end; echo bad $RANK >&2; cat; }",
      ], in: shop.path)
    #expect(result.status == 0)
    for rank in 1...2 {
      let own = result.output.split(separator: "\n").filter { $0.hasPrefix("[\(rank)] ") }
      #expect(own == ["a", "b", "", "end"].map { "[\(rank)] \($0)" })
    }
    #expect(result.errors.split(separator: "\n").sorted() == ["[1] bad 1", "[2] bad 2"])
  }

  @Test(arguments: [
    ("exit 5", 5, "rank 1 failed with status 5"), ("kill -9 $$", 137, "signal 9 ended rank 1"),
  ])
  func theFirstRankThatFailsEndsTheOthersAndTheStatusIsItsOwn(
    failure: String, status: Int32, note: String
  ) throws {
    let shop = try Workshop()
    let start = Date()
    let result = try Program.run(
      [
        "launch", "--nproc-per-node", "3", "sh", "-c",
        "if [ $RANK = 1 ]; then \(failure); fi; sleep 100",
      ],
      in: shop.path)
    #expect(result.status == status)
    #expect(result.errors.contains("ltx launch: \(note); stopping the others"), "\(result.errors)")
    #expect(!result.errors.contains("killed"), "\(result.errors)")
    #expect(Date().timeIntervalSince(start) < 60)
  }

  @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
  func signalsReachEveryRankOnceAndEachMayEndInItsOwnTime(number: Int32) throws {
    let shop = try Workshop()
    // Ctrl-C in a terminal, a canceled job, a closed terminal.
    let process = try Program.start(
      [
        "launch", "--nproc-per-node", "2", "sh", "-c",
        """
        count=0
        trap 'count=$((count + 1))' INT TERM HUP
        touch ready-$RANK
        while [ $count = 0 ]; do sleep 0.05; done
        if [ $RANK = 1 ]; then sleep 1; fi
        echo signals $count
        exit 4
        """,
      ], in: shop.path)
    while process.isRunning
      && !(0..<2).allSatisfy({ FileManager.default.fileExists(atPath: "\(shop.path)/ready-\($0)") })
    {
      Thread.sleep(forTimeInterval: 0.02)
    }
    kill(process.processIdentifier, number)
    process.waitUntilExit()
    #expect(process.terminationStatus == 4)
    #expect(try shop.lines("stdout.txt").sorted() == ["[1] signals 1", "signals 1"])
  }

  @Test func torchrunsOptionsAndTheVariablesOfKubeflow() throws {
    let shop = try Workshop()
    let script = "echo $RANK/$WORLD_SIZE $MASTER_ADDR:$MASTER_PORT $TORCHELASTIC_RUN_ID"
    let options = [
      "--nnodes=2", "--nproc_per_node", "1", "--node_rank=1", "--rdzv_endpoint=head:4000",
      "--rdzv_backend", "c10d", "--rdzv_id", "job",
    ]
    let given = try Program.run(["launch"] + options + ["sh", "-c", script], in: shop.path)
    #expect(given.output == "[1] 1/2 head:4000 job\n", "\(given.errors)")
    let fromEnvironment = try Program.run(
      ["launch", "sh", "-c", script], in: shop.path,
      environment: [
        "PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": "1",
        "PET_MASTER_ADDR": "head", "PET_MASTER_PORT": "4000", "PET_RDZV_ID": "job",
      ])
    #expect(fromEnvironment.output == "[1] 1/2 head:4000 job\n", "\(fromEnvironment.errors)")
    // The default is a process per GPU, or one without GPUs.
    let single = try Program.run(["launch", "sh", "-c", "echo $WORLD_SIZE"], in: shop.path)
    #expect(single.output == "1\n", "\(single.errors)")
  }

  @Test func logsHaveTheOutputOfEveryRankAndAttempt() throws {
    let shop = try Workshop()
    let result = try Program.run(
      [
        "launch", "--nproc-per-node", "2", "--max-restarts", "1", "--log-dir", "logs", "sh", "-c",
        "echo out $RANK; echo bad $RANK >&2; sleep 1; exit $((TORCHELASTIC_RESTART_COUNT == 0))",
      ], in: shop.path)
    #expect(result.status == 0)
    #expect(result.output == "out 0\nout 0\n")
    for attempt in 0...1 {
      for rank in 0...1 {
        let folder = "logs/attempt_\(attempt)/\(rank)"
        #expect(try shop.lines("\(folder)/stdout.log") == ["out \(rank)"])
        #expect(try shop.lines("\(folder)/stderr.log") == ["bad \(rank)"])
      }
    }
  }

  @Test func eachProcessRunsOnCoresOfItsOwn() throws {
    let shop = try Workshop()
    let cores = ProcessInfo.processInfo.activeProcessorCount
    guard cores >= 2 else { return }
    func run(_ options: [String]) throws -> [String] {
      let script = "grep Cpus_allowed_list /proc/self/status | cut -f2"
      let result = try Program.run(
        ["launch", "--nproc-per-node", "2"] + options + ["sh", "-c", script], in: shop.path)
      #expect(result.status == 0)
      return result.output.split(separator: "\n").map { String($0).replacing("[1] ", with: "") }
    }
    #expect(Set(try run([])).count == 2)
    #expect(Set(try run(["--no-core-binding"])).count == 1)
  }

  @Test func commandsThatCantBeLaunchedAreBadInput() throws {
    let shop = try Workshop()
    for (arguments, text) in [
      (["--nproc-per-node", "2", "no-such-program"], "no-such-program: is not a program in PATH"),
      (["--nproc-per-node", "0", "sh"], "--nproc-per-node: must be"),
      (["--nproc-per-node", "2"], "Missing expected argument"),
      (["--nproc-per-node", "many", "sh"], "--nproc-per-node"),
      (["--nproc-per-node", "gpu", "sh"], "CUDA can't be loaded"),
      (["--nnodes", "1:4", "sh"], "--nnodes: must be one number"),
      (["--nnodes", "2", "--master-addr", "a", "sh"], "--node-rank: is missing"),
      (["--max-restarts", "-1", "sh"], "--max-restarts"),
      (["--rdzv-backend", "etcd", "sh"], "--rdzv-backend: etcd is not supported"),
      (["--rdzv-endpoint", "a:x", "sh"], "--rdzv-endpoint: has a port"),
      (
        ["--nproc-per-node", "1", "--nnodes", "2", "--node-rank", "0", "sh"], "--master-addr"
      ),
    ] {
      let result = try Program.run(["launch"] + arguments, in: shop.path)
      #expect(result.status == 2)
      #expect(result.errors.contains(text), "\(result.errors)")
    }
  }
}
