import Datasets
import Foundation
import Support

/// The file that captions are written to, after each one.
///
/// Other programs may change it meanwhile: an editor, the review page, the other processes of the
/// same run. So every caption is added to the file's present content, under a lock that the writers
/// of this project share, and a caption that somebody else has written is kept.
public struct CaptionFile: Sendable {
  /// The extensions of files that can be written.
  public static let extensions = ["json", "jsonl", "csv", "txt"]

  public let path: String
  private let columns: [Role: String]
  private var table: CaptionTable
  /// The captions at the beginning of the run, by the identity of their clips.
  private let original: [String: [String]]
  /// The position of each clip in the list of clips, by its identity.
  private var order: [String: Int] = [:]

  /// The result of adding a caption.
  public enum Outcome: Equatable, Sendable {
    case written
    /// Somebody else has written another caption meanwhile.
    case kept
  }

  /// - Parameter columns: The columns of media and captions that the user names.
  /// - Throws: `Issue` for a file of another format, or one that can't be read.
  public init(path: String, columns: [Role: String] = [:]) throws {
    let ending = (path as NSString).pathExtension.lowercased()
    guard Self.extensions.contains(ending) else {
      throw Issue(
        ["output", .file(path)],
        "has an unknown extension (got \"\(ending)\", expected "
          + "\(Self.extensions.joined(separator: ", ")))")
    }
    self.path = path
    self.columns = columns
    table = try CaptionTable(path: path, columns: columns)
    original = Dictionary(grouping: table.rows, by: \.identity).mapValues { $0.map(\.caption) }
  }

  /// The folder that media paths are relative to.
  public var folder: String { (path as NSString).deletingLastPathComponent }

  var rows: [CaptionTable.Row] { table.rows }

  /// The clips that have rows, and each of these rows has a caption or is left out.
  var doneClips: Set<String> {
    let open = table.rows.filter { $0.caption.isEmpty && !$0.isLeftOut }
    return Set(table.rows.map(\.identity)).subtracting(open.map(\.identity))
  }

  /// The clips of which a row has a caption.
  var captionedClips: Set<String> {
    Set(table.rows.filter { !$0.caption.isEmpty }.map(\.identity))
  }

  /// Sets the order of rows that are added.
  mutating func setOrder(_ clips: [MediaClip]) {
    for (index, clip) in clips.enumerated() { order[MediaClip.identity(of: clip.path)] = index }
  }

  /// Adds a caption to the file, and writes it.
  ///
  /// - Parameter replaces: Whether a caption that was in the file at the beginning is replaced.
  /// - Throws: `WritingError`, `Issue` for a file that can't be read any more.
  mutating func add(_ caption: String, of clip: MediaClip, replaces: Bool) throws -> Outcome {
    let lock = try Self.locking(path, purpose: "ltx caption")
    defer { lock.release() }
    if try !table.isCurrent() { table = try CaptionTable(path: path, columns: columns) }
    let identity = MediaClip.identity(of: clip.path)
    let places = table.rows.indices.filter { table.rows[$0].identity == identity }
    if places.isEmpty {
      try table.insert(caption, of: clip, at: place(of: identity))
    } else {
      let before = original[identity] ?? []
      let open = places.filter { place in
        let row = table.rows[place]
        return !row.isLeftOut
          && (row.caption.isEmpty || replaces && before.contains(row.caption))
      }
      guard !open.isEmpty else { return .kept }
      for row in open { table.set(caption, row: row) }
    }
    try table.write()
    return .written
  }

  /// The position of a new row: after those of clips before it, so that the file does not depend on
  /// which answer comes first. Rows that exist are never moved.
  private func place(of identity: String) -> Int {
    guard let own = order[identity] else { return table.rows.count }
    var first: Int?
    for index in table.rows.indices.reversed() {
      guard let other = order[table.rows[index].identity] else { continue }
      if other < own { return index + 1 }
      first = index
    }
    return first ?? table.rows.count
  }

  /// Copies the file to a new name beside it, before captions in it are replaced. An equal copy is
  /// not made again.
  ///
  /// - Returns: The path of the copy; nil if there is nothing to copy.
  /// - Throws: `WritingError` if the copy can't be written.
  public func backUp() throws -> String? {
    let lock = try Self.locking(path, purpose: "ltx caption")
    defer { lock.release() }
    var last: String?
    for file in CaptionTable.files(of: path) {
      guard let data = FileManager.default.contents(atPath: file), !data.isEmpty else { continue }
      var number = 1
      var copy = "\(file).backup"
      while let present = FileManager.default.contents(atPath: copy) {
        if present == data { break }
        number += 1
        copy = "\(file).backup-\(number)"
      }
      if !FileManager.default.fileExists(atPath: copy) { try AtomicFile.write(data, to: copy) }
      last = last ?? copy
    }
    return last
  }

  /// Locks a file for reading, changing and writing it, after waiting for other writers.
  ///
  /// - Throws: `Issue` that names the holder if the lock is held for half a minute, `WritingError`.
  public static func locking(_ path: String, purpose: String) throws -> OutputLock {
    let end = Date().addingTimeInterval(30)
    while true {
      do {
        // A file system without locks is reported by the lock of the folder.
        return try OutputLock(file: path, purpose: purpose, warn: { _ in })
      } catch let issue as Issue {
        guard Date() < end else { throw issue }
      }
    }
  }
}
