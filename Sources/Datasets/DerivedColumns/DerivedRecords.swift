import Foundation
import Support

/// Size and time of change of a file, by which it is known again.
struct FileStamp: Codable, Equatable, Sendable {
  let bytes: Int
  /// Seconds, and billionths after the point.
  let modified: String

  /// Nil for a file that is not there.
  init?(of path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    bytes = Int(status.st_size)
    modified = "\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)"
  }
}

/// What references were made from, in a file of the folder that they lie in: a line for each, added
/// before the reference gets its name. A line that was cut off by a kill counts as none.
struct ReferenceRecords {
  static let fileName = ".ltx-references.jsonl"

  struct Origin: Codable, Equatable, Sendable {
    /// Path from the records' folder, so that both may move.
    let source: String
    let sourceStamp: FileStamp
    let madeBy: String
  }

  private struct Entry: Codable {
    let file: String
    let stamp: FileStamp
    let origin: Origin
    /// What was to be told of the making; nil for nothing.
    let notes: [String]?
  }

  enum State: Equatable {
    /// There is no such file.
    case missing
    /// Made by `ltx` from just this.
    case current
    /// Made by `ltx` from something else.
    case outdated
    /// Of another origin, or changed since.
    case foreign
  }

  private let path: String
  private var entries: [String: [Entry]] = [:]
  /// Whether the file ends in the middle of a line.
  private var isTorn = false

  /// - Throws: `PreprocessingError` if there are records that can't be read.
  init(folder: String) throws {
    path = "\(folder)/\(Self.fileName)"
    guard FileManager.default.fileExists(atPath: path) else { return }
    let data: Data
    do { data = try Data(contentsOf: URL(fileURLWithPath: path)) } catch {
      throw PreprocessingError(.writing, file: path, "can't be read: \(reason(of: error))")
    }
    isTorn = data.last.map { $0 != UInt8(ascii: "\n") } ?? false
    for line in data.split(separator: UInt8(ascii: "\n")) {
      // A line that a kill cut off: its reference then counts as one of unknown origin, which is
      // told.
      guard let entry = try? JSONDecoder().decode(Entry.self, from: line) else { continue }
      entries[entry.file, default: []].append(entry)
    }
  }

  func state(of file: String, in folder: String, wanted: Origin) -> State {
    guard let stamp = FileStamp(of: "\(folder)/\(file)") else { return .missing }
    guard let entry = entries[file]?.last(where: { $0.stamp == stamp }) else { return .foreign }
    return entry.origin == wanted ? .current : .outdated
  }

  /// What was told when a file was made.
  func notes(of file: String, in folder: String) -> [String] {
    let stamp = FileStamp(of: "\(folder)/\(file)")
    return entries[file]?.last { $0.stamp == stamp }?.notes ?? []
  }

  /// - Throws: `PreprocessingError` if it can't be written.
  mutating func add(_ file: String, stamp: FileStamp, origin: Origin, notes: [String] = []) throws {
    let entry = Entry(file: file, stamp: stamp, origin: origin, notes: notes.isEmpty ? nil : notes)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    do {
      let line = (isTorn ? Data("\n".utf8) : Data()) + (try encoder.encode(entry)) + Data("\n".utf8)
      let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o644)
      guard descriptor >= 0 else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
      let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
      try handle.write(contentsOf: line)
      try handle.close()
    } catch {
      throw PreprocessingError(.writing, file: path, "can't be written: \(reason(of: error))")
    }
    isTorn = false
    entries[file, default: []].append(entry)
  }
}
