import Foundation
import Support
import TensorFiles

/// The locks on a command's outputs, so that two commands never write to the same place at once.
struct OutputLocks {
  /// The name of the lock holder, such as `ltx train`.
  let purpose: String
  private var locks: [OutputLock] = []
  private var lockedPlaces: Set<String> = []

  init(_ purpose: String) { self.purpose = purpose }

  /// Locks a folder, and creates it if it is missing. If the folder can't be written, the work
  /// itself reports that.
  ///
  /// - Parameter share: this process's share, if several processes write the same output.
  /// - Throws: `Issue` where another process holds it.
  mutating func lock(folder: String, share: WorkShare? = nil) throws {
    guard OutputFolder.problem(folder) == nil, isNew(folder) else { return }
    locks.append(try OutputLock(folder: folder, purpose: purpose, share: share, warn: Self.warn))
  }

  /// Locks a file in a folder that exists.
  ///
  /// - Throws: `Issue` where another process holds it.
  mutating func lock(file: String) throws {
    guard OutputFile.problem(file) == nil, isNew(file) else { return }
    locks.append(try OutputLock(file: file, purpose: purpose, warn: Self.warn))
  }

  /// Releases all locks. Must be called when the work is done or has failed.
  func release() {
    for lock in locks { lock.release() }
  }

  private mutating func isNew(_ path: String) -> Bool {
    lockedPlaces.insert(URL(fileURLWithPath: path).resolvingSymlinksInPath().path).inserted
  }

  private static func warn(_ message: String) { printError("warning: \(message)") }
}
