import Foundation
import Media
import Support
import Synchronization

/// The hashes of source files, stored beside the cache. A file is read again only if its size, its
/// times of modification and change, or its inode have changed.
final class SourceHashes: Sendable {
  private struct Entry: Codable, Equatable {
    var bytes: Int
    var modified: String
    var changed: String
    var inode: UInt
    var sha256: String
    /// Whether the file had been unchanged for a while. A recent file may change again within a
    /// tick of the file system's clock.
    var isSettled = true

    private enum CodingKeys: CodingKey { case bytes, modified, changed, inode, sha256 }
  }

  private let path: String
  private let entries: Mutex<(known: [String: Entry], hasChanged: Bool)>

  /// - Parameters:
  ///   - folder: The folder of the cache.
  ///   - share: The share of this process. Each process writes its own file and reads those of all.
  init(folder: String, share: WorkShare) {
    path = "\(folder)/.sources\(share.suffix).json"
    var known: [String: Entry] = [:]
    for name in Self.memories(in: folder).sorted() {
      guard let data = FileManager.default.contents(atPath: "\(folder)/\(name)"),
        let read = Self.decode(data)
      else { continue }  // a lost hash is computed again
      known.merge(read) { $1 }
    }
    entries = Mutex((known, false))
  }

  private static func memories(in folder: String) -> [String] {
    guard FileManager.default.fileExists(atPath: folder) else { return [] }
    do {
      return try FileManager.default.contentsOfDirectory(atPath: folder).filter {
        $0.hasPrefix(".sources") && $0.hasSuffix(".json")
      }
    } catch {
      return []  // lost hashes are computed again
    }
  }

  private static func decode(_ data: Data) -> [String: Entry]? {
    do { return try JSON.decode([String: Entry].self, from: data) } catch { return nil }
  }

  /// Returns a text that changes when the file changes.
  func snapshot(of path: String) throws -> String {
    let now = try status(path)
    return "\(now.st_size) \(Self.text(now.st_mtim)) \(Self.text(now.st_ctim)) \(now.st_ino)"
  }

  /// - Throws: `MediaError` for a file that can't be read.
  func sha256(of path: String) throws -> String {
    let now = try status(path)
    if let entry = entries.withLock({ $0.known[path] }), describes(entry, now) {
      return entry.sha256
    }
    let digest = try SHA256.hex(ofFile: path)
    let after = try status(path)
    guard after.st_size == now.st_size, Self.text(after.st_mtim) == Self.text(now.st_mtim),
      Self.text(after.st_ctim) == Self.text(now.st_ctim), after.st_ino == now.st_ino
    else { throw Self.changed(path) }
    let entry = Entry(
      bytes: Int(now.st_size), modified: Self.text(now.st_mtim), changed: Self.text(now.st_ctim),
      inode: now.st_ino, sha256: digest,
      isSettled: Date().timeIntervalSince1970 - Double(now.st_ctim.tv_sec) > 2)
    entries.withLock {
      $0.known[path] = entry
      $0.hasChanged = true
    }
    return digest
  }

  /// The error of a file that is still being written.
  static func changed(_ path: String) -> MediaError {
    MediaError(
      .decoding, file: path, "was changed while it was read",
      remedy: "Run again when it is finished.")
  }

  private func describes(_ entry: Entry, _ status: stat) -> Bool {
    entry.bytes == Int(status.st_size) && entry.inode == status.st_ino
      && entry.modified == Self.text(status.st_mtim) && entry.changed == Self.text(status.st_ctim)
  }

  private func status(_ path: String) throws -> stat {
    var status = stat()
    guard stat(path, &status) == 0 else {
      throw MediaError(
        .notReadable, file: path,
        errno == ENOENT
          ? "there is no such file" : "can't be examined (\(String(cString: strerror(errno))))",
        remedy: (errno == ENOENT ? MissingFile.hint(path) : nil)
          ?? "Media paths are relative to the dataset. Correct the path or remove the row.")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      let kind = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "a pipe or a device"
      throw MediaError(
        .notReadable, file: path, "is \(kind)", remedy: "Name a media file.")
    }
    return status
  }

  private static func text(_ time: timespec) -> String { "\(time.tv_sec).\(time.tv_nsec)" }

  /// Stores new hashes.
  func save() throws {
    guard let known = entries.withLock({ $0.hasChanged ? $0.known : nil }) else { return }
    try AtomicFile.write(
      try JSON(encoding: known.filter(\.value.isSettled)).data(), to: path, isDurable: false)
    entries.withLock { $0.hasChanged = false }
  }
}
