import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Training

/// Behavior that `ltx launch` does not show; `LaunchCommandTests` test the rest.
@Suite struct ProcessLauncherTests {
  @Test func whoDoesNotEndWhenAskedIsKilledWithWhatItHasStarted() throws {
    let scratch = try ScratchFolder()
    let notes = Mutex([String]())
    let script = """
      if [ $RANK = 1 ]; then
        while ! [ -e \(scratch.file("ready")) ]; do sleep 0.05; done
        exit 3
      fi
      trap '' TERM; touch \(scratch.file("ready")); while :; do sleep 0.1; done
      """
    let launcher = ProcessLauncher(
      try LaunchPlan(command: ["/bin/sh", "-c", script], processesPerNode: 2), shares: .none,
      gracePeriod: .seconds(1),
      notify: { note in notes.withLock { $0.append(note) } })
    #expect(try launcher.run() == 3)
    #expect(
      notes.withLock { $0 } == [
        "rank 1 failed with status 3; stopping the others",
        "killed because they did not end: rank 0",
      ])
  }

  @Test func aFailureCountsAtOnceWhileAChildOfTheRankKeepsRunning() throws {
    let script = "if [ $RANK = 1 ]; then sleep 20 >/dev/null 2>&1 & exit 3; fi; sleep 100"
    let launcher = ProcessLauncher(
      try LaunchPlan(command: ["/bin/sh", "-c", script], processesPerNode: 2), shares: .none,
      notify: { _ in })
    let start = ContinuousClock.now
    #expect(try launcher.run() == 3)
    #expect(ContinuousClock.now - start < .seconds(18))
  }

  /// The time to end belongs to the processes that were asked to end.
  @Test func processesThatWereStartedAgainAreNotKilled() throws {
    let script = """
      if [ $RANK = 1 ] && [ $TORCHELASTIC_RESTART_COUNT = 0 ]; then exit 3; fi
      sleep 3
      """
    let launcher = ProcessLauncher(
      try LaunchPlan(command: ["/bin/sh", "-c", script], processesPerNode: 2, maxRestarts: 1),
      shares: .none, gracePeriod: .seconds(1), notify: { _ in })
    #expect(try launcher.run() == 0)
  }

  @Test func aFailedGroupIsStartedAgainAsOftenAsAllowed() throws {
    let scratch = try ScratchFolder()
    let notes = Mutex([String]())
    // The second rank succeeds in the third attempt.
    let script = """
      echo $TORCHELASTIC_RESTART_COUNT >> \(scratch.file("starts"))-$RANK
      if [ $RANK = 1 ] && [ $TORCHELASTIC_RESTART_COUNT != 2 ]; then exit 3; fi
      """
    func run(restarts: Int) throws -> Int32 {
      try ProcessLauncher(
        LaunchPlan(command: ["/bin/sh", "-c", script], processesPerNode: 2, maxRestarts: restarts),
        shares: .none, notify: { note in notes.withLock { $0.append(note) } }
      ).run()
    }
    #expect(try run(restarts: 1) == 3)
    #expect(try run(restarts: 5) == 0)
    #expect(
      try String(contentsOfFile: scratch.file("starts") + "-1", encoding: .utf8)
        == "0\n1\n0\n1\n2\n")
    #expect(notes.withLock { $0 }.contains("starting all ranks again (restart 2 of 5)"))
  }

  @Test func badInputIsNotTriedAgain() throws {
    let scratch = try ScratchFolder()
    let script = "echo x >> \(scratch.file("starts")); exit 2"
    let launcher = ProcessLauncher(
      try LaunchPlan(command: ["/bin/sh", "-c", script], processesPerNode: 1, maxRestarts: 5),
      shares: .none, notify: { _ in })
    #expect(try launcher.run() == 2)
    #expect(try String(contentsOfFile: scratch.file("starts"), encoding: .utf8) == "x\n")
  }

  @Test func aProgramThatCantBeStartedAfterAllIsAnError() throws {
    let scratch = try ScratchFolder()
    // A script whose interpreter is missing is executable, but can't be started.
    let path = try scratch.write("#!/no/such/interpreter\n", to: "script")
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    let launcher = ProcessLauncher(
      try LaunchPlan(command: [path], processesPerNode: 2), shares: .none,
      notify: { Issue.record("\($0)") })
    #expect(throws: (any Error).self) { try launcher.run() }
  }
}
