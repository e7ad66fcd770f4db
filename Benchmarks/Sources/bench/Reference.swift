import Foundation

/// The reference's side of the step, in a process of its own that answers line by line.
final class Reference {
  private let process = Process()
  private let requests = Pipe()
  private let answers = Pipe()

  /// - Parameter python: of an environment with ltx-core 1.0.0 and peft.
  init(python: String, script: String, _ stepCase: StepCase, threads: Int) throws {
    process.executableURL = URL(fileURLWithPath: python)
    process.arguments = [
      script, stepCase.checkpoint, stepCase.inputs, String(StepCase.rank), String(threads),
    ]
    process.standardInput = requests
    process.standardOutput = answers
    try process.run()
  }

  func callAsFunction(_ activations: String, _ timesteps: Timesteps) throws -> StepResult {
    try requests.fileHandleForWriting.write(contentsOf: Data("\(activations) \(timesteps.rawValue)\n".utf8))
    var line = Data()
    while line.last != UInt8(ascii: "\n") {
      guard let byte = try answers.fileHandleForReading.read(upToCount: 1), !byte.isEmpty else {
        throw BenchmarkError("the reference's process ended; its message is above")
      }
      line += byte
    }
    return try JSONDecoder().decode(StepResult.self, from: line)
  }

  func end() throws {
    try requests.fileHandleForWriting.close()
    process.waitUntilExit()
  }
}

struct BenchmarkError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}
