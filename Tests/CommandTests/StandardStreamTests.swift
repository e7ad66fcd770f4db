import Foundation
import LTX
import TestSupport
import Testing

/// Streams that can't be written to don't kill a command, but a command whose result is lost fails.
@Suite struct StandardStreamTests {

  /// Runs the program in a shell, for its redirections.
  ///
  /// - Returns: the status, and the standard error if it was not redirected.
  private func run(_ command: String, in folder: String) throws -> (status: Int32, errors: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = [
      "-c",
      "set -o pipefail; " + command.replacingOccurrences(of: "ltx ", with: "'\(Program.path)' "),
    ]
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    let errors = "\(folder)/errors.txt"
    try Data().write(to: URL(fileURLWithPath: errors))
    process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: errors))
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationReason == .exit)
    return (process.terminationStatus, try String(contentsOfFile: errors, encoding: .utf8))
  }

  @Test(arguments: [
    "--help", "--version", "help train", "config init t2v", "config show c.yaml",
    "config check c.yaml --skip-paths",
    "inspect MODELS/ltx2_transformer.safetensors", "lora inspect MODELS/lora_all.safetensors",
  ])
  func aResultThatCantBePrintedIsAFailureAndOnlyThat(command: String) throws {
    let workshop = try Workshop()
    #expect(try Program.run(["config", "init", "t2v", "c.yaml"], in: workshop.path).status == 0)
    let command = "ltx " + command.replacingOccurrences(of: "MODELS", with: Fixtures.models)
    let usual = try run(command, in: workshop.path)
    #expect(usual.status == 0, "\(usual.errors)")
    for (redirection, reason) in [
      (">/dev/full", "No space left on device"), (">&-", "Bad file descriptor"),
      ("| true", "Broken pipe"),
    ] {
      // The reader must have closed the pipe by then.
      let result = try run(
        redirection == "| true" ? "(sleep 0.3; \(command)) | true" : command + redirection,
        in: workshop.path)
      #expect(result.status == 1, "\(command) \(redirection)")
      let sentence =
        "error: standard output: can't be written (\(reason)). Redirect it to a place that can be written.\n"
      #expect(result.errors.hasSuffix(sentence), "\(command) \(redirection): \(result.errors)")
    }
    #expect(try run(command + " 2>/dev/full", in: workshop.path).status == 0)
    #expect(try run(command + " 2>&-", in: workshop.path).status == 0)
    #expect(try run(command + " >&- 2>&- <&-", in: workshop.path).status == 1)
  }

  @Test func badInputKeepsItsStatusIfStandardErrorIsClosed() throws {
    let workshop = try Workshop()
    for command in [
      "trian", "train none.yaml", "inspect none", "split none out", "lora merge none --output x",
    ] {
      for redirection in ["2>/dev/full", "2>&-", ">&- 2>&- <&-", "2>&1 >/dev/full | true"] {
        #expect(
          try run("ltx \(command) \(redirection)", in: workshop.path).status == 2,
          "\(command) \(redirection)"
        )
      }
    }
  }

  @Test func filesAreWrittenAllTheSameAndNoneOfThemGetsAStandardStreamsNumber()
    throws
  {
    let workshop = try Workshop()
    for (index, redirection) in [">/dev/full", ">&-", ">&- 2>&- <&-", "2>/dev/full", "| true"]
      .enumerated()
    {
      let result = try run("ltx tiny-model m\(index) \(redirection)", in: workshop.path)
      #expect(result.status == 0)
      if index < 2 {
        #expect(result.errors.hasPrefix("warning: standard output: can't be written ("))
      }
    }
    let first = try Data(
      contentsOf: URL(fileURLWithPath: "\(workshop.path)/m0/\(TinyModel.checkpointName)"))
    for index in 1..<5 {
      let path = "\(workshop.path)/m\(index)/\(TinyModel.checkpointName)"
      #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == first)
    }
  }

  @Test(arguments: ["2>/dev/full >/dev/full", ">&- 2>&-", "2>&1 | head -c 1"])
  func aRunContinuesWhenItsLogIsLost(redirection: String) throws {
    let prepared = try PreparedTraining.shared.get()
    let name = "lost-log-\(redirection.utf8.reduce(0) { $0 + Int($1) })"
    let configuration = try prepared.configure(name, steps: 3)
    #expect(
      try run("ltx train \(configuration) --threads 1 \(redirection)", in: prepared.path).status
        == 0)
    let weights = "\(prepared.path)/\(name)/checkpoints/lora_weights_step_00003.safetensors"
    #expect(FileManager.default.fileExists(atPath: weights))
  }

  @Test func onATerminalLinesAreRedrawnOnADumbOneAndInALogTheyAreNot() throws {
    let prepared = try PreparedTraining.shared.get()
    for (type, isRedrawn) in [("xterm", true), ("dumb", false), ("", false)] {
      let configuration = try prepared.configure("terminal-\(type)", steps: 3)
      let log = "\(prepared.path)/terminal-\(type).log"
      // script(1) runs the program in a terminal.
      let result = try run(
        "TERM='\(type)' script -qec \"'\(Program.path)' train \(configuration) --threads 1\" '\(log)'",
        in: prepared.path)
      #expect(result.status == 0)
      let text = try String(contentsOfFile: log, encoding: .utf8)
      #expect(text.contains("\u{1B}[K") == isRedrawn, "\(type): \(text)")
      #expect(text.contains("step 3/3"))
    }
  }
}
