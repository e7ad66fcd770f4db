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
      try LaunchPlan(command: ["/bin/sh", "-c", script], processesPerNode: 2),
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
      try LaunchPlan(command: ["/bin/sh", "-c", script], processesPerNode: 2), notify: { _ in })
    let start = ContinuousClock.now
    #expect(try launcher.run() == 3)
    #expect(ContinuousClock.now - start < .seconds(18))
  }

  @Test func aProgramThatCantBeStartedAfterAllIsAnError() throws {
    let scratch = try ScratchFolder()
    // A script whose interpreter is missing is executable, but can't be started.
    let path = try scratch.write("#!/no/such/interpreter\n", to: "script")
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
    let launcher = ProcessLauncher(
      try LaunchPlan(command: [path], processesPerNode: 2), notify: { Issue.record("\($0)") })
    #expect(throws: (any Error).self) { try launcher.run() }
  }
}
