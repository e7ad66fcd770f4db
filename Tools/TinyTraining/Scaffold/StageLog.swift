import Foundation
import Support

/// The metrics of a stage: a JSON object per line, with the step and the seconds of training.
final class StageLog {
  private let path: String

  /// Opens the log of a stage. Lines of later steps are removed: they belong to steps that a
  /// process made after its last state, and that are made again.
  init(path: String, resumingAt step: Int) throws {
    self.path = path
    guard isFile(path) else { return }
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    let kept = lines.filter { line in
      guard let json = try? JSON(parsing: String(line)), let number = json.object?["step"]?.int
      else { return false }  // A line that was cut off.
      return number <= step
    }
    let text = kept.map { "\($0)\n" }.joined()
    try AtomicFile.write(Data(text.utf8), to: path)
  }

  /// - Returns: The line.
  func append(step: Int, seconds: Double, _ metrics: [StageMetric]) throws -> String {
    let values = metrics.map { metric in
      "\"\(metric.name)\": \(metric.value.isFinite ? rounded(metric.value) : "null")"
    }
    let line =
      "{"
      + (["\"step\": \(step)", "\"seconds\": \(Int(seconds))"] + values).joined(separator: ", ")
      + "}"
    if !isFile(path) { try AtomicFile.write(Data(), to: path) }
    let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
    defer { try? handle.close() }  // Everything is written; a later line would report a problem.
    try handle.seekToEnd()
    try handle.write(contentsOf: Data("\(line)\n".utf8))
    return line
  }

  /// A number with five digits.
  private func rounded(_ value: Double) -> String { String(format: "%.5g", value) }
}
