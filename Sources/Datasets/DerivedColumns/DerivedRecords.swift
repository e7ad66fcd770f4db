import Foundation
import Support

/// The size and modification time of a file, which identify it.
struct FileStamp: Codable, Equatable, Sendable {
  let bytes: Int
  /// Seconds, with nanoseconds after the point.
  let modified: String

  /// Nil for a file that does not exist.
  init?(of path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    bytes = Int(status.st_size)
    modified = "\(status.st_mtim.tv_sec).\(status.st_mtim.tv_nsec)"
  }
}

/// A hidden file that records the inputs of a derived column's values, one line per value.
///
/// The record of a file is appended before the file gets its name, the record of a text as soon as
/// the text is made. A line that was truncated by a kill is ignored.
struct DerivedRecords {
  struct Origin: Codable, Equatable, Sendable {
    /// The path relative to the folder of the records, so that both can be moved.
    let source: String
    let sourceStamp: FileStamp
    let madeBy: String
  }

  private struct Entry: Codable {
    /// The name of the value's file; for a text, the path of the clip in the dataset.
    let file: String
    /// The stamp of the value's file; nil for a text.
    let stamp: FileStamp?
    let origin: Origin
    /// Notes for the user about the value; nil if there are none.
    let notes: [String]?
    /// The text; nil for a file.
    var value: String?
  }

  /// The state of a value's file.
  enum State: Equatable {
    case missing
    /// Made from the wanted origin.
    case current
    /// Made from another origin.
    case outdated
    /// Made by another program, or changed since.
    case foreign
  }

  private let folder: String
  private let path: String
  private var entries: [String: [Entry]] = [:]
  /// Whether the file ends in the middle of a line.
  private var isTorn = false

  /// Reads the records of a folder, if it has any.
  ///
  /// - Throws: `Issue` for records that can't be read.
  init(folder: String, name: String) throws {
    self.folder = folder
    path = "\(folder)/\(name)"
    guard FileManager.default.fileExists(atPath: path) else { return }
    let data: Data
    do { data = try Data(contentsOf: URL(fileURLWithPath: path)) } catch {
      throw Issue([.file(path)], "can't be read: \(reason(of: error))")
    }
    isTorn = data.last.map { $0 != UInt8(ascii: "\n") } ?? false
    for line in data.split(separator: UInt8(ascii: "\n")) {
      // The value of a truncated line has an unknown origin, which is reported.
      guard let entry = try? JSON.decode(Entry.self, from: line) else { continue }
      entries[entry.file, default: []].append(entry)
    }
  }

  // MARK: Files

  func state(of file: String, wanted: Origin) -> State {
    guard let stamp = FileStamp(of: "\(folder)/\(file)") else { return .missing }
    guard let entry = entries[file]?.last(where: { $0.stamp == stamp }) else { return .foreign }
    return entry.origin == wanted ? .current : .outdated
  }

  /// Returns the notes of a file.
  func notes(of file: String) -> [String] {
    guard let stamp = FileStamp(of: "\(folder)/\(file)") else { return [] }
    return entries[file]?.last { $0.stamp == stamp }?.notes ?? []
  }

  /// - Throws: `WritingError` if the records can't be written.
  mutating func add(_ file: String, stamp: FileStamp, origin: Origin, notes: [String]) throws {
    try add(
      Entry(file: file, stamp: stamp, origin: origin, notes: notes.isEmpty ? nil : notes))
  }

  // MARK: Texts

  /// Returns the text that was made from the wanted origin; nil if there isn't one.
  func text(of media: String, wanted: Origin) -> DerivedValue? {
    entries[media]?.last { $0.origin == wanted && $0.value != nil }
      .map { DerivedValue(text: $0.value, notes: $0.notes ?? []) }
  }

  /// Returns whether a text was made from the clip, with any options.
  func hasMade(_ text: String, of media: String) -> Bool {
    entries[media]?.contains { $0.value == text } ?? false
  }

  /// - Throws: `WritingError` if the records can't be written.
  mutating func add(_ media: String, _ value: DerivedValue, origin: Origin) throws {
    try add(
      Entry(
        file: media, stamp: nil, origin: origin, notes: value.notes.isEmpty ? nil : value.notes,
        value: value.text))
  }

  private mutating func add(_ entry: Entry) throws {
    do {
      let line =
        (isTorn ? Data("\n".utf8) : Data()) + (try JSON(encoding: entry).data()) + Data("\n".utf8)
      let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o644)
      guard descriptor >= 0 else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
      let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
      try handle.write(contentsOf: line)
      try handle.close()
    } catch {
      throw WritingError(path: path, error)
    }
    isTorn = false
    entries[entry.file, default: []].append(entry)
  }
}
