import Foundation
import TestSupport
import Testing

/// The `ltx` program of this build, run as a user runs it.
enum Program {
  /// The program is next to the test bundle, in any build folder.
  static let path: String = {
    let arguments = CommandLine.arguments
    let bundle =
      arguments.firstIndex(of: "--test-bundle-path").map { arguments[$0 + 1] }
      ?? arguments.first { $0.hasSuffix(".xctest") } ?? arguments[0]
    return URL(fileURLWithPath: bundle).deletingLastPathComponent().appendingPathComponent("ltx")
      .path
  }()

  struct Result {
    let status: Int32
    let output: String
    let errors: String
  }

  private static let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

  /// Whether the program can be started as an unprivileged user.
  static let canRunAsNobody: Bool = {
    guard getuid() == 0 else { return false }
    do {
      let scratch = try ScratchFolder()
      return try run(["--version"], in: scratch.path, asNobody: true).status == 0
    } catch {
      return false
    }
  }()

  /// Starts the program. Its output goes to `stdout.txt` and `stderr.txt`, so that no pipe can fill
  /// up.
  ///
  /// - Parameters:
  ///   - outputs: the folder of the output files; nil for `folder`.
  ///   - environment: variables in addition to those of the tests.
  ///   - asNobody: whether it runs as an unprivileged user, which only root can do.
  static func start(
    _ arguments: [String], in folder: String, environment: [String: String] = [:],
    asNobody: Bool = false, outputs: String? = nil
  ) throws -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: asNobody ? "/usr/bin/env" : path)
    process.arguments = (asNobody ? nobody + [path] : []) + arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    // Spinning threads would take CPU time from the tests that run at the same time.
    process.environment = ProcessInfo.processInfo.environment.merging(["OMP_WAIT_POLICY": "passive"]
    ) { $1 }
    .merging(environment) { $1 }
    for (name, assign) in [
      ("stdout.txt", { process.standardOutput = $0 }),
      ("stderr.txt", { process.standardError = $0 }),
    ] as [(String, (FileHandle) -> Void)] {
      let file = URL(fileURLWithPath: "\(outputs ?? folder)/\(name)")
      try Data().write(to: file)
      assign(try FileHandle(forWritingTo: file))
    }
    process.standardInput = FileHandle.nullDevice
    try process.run()
    return process
  }

  /// Runs the program to its end. Tests may run several programs in one folder at the same time.
  @discardableResult
  static func run(
    _ arguments: [String], in folder: String, environment: [String: String] = [:],
    asNobody: Bool = false
  ) throws -> Result {
    let outputs = try ScratchFolder()
    return try withExtendedLifetime(outputs) {
      try result(
        of: start(
          arguments, in: folder, environment: environment, asNobody: asNobody,
          outputs: outputs.path),
        in: outputs.path)
    }
  }

  /// Waits for a program that `start` has started, with its output files in a folder.
  static func result(of process: Process, in folder: String) throws -> Result {
    process.waitUntilExit()
    func text(_ name: String) throws -> String {
      try String(contentsOfFile: "\(folder)/\(name)", encoding: .utf8)
    }
    return Result(
      status: process.terminationStatus, output: try text("stdout.txt"),
      errors: try text("stderr.txt"))
  }
}

/// A folder that is removed after the test.
final class Workshop: Sendable {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "ltx-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit {
    try? FileManager.default.removeItem(atPath: path)
  }

  func write(_ name: String, _ text: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
  }

  func lines(_ name: String) throws -> [String] {
    try String(contentsOfFile: "\(path)/\(name)", encoding: .utf8).split(separator: "\n").map(
      String.init)
  }
}

/// Real clips, downloaded by ./test.
enum Clips {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent(".deps/media").path

  /// Four H.264 clips of different sizes.
  static func all() throws -> [String] {
    let names = [
      "bigbuckbunny.mp4", "bikes.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4",
    ]
    for name in names where !FileManager.default.fileExists(atPath: "\(folder)/\(name)") {
      Issue.record("the test clip \(name) is not there; run Scripts/test-media")
    }
    return names.map { "\(folder)/\($0)" }
  }
}
