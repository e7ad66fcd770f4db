import Foundation

/// Real clients of the services, which check that our stand-ins behave like the services.
/// `LTX_CLIENTS_PYTHON` names a Python with the packages `wandb` and `huggingface_hub`.
enum PythonClient {
  static let executable = ProcessInfo.processInfo.environment["LTX_CLIENTS_PYTHON"]
  static let isMissing =
    "set LTX_CLIENTS_PYTHON to a Python with wandb and huggingface_hub to run this test"

  /// - Returns: The exit status and the complete output.
  static func run(
    _ arguments: [String], environment: [String: String], in folder: String
  ) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable ?? "/nonexistent")
    process.arguments = arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: output, as: UTF8.self))
  }
}
