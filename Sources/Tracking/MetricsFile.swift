import Foundation
import Support

/// `metrics.jsonl`: one JSON object per line, a `StepRecord` for each step and a `ValidationRecord`
/// for each validation, with steps that never decrease.
public final class MetricsFile {
  public let path: String
  private let file: FileHandle
  private var length: UInt64

  /// Opens the file for appending; creates it if it does not exist.
  ///
  /// The remains of a killed run are removed from the end: an incomplete line, and records of steps
  /// after `step`, which will be repeated.
  ///
  /// - Parameter step: the step that the run resumes after; 0 removes all records.
  /// - Throws: `Issue` if the file can't be read or written.
  public init(path: String, resumingAfter step: Int) throws {
    self.path = path
    do {
      if !FileManager.default.fileExists(atPath: path) {
        try Data().write(to: URL(fileURLWithPath: path))
      }
      let data = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
      length = step > 0 ? UInt64(Self.length(of: data, upTo: step)) : 0
      file = try FileHandle(forUpdating: URL(fileURLWithPath: path))
      try file.truncate(atOffset: length)
    } catch {
      throw Self.failure(path, error)
    }
  }

  public func append(_ record: StepRecord) throws { try write(record) }
  public func append(_ record: ValidationRecord) throws { try write(record) }

  /// Closes the file; nothing can be appended afterwards.
  public func close() throws {
    do { try file.close() } catch { throw Self.failure(path, error) }
  }

  /// Writes a line in one call, so that a kill leaves at most the last line incomplete.
  private func write(_ record: some Encodable) throws {
    do {
      let line = try JSON(encoding: record).data() + Data([UInt8(ascii: "\n")])
      try file.write(contentsOf: line)
      length += UInt64(line.count)
    } catch {
      // A full disk may have stored part of the line; the next line must not be appended to it.
      try? file.truncate(atOffset: length)
      throw Self.failure(path, error)
    }
  }

  private static func failure(_ path: String, _ error: any Error) -> Issue {
    Issue(
      [.file(path)], "can't be written (\(reason(of: error)))",
      suggestion: "Check the room on the disk and the rights of its folder.")
  }

  /// Returns the number of bytes before the records of later steps and an incomplete last line.
  /// Steps never decrease, so only the end of the file is examined.
  private static func length(of data: Data, upTo step: Int) -> Int {
    // Text after the last line end is incomplete.
    var end = (data.lastIndex(of: UInt8(ascii: "\n")) ?? data.startIndex - 1) + 1
    while end > data.startIndex {
      let before = data[..<(end - 1)]
      let start = (before.lastIndex(of: UInt8(ascii: "\n")) ?? before.startIndex - 1) + 1
      // A line that is not a record stays only if a record follows it.
      if let record = try? MetricsRecord(line: before[start...]), record.step <= step { break }
      end = start
    }
    return end - data.startIndex
  }
}

/// A line of `metrics.jsonl`.
enum MetricsRecord: Equatable {
  case step(StepRecord)
  case validation(ValidationRecord)

  var step: Int {
    switch self {
    case .step(let record): record.step
    case .validation(let record): record.step
    }
  }

  private struct Line: Decodable {
    let record: MetricsRecord

    init(from decoder: any Decoder) throws {
      let isValidation = try decoder.container(keyedBy: ValidationRecord.CodingKeys.self).contains(
        .loss)
      record =
        isValidation
        ? .validation(try ValidationRecord(from: decoder)) : .step(try StepRecord(from: decoder))
    }
  }

  /// - Throws: an error for a line that is not a record.
  init(line: Data) throws {
    self = try JSON.decode(Line.self, from: line).record
  }
}

/// The records of a `metrics.jsonl`.
public struct RecordedMetrics: Sendable, Equatable {
  public var steps: [StepRecord]
  public var validations: [ValidationRecord]
  /// The numbers, from 1, of lines that are not records. A last line without a line end is not
  /// included, because it is still being written.
  public var damagedLines: [Int]

  public init(
    steps: [StepRecord] = [], validations: [ValidationRecord] = [], damagedLines: [Int] = []
  ) {
    self.steps = steps
    self.validations = validations
    self.damagedLines = damagedLines
  }

  /// Reads only the validations of a file, which is fast for any number of steps.
  ///
  /// - Throws: `Issue` if the file can't be read.
  public static func validations(path: String) throws -> [ValidationRecord] {
    let data: Data
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
    } catch {
      throw Issue([.file(path)], "can't be read (\(reason(of: error)))")
    }
    let key = Data("\"\(ValidationRecord.CodingKeys.loss.rawValue)\"".utf8)
    var found: [ValidationRecord] = []
    for line in data.split(separator: UInt8(ascii: "\n")) where line.range(of: key) != nil {
      // Damaged lines are counted by `init`, which reads the whole file.
      guard let record = try? JSON.decode(ValidationRecord.self, from: line) else { continue }
      if found.last?.step == record.step { found.removeLast() }
      found.append(record)
    }
    return found
  }

  /// - Throws: `Issue` if the file can't be read.
  public init(path: String) throws {
    self.init()
    let data: Data
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
    } catch {
      throw Issue([.file(path)], "can't be read (\(reason(of: error)))")
    }
    let lines = data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (index, line) in lines.dropLast().enumerated() {
      do {
        switch try MetricsRecord(line: line) {
        case .step(let record): steps.append(record)
        case .validation(let record):
          // Repeated by a run that resumed from this step.
          if validations.last?.step == record.step { validations.removeLast() }
          validations.append(record)
        }
      } catch {
        damagedLines.append(index + 1)
      }
    }
  }
}
