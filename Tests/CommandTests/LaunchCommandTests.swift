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

  @Test func commandsThatCantBeLaunchedAreBadInput() throws {
    let shop = try Workshop()
    for (arguments, text) in [
      (["--nproc-per-node", "2", "no-such-program"], "no-such-program: is not a program in PATH"),
      (["--nproc-per-node", "0", "sh"], "--nproc-per-node: must be"),
      (["--nproc-per-node", "2"], "Missing expected argument"),
      (["sh"], "--nproc-per-node"),
      (["--nproc-per-node", "1", "--nnodes", "2", "sh"], "--master-addr"),
    ] {
      let result = try Program.run(["launch"] + arguments, in: shop.path)
      #expect(result.status == 2)
      #expect(result.errors.contains(text), "\(result.errors)")
    }
  }
}
