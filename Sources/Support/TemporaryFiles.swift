import Foundation
import Synchronization

/// The unfinished files and folders of this process, so that none of them outlives it.
///
/// Code that ends the process early, such as a signal handler, calls `exit(_:)`. After a `kill -9`
/// or a power failure the next process that writes into the same folder removes the leftovers: see
/// `sweep(_:)`.
public enum TemporaryFiles {
  private static let paths = Mutex<Set<String>>([])
  private static let sweptFolders = Mutex<Set<String>>([])

  /// Creates a file and registers its path as one step: `exit(_:)` waits until `body` ends.
  ///
  /// - Parameters:
  ///   - isOurs: Whether the result of `body` is a file that this process removes.
  ///   - body: Creates the file at the path.
  static func create<R>(
    _ path: String, isOurs: (R) -> Bool, body: () throws -> R
  ) rethrows -> R {
    try paths.withLock {
      let result = try body()
      if isOurs(result) { $0.insert(path) }
      return result
    }
  }

  /// Registers a path that is about to be created.
  public static func add(_ path: String) { paths.withLock { _ = $0.insert(path) } }

  /// Forgets a path that is finished or removed.
  public static func remove(_ path: String) { paths.withLock { _ = $0.remove(path) } }

  /// Removes all registered files and folders, and ends the process at once.
  public static func exit(_ status: Int32) -> Never {
    paths.withLock { paths in
      // The lock is never released: no thread can begin another file.
      for path in paths where unlink(path) != 0 && errno != ENOENT {
        try? FileManager.default.removeItem(atPath: path)  // nobody is left to report to
      }
      _exit(status)
    }
  }

  // MARK: Names

  /// A name beside `path` that identifies the host: `.name.ltx-HHHHHHRRRRRRRRRRRRR.partial`.
  public static func name(beside path: String) -> String {
    let (folder, file) = split(path)
    var stem = ""
    // The system's limit is 255 bytes.
    for character in file where stem.utf8.count + String(character).utf8.count <= 120 {
      stem.append(character)
    }
    let random = String(UInt64.random(in: .min ... .max), radix: 36)
    let padding = String(repeating: "0", count: max(0, 13 - random.count))
    return "\(folder).\(stem)\(marker)\(hostTag)\(padding)\(random)\(ending)"
  }

  private static let marker = ".ltx-"
  private static let ending = ".partial"
  private static let tagLength = 6

  /// Identifies the host: a lock doesn't show whether a writer on another host of a network file
  /// system is alive.
  private static let hostTag: String = {
    let hash = Host.name.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) {
      ($0 ^ UInt64($1)) &* 0x100_0000_01b3
    }
    let text = String(hash % 2_176_782_336, radix: 36)  // 36^6
    return String(repeating: "0", count: tagLength - text.count) + text
  }()

  /// The folder with its slash, or an empty string, and the file's name.
  static func split(_ path: String) -> (folder: Substring, file: Substring) {
    let start = path.lastIndex(of: "/").map(path.index(after:)) ?? path.startIndex
    return (path[..<start], path[start...])
  }

  // MARK: What earlier processes left

  /// Removes the unfinished files and the lock files that dead processes left in a folder; runs
  /// once per folder and process.
  ///
  /// A file is removed only if its name matches ours, nobody holds its lock, and it comes from this
  /// host or has not changed for an hour.
  static func sweep(_ folder: Substring) {
    let folder = folder.isEmpty ? "." : String(folder)
    guard sweptFolders.withLock({ $0.insert(folder).inserted }) else { return }
    // A folder that can't be listed is reported when the file is created.
    for name in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [] {
      if OutputLock.isLockFile(name) {
        OutputLock.removeIfDead("\(folder)/\(name)")
      } else if let tag = tag(of: name) {
        removeIfDead("\(folder)/\(name)", isOwnHost: tag == hostTag)
      }
    }
  }

  /// The host tag of an unfinished file's name; nil for other names.
  private static func tag(of name: String) -> Substring? {
    guard name.hasPrefix("."), name.hasSuffix(ending) else { return nil }
    let code = name.dropLast(ending.count).suffix(tagLength + 13)
    guard code.count == tagLength + 13, name.dropLast(ending.count + code.count).hasSuffix(marker),
      code.allSatisfy({ $0.isASCII && ($0.isNumber || $0.isLowercase) })
    else { return nil }
    return code.prefix(tagLength)
  }

  private static func removeIfDead(_ path: String, isOwnHost: Bool) {
    let descriptor = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG,
      flock(descriptor, LOCK_EX | LOCK_NB) == 0,
      isOwnHost || time(nil) - status.st_mtim.tv_sec > 3600
    else { return }
    unlink(path)
  }
}

/// The machine that this process runs on.
public enum Host {
  public static let name: String = {
    var buffer = [CChar](repeating: 0, count: 256)
    guard gethostname(&buffer, 255) == 0 else { return "localhost" }
    return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }()
}
