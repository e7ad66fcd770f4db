import Foundation
import Support

/// A run on the disk: `wandb/[offline-]run-YYYYMMDD_HHMMSS-<id>` with `run-<id>.wandb` and
/// `files/`. `wandb sync` sends it.
///
/// Must be used by one thread at a time.
final class WandBRunFolder {
  let path: String
  private let run: WandBRun
  private let log: RecordLog
  private var records = 0

  /// - Throws: `WritingError` or `Issue` if the folder can't be made.
  init(_ run: WandBRun, in parent: String, isOffline: Bool) throws {
    self.run = run
    let format = DateFormatter()
    format.locale = Locale(identifier: "en_US_POSIX")
    format.dateFormat = "yyyyMMdd_HHmmss"
    let base =
      "\(parent)/wandb/\(isOffline ? "offline-run" : "run")-\(format.string(from: run.start))-\(run.id)"
    // Two starts within the same second must not share a folder.
    var path = base
    var attempt = 1
    while FileManager.default.fileExists(atPath: path) {
      attempt += 1
      path = "\(base)-\(attempt)"
    }
    self.path = path
    try makeFolder(path + "/files")
    log = try RecordLog(path: "\(path)/run-\(run.id).wandb")
    let host = ProcessInfo.processInfo.hostName
    try append(.header)
    try append(.run(run, host: host))
    try write(Data(run.configurationYAML.utf8), to: "config.yaml")
    try write(try Self.metadata(of: run, host: host), to: "wandb-metadata.json")
  }

  func append(_ record: WandBRecord) throws {
    records += 1
    try log.append(record.data(number: records))
  }

  /// Writes one of our own files below `files/`, completely or not at all. It may be lost in a
  /// power cut: waiting for the disk at every step, as `Data.write` does, would take several
  /// milliseconds.
  func write(_ data: Data, to name: String) throws {
    try AtomicFile.write(data, to: filePath(name), isDurable: false)
  }

  /// Copies an image, video or audio file below `files/`, and names it in the record.
  func addMedia(from source: String, as name: String) throws {
    let target = filePath(name)
    try makeFolder(of: target)
    if !FileManager.default.fileExists(atPath: target) {
      do { try FileManager.default.copyItem(atPath: source, toPath: target) } catch {
        throw Issue([.file(source)], "can't be copied to \(target) (\(reason(of: error)))")
      }
    }
    try append(.file(name, isMedia: true))
  }

  func addMedia(_ data: Data, as name: String) throws {
    try makeFolder(of: filePath(name))
    try write(data, to: name)
    try append(.file(name, isMedia: true))
  }

  func filePath(_ name: String) -> String { "\(path)/files/\(name)" }

  /// Ends the record. `append` must not follow.
  func finish(exitCode: Int, summary: Data) throws {
    try write(summary, to: Self.summaryFile)
    for name in Self.ownFiles { try append(.file(name, isMedia: false)) }
    try append(.exit(code: exitCode, seconds: Int(Date().timeIntervalSince(run.start))))
    try log.close()
  }

  static let summaryFile = "wandb-summary.json"
  /// The files that we write ourselves.
  static let ownFiles = ["config.yaml", "wandb-metadata.json", summaryFile]

  /// Returns the last step that earlier starts of the run have recorded in this folder; nil if
  /// there are none.
  static func lastStep(of id: String, in parent: String) -> Int? {
    // A folder that can't be read counts as empty; at worst, some steps are recorded twice.
    let names = (try? FileManager.default.contentsOfDirectory(atPath: parent + "/wandb")) ?? []
    let ours = names.filter { name in
      guard let start = name.firstMatch(of: /run-\d{8}_\d{6}-/) else { return false }
      let rest = name[start.range.upperBound...]
      return rest == id || (rest.hasPrefix(id + "-") && Int(rest.dropFirst(id.count + 1)) != nil)
    }
    return ours.compactMap { name in
      let file = URL(fileURLWithPath: "\(parent)/wandb/\(name)/files/\(summaryFile)")
      return (try? JSON(parsing: Data(contentsOf: file)))?["_step"]?.int
    }.max()
  }

  private static func metadata(of run: WandBRun, host: String) throws -> Data {
    JSON.object([
      "host": .string(host), "program": "ltx", "startedAt": .string(run.start.formatted(.iso8601)),
      "args": .array(ProcessInfo.processInfo.arguments.dropFirst().map(JSON.string)),
      "os": .string(ProcessInfo.processInfo.operatingSystemVersionString),
      "cpu_count_logical": JSON(ProcessInfo.processInfo.processorCount),
      "memory": ["total": .string(String(ProcessInfo.processInfo.physicalMemory))],
    ]).data()
  }
}
