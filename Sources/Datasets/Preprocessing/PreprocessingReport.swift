import Foundation
import Media
import Support

/// The result of preprocessing a dataset: counts, and all problems and notes with their reasons.
public struct PreprocessingReport: Codable, Sendable {
  public enum Severity: String, Codable, Sendable {
    /// A requested file could not be made.
    case failure
    /// A file was made, but the result is less than expected.
    case warning
  }

  public struct Problem: Codable, Sendable, Equatable, CustomStringConvertible {
    public let severity: Severity
    /// The dataset file or folder.
    public let dataset: String
    /// The line in the dataset file; nil in a folder.
    public let line: Int?
    /// The sample's name in the cache; nil for a row that can't be read.
    public let sample: String?
    /// The folder of the file that was not made; nil for the whole row.
    public let folder: CacheFolder?
    /// The file if there is one, the problem, and the remedy.
    public let reason: String

    /// `dataset.json:3: clip.mp4: the problem. The remedy.`
    public var description: String { (line.map { "\(dataset):\($0)" } ?? dataset) + ": \(reason)" }
  }

  public struct Count: Codable, Sendable, Equatable {
    public var encoded = 0
    public var upToDate = 0
    public var failed = 0
  }

  public let dataset: String
  public let outputFolder: String
  /// The number of this process, from 0, and of all processes.
  public let process: Int
  public let processes: Int
  /// The time at which the run began, ISO 8601.
  public let began: String
  public var seconds = 0.0
  /// The number of rows that this process worked on.
  public var rows = 0
  /// The number of samples whose files were all up to date.
  public var upToDate = 0
  public var counts: [CacheFolder: Count] = [:]
  /// The number of clips that lack the wanted audio.
  public var withoutAudio = 0
  /// The files of a dataset folder that are skipped, each with its reason. The first of several
  /// processes lists them.
  public var skipped: [SkippedFile] = []
  /// The number of hidden files and folders, which are also skipped.
  public var hiddenFiles = 0
  /// The number of samples with silent audio, from this run or an earlier one.
  public var withSilentAudio = 0
  public var notes: [String] = []
  public var problems: [Problem] = []
  /// The reason why the run ended early; nil if it didn't.
  public var interruption: String?

  public var failures: [Problem] { problems.filter { $0.severity == .failure } }
  public var warnings: [Problem] { problems.filter { $0.severity == .warning } }

  init(dataset: String, outputFolder: String, share: WorkShare) {
    self.dataset = dataset
    self.outputFolder = outputFolder
    process = share.index
    processes = share.count
    began = Date().formatted(.iso8601)
  }

  /// The path of the report.
  public var path: String {
    "\(outputFolder)/report\(WorkShare(index: process, count: processes).suffix).json"
  }

  /// Sorts the problems in the order of the dataset.
  mutating func sort() {
    problems.sort {
      ($0.line ?? 0, $0.sample ?? "", $0.reason) < ($1.line ?? 0, $1.sample ?? "", $1.reason)
    }
  }

  /// The counts as a table, with a line for each folder that has any.
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
  /// - Throws: `WritingError`.
  func write(share: WorkShare) throws {
    try AtomicFile.write(try JSON(encoding: self).data(.pretty), to: path)
  }
}
