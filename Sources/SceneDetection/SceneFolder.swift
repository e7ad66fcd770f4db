import Foundation
import Media
import Support

/// The output folder of a split. Files are written to a hidden folder beside it and moved when all
/// are complete; if a split fails or is stopped, the output folder is unchanged.
final class SceneFolder {
  let output: String
  /// The hidden folder.
  let staging: String
  /// The folders created for it, the outermost first.
  private var made: [String] = []
  private var moves: [(from: String, name: String)] = []
  private var isDone = false

  /// - Throws: `MediaError` if the folder can't be created.
  init(_ output: String, stem: String) throws {
    self.output = output
    staging = output + "/.\(stem).partial"
    var missing = URL(fileURLWithPath: output).standardizedFileURL
    while !FileManager.default.fileExists(atPath: missing.path), missing.path != "/" {
      made.insert(missing.path, at: 0)
      missing.deleteLastPathComponent()
    }
    TemporaryFiles.add(staging)
    do {
      try FileManager.default.createDirectory(atPath: output, withIntermediateDirectories: true)
      // Left behind by a killed run.
      if FileManager.default.fileExists(atPath: staging) {
        try FileManager.default.removeItem(atPath: staging)
      }
      try FileManager.default.createDirectory(atPath: staging, withIntermediateDirectories: false)
    } catch {
      TemporaryFiles.remove(staging)
      removeMade()
      throw MediaError(
        .writing, file: output, "the folder can't be created (\(reason(of: error)))",
        remedy: "Choose another output folder.")
    }
  }

  deinit { if !isDone { discard() } }

  /// A temporary path for a file with a name in the output folder.
  func place(for name: String) -> String {
    moves.append((staging + "/" + name, name))
    return staging + "/" + name
  }

  /// Sets the final name of a file in the hidden folder.
  func add(_ path: String, as name: String) { moves.append((path, name)) }

  /// Moves everything to its destination, and removes files of an earlier run.
  func commit(removing stale: [String]) throws {
    for move in moves {
      let target = output + "/" + move.name
      if isFolder(target) {
        throw MediaError(
          .writing, file: target, "is a folder, where a file is to go",
          remedy: "Move the folder away.")
      }
    }
    for move in moves where rename(move.from, output + "/" + move.name) != 0 {
      throw MediaError(
        .writing, file: output + "/" + move.name,
        "cannot be put into place (\(String(cString: strerror(errno))))",
        remedy: "Check the rights of the folder.")
    }
    for name in stale where !moves.contains(where: { $0.name == name }) {
      unlink(output + "/" + name)
    }
    rmdir(staging)
    TemporaryFiles.remove(staging)
    isDone = true
  }

  private func discard() {
    // If it can't be removed, the next run tries again.
    try? FileManager.default.removeItem(atPath: staging)
    TemporaryFiles.remove(staging)
    removeMade()
  }

  /// Removes created folders that are empty.
  private func removeMade() { for folder in made.reversed() { rmdir(folder) } }
}
