import Foundation

/// A separate process that answers line by line: upstream, or this program with one component.
final class Responder {
  private let process = Process()
  private let requests = Pipe()
  private let answers = Pipe()

  init(_ program: String, _ arguments: [String]) throws {
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    process.standardInput = requests
    process.standardOutput = answers
    try process.run()
  }

  func callAsFunction<Answer: Decodable>(_ request: String, as answer: Answer.Type) throws -> Answer
  {
    try requests.fileHandleForWriting.write(contentsOf: Data("\(request)\n".utf8))
    var line = Data()
    while line.last != UInt8(ascii: "\n") {
      guard let byte = try answers.fileHandleForReading.read(upToCount: 1), !byte.isEmpty else {
        throw BenchmarkError("the process ended; its message is above")
      }
      line += byte
    }
    return try JSONDecoder().decode(Answer.self, from: line)
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
