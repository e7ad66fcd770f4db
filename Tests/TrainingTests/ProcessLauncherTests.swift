import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Training

/// Real processes of `sh`.
@Suite struct ProcessLauncherTests {
  private struct Outcome {
    let status: Int32
    let output: String
    let errors: String
    let notes: [String]
    let seconds: Double
  }

  private func launch(
    _ count: Int, _ script: String, gracePeriod: Duration = .seconds(20)
  ) throws -> Outcome {
    let scratch = try ScratchFolder()
    func file(_ name: String) throws -> FileHandle {
      FileManager.default.createFile(atPath: scratch.file(name), contents: nil)
      // Ranks write to one file by handles of their own position, so each appends.
      let descriptor = open(scratch.file(name), O_WRONLY | O_APPEND)
      try #require(descriptor >= 0)
      return FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    }
    let notes = Mutex([String]())
    let launcher = ProcessLauncher(
      try LaunchPlan(command: ["/bin/sh", "-c", script], processesPerNode: count), gracePeriod: gracePeriod,
      output: try file("out"), errors: try file("err"), notify: { note in notes.withLock { $0.append(note) } })
    let start = Date()
    let status = try launcher.run()
    return Outcome(
      status: status, output: try String(contentsOfFile: scratch.file("out"), encoding: .utf8),
      errors: try String(contentsOfFile: scratch.file("err"), encoding: .utf8),
      notes: notes.withLock { $0 }, seconds: Date().timeIntervalSince(start))
  }

  @Test func `Each rank runs, and its lines carry its rank`() throws {
    let outcome = try launch(
      3, "echo $RANK/$WORLD_SIZE on $LOCAL_RANK; printf 'a\\rb\\r\\n\\nend'; echo bad $RANK >&2; cat")
    #expect(outcome.status == 0)
    #expect(outcome.notes == [])
    let lines = outcome.output.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    for rank in 1...2 {
      let own = lines.filter { $0.hasPrefix("[\(rank)] ") || $0.contains("end[\(rank)] ") }
        .map { $0.replacing("[\(rank)] ", with: "").replacing("end", with: "") }
      #expect(own == ["\(rank)/3 on \(rank)", "a", "b", "", ""])
    }
    #expect(outcome.output.contains("0/3 on 0\na\rb\r\n\nend"))
    #expect(Set(outcome.errors.split(separator: "\n")) == ["bad 0", "[1] bad 1", "[2] bad 2"])
  }

  @Test func `The first failure ends the others, and is the status`() throws {
    let outcome = try launch(3, "if [ $RANK = 1 ]; then exit 7; fi; sleep 100")
    #expect(outcome.status == 7)
    #expect(outcome.notes == ["rank 1 failed with status 7; the others are ended"])
    #expect(outcome.seconds < 60)
  }

  @Test func `A rank that a signal ends counts as failed`() throws {
    let outcome = try launch(2, "if [ $RANK = 1 ]; then kill -9 $$; fi; sleep 100")
    #expect(outcome.status == 137)
    #expect(outcome.notes == ["signal 9 ended rank 1; the others are ended"])
  }

  @Test func `Who does not end when asked is killed, with what it has started`() throws {
    let outcome = try launch(
      2,
      """
      if [ $RANK = 1 ]; then sleep 0.5; exit 3; fi
      trap '' TERM; while :; do sleep 0.1; done
      """, gracePeriod: .seconds(1))
    #expect(outcome.status == 3)
    #expect(outcome.notes.last == "killed, since they did not end: rank 0")
    #expect(outcome.seconds < 60)
  }
}
