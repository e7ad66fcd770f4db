import Foundation
import Media
import Support

/// What became of a dataset: counts, and everything that went wrong or is worth knowing, with its
/// reason.
public struct PreprocessingReport: Codable, Sendable {
  public enum Severity: String, Codable, Sendable {
    /// Something that was asked for was not made.
    case failure
    /// Something was made, but not of all that one would think.
    case warning
  }

  public struct Problem: Codable, Sendable, Equatable, CustomStringConvertible {
    public let severity: Severity
    /// The dataset file, or folder.
    public let dataset: String
    /// The line in it, where it has lines.
    public let line: Int?
    /// The sample's name in the cache; nil for a row that can't be read.
    public let sample: String?
    /// What was not made; nil for the whole row.
    public let folder: CacheFolder?
    /// The file where there is one, what is wrong, what to do.
    public let reason: String

    /// `dataset.json:3: clip.mp4: what is wrong. What to do.`
    public var description: String { (line.map { "\(dataset):\($0)" } ?? dataset) + ": \(reason)" }
  }

  public struct Count: Codable, Sendable, Equatable {
    public var encoded = 0
    public var upToDate = 0
    public var failed = 0
  }

  public let dataset: String
  public let outputFolder: String
  /// Which of how many processes this is.
  public let process: Int
  public let processes: Int
  /// When it began, ISO 8601.
  public let began: String
  public var seconds = 0.0
  /// Rows of the dataset that this process worked on.
  public var rows = 0
  /// Samples all of whose files were there and fitting.
  public var upToDate = 0
  public var counts: [CacheFolder: Count] = [:]
  /// Clips from which sound was to be taken and that have none.
  public var withoutAudio = 0
  /// Files of a dataset's folder that are skipped, each with its reason; of several processes, the
  /// first lists them.
  public var skipped: [SkippedFile] = []
  /// How many hidden files and folders are skipped besides.
  public var hiddenFiles = 0
  /// Samples whose audio latents, from this run or an earlier one, are of silence.
  public var withSilentAudio = 0
  public var notes: [String] = []
  public var problems: [Problem] = []
  /// Why the work ended before its end; nil if it did not.
  public var interruption: String?

  public var failures: [Problem] { problems.filter { $0.severity == .failure } }
  public var warnings: [Problem] { problems.filter { $0.severity == .warning } }

  init(dataset: String, outputFolder: String, share: ProcessShare) {
    self.dataset = dataset
    self.outputFolder = outputFolder
    process = share.index
    processes = share.count
    began = Date().formatted(.iso8601)
  }

  /// The path of the report.
  public var path: String {
    "\(outputFolder)/report\(ProcessShare(index: process, count: processes, localIndex: 0).suffix).json"
  }

  /// Problems in the order of the dataset.
  mutating func sort() {
    problems.sort {
      ($0.line ?? 0, $0.sample ?? "", $0.reason) < ($1.line ?? 0, $1.sample ?? "", $1.reason)
    }
  }

  /// The counts as a table, a line for each folder that has any.
  public var table: String {
    let rows = CacheFolder.all.compactMap { folder in
      counts[folder].map { (folder.rawValue, $0) }
    }
    guard !rows.isEmpty else { return "" }
    func cell(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(0, width - text.count)) + text
    }
    let width = rows.map(\.0.count).max() ?? 0
    let lines = rows.map { name, count in
      name + String(repeating: " ", count: width - name.count) + cell("\(count.encoded)", 9)
        + cell("\(count.upToDate)", 12) + cell("\(count.failed)", 8)
    }
    let header =
      String(repeating: " ", count: width) + cell("encoded", 9) + cell("up to date", 12)
      + cell("failed", 8)
    return ([header] + lines).joined(separator: "\n")
  }

  /// Writes `report.json`.
  ///
  /// - Throws: `PreprocessingError` of kind `.writing`.
  func write(share: ProcessShare) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    try AtomicFile.write(try encoder.encode(self), to: path) {
      PreprocessingError(.writing, file: path, "\($0.problem). \($0.remedy)")
    }
  }
}
