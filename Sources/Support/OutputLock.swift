import Foundation

/// Keeps other processes from writing into the same folder or to the same file.
///
/// The lock is the system's (`flock`) on a small file that names its holder. It ends with its
/// process, however that ends, so a leftover file blocks nobody. On network file systems it works
/// between hosts if the mount supports that.
public final class OutputLock {
  /// The locked files: the common one, and a share's own.
  private var files: [LockFile] = []
  /// The folders that were created for the lock, the outermost first.
  private var madeFolders: [String] = []

  /// Locks a folder, and creates it if needed.
  ///
  /// - Parameters:
  ///   - purpose: The holder's activity, such as `ltx train`.
  ///   - share: The rank of this process among those that share the folder; nil for exclusive use.
  ///   - warn: Called if the file system has no locks; the work continues without one.
  /// - Throws: `Issue` that names the holder, `WritingError` if the lock file can't be
  ///   created.
  public init(
    folder: String, purpose: String, share: WorkShare? = nil, warn: (String) -> Void
  ) throws {
    let folder = folder.isEmpty ? "." : folder
    madeFolders = try Self.make(folder)
    do {
      let name = "\(folder)/.ltx"
      guard let share, share.count > 1 else {
        try lock("\(name).lock", for: folder, purpose, warn) { Self.shares(in: folder).map(\.path) }
        return
      }
      try lock("\(name).lock", for: folder, purpose, isShared: true, warn)
      try lock("\(name)-\(share.index)-of-\(share.count).lock", for: folder, purpose, warn)
      for other in Self.shares(in: folder) where other.share.count != share.count {
        if let holder = LockFile.holder(of: other.path) {
          throw Self.held(folder, by: holder)
        }
      }
    } catch {
      release()
      throw error
    }
  }

  /// Locks a file that is about to be written; its folder must exist.
  ///
  /// - Throws: The same errors as for a folder.
  public init(file: String, purpose: String, warn: (String) -> Void) throws {
    let (folder, name) = TemporaryFiles.split(file)
    try lock("\(folder).\(name.prefix(60)).ltx.lock", for: file, purpose, warn)
  }

  deinit { release() }

  /// Releases the lock, and removes its file.
  public func release() {
    for file in files.reversed() { file.release() }
    files = []
    for folder in madeFolders.reversed() { rmdir(folder) }  // stays if something is in it
    madeFolders = []
  }

  private func lock(
    _ path: String, for output: String, _ purpose: String, isShared: Bool = false,
    _ warn: (String) -> Void,
    others: () -> [String] = { [] }
  ) throws {
    let outcome: LockFile.Outcome
    do {
      outcome = try LockFile.lock(path, isShared: isShared, purpose: purpose)
    } catch let error as WritingError {
      // not the lock file's name, which nobody gave
      throw WritingError(path: output, code: error.code)
    }
    switch outcome {
    case .locked(let file): files.append(file)
    case .unsupported(let code):
      warn(
        "\(output): the file system has no locks (\(describe(errno: code))). Make sure that no other process writes there."
      )
    case .held(let holder):
      let living = others().lazy.compactMap { LockFile.holder(of: $0) }.first
      throw Self.held(output, by: living ?? holder)
    }
  }

  /// - Parameter holder: The holder, from its lock file: `ltx train, process 17 on host a, started
  ///   …`; empty if unknown.
  private static func held(_ path: String, by holder: String) -> Issue {
    Issue(
      [.file(path)],
      "another process is writing here" + (holder.isEmpty ? "" : " (\(holder))"),
      suggestion: "Wait until it ends, stop it, or choose another place.")
  }

  /// The lock files of processes that share a folder.
  private static func shares(in folder: String) -> [(path: String, share: WorkShare)] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []).compactMap { name in
      guard name.hasPrefix(".ltx-"), name.hasSuffix(".lock") else { return nil }
      let parts = name.dropFirst(5).dropLast(5).split(separator: "-")
      guard parts.count == 3, parts[1] == "of", let index = Int(parts[0]), let count = Int(parts[2])
      else { return nil }
      return ("\(folder)/\(name)", WorkShare(index: index, count: count))
    }
  }

  /// Whether a name is that of a folder's or a file's lock.
  static func isLockFile(_ name: String) -> Bool {
    name.hasPrefix(".")
      && (name.hasSuffix(".ltx.lock") || (name.hasPrefix(".ltx-") && name.hasSuffix(".lock")))
  }

  /// Removes a lock file of this host that nobody holds.
  static func removeIfDead(_ path: String) { LockFile.removeIfDead(path) }

  private static func make(_ folder: String) throws -> [String] {
    var missing: [String] = []
    var url = URL(fileURLWithPath: folder).standardizedFileURL
    var status = stat()
    while stat(url.path, &status) != 0, errno == ENOENT, url.path != "/" {
      missing.insert(url.path, at: 0)
      url.deleteLastPathComponent()
    }
    for path in missing where mkdir(path, 0o777) != 0 && errno != EEXIST {
      throw WritingError(path: folder, code: errno)
    }
    return missing
  }
}

/// A locked file that names its holder.
private final class LockFile {
  enum Outcome {
    case locked(LockFile)
    case held(holder: String)
    /// The file system has no locks.
    case unsupported(code: Int32)
  }

  private let path: String
  private let descriptor: Int32

  private init(path: String, descriptor: Int32, purpose: String) {
    (self.path, self.descriptor) = (path, descriptor)
    let holder = Array(
      "\(purpose), process \(getpid()) on host \(Host.name), started \(Self.now)\n".utf8)
    // The holder's name is optional: a file that can't be written locks as well.
    if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, holder, holder.count, 0) }
  }

  private static var now: String {
    var (seconds, parts) = (time(nil), tm())
    gmtime_r(&seconds, &parts)
    var buffer = [CChar](repeating: 0, count: 40)
    let count = strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M:%S UTC", &parts)
    return String(decoding: buffer.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
  }

  static func lock(_ path: String, isShared: Bool, purpose: String) throws -> Outcome {
    // A holder that is just ending, or a share that checks whether it is the last one, needs no
    // longer than this.
    for attempt in 0..<10 {
      if attempt > 0 { usleep(50_000) }
      // A file that others have locked too must remain when a signal ends this process.
      let (descriptor, code) = try TemporaryFiles.create(
        path, isOurs: { $0.descriptor >= 0 && !isShared },
        body: { try openLocked(path, isShared: isShared) })
      guard descriptor < 0 else {
        return .locked(LockFile(path: path, descriptor: descriptor, purpose: purpose))
      }
      if code != EWOULDBLOCK && code != EINTR { return .unsupported(code: code) }
    }
    return .held(holder: text(of: path))
  }

  /// - Returns: An open and locked file, or the number of the error of `flock`.
  private static func openLocked(
    _ path: String, isShared: Bool
  ) throws -> (descriptor: Int32, code: Int32) {
    let descriptor = try opened(path)
    if flock(descriptor, (isShared ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0 {
      let code = errno
      close(descriptor)
      return (-1, code)
    }
    // The previous holder may have removed the file that was locked here.
    var (own, named) = (stat(), stat())
    guard fstat(descriptor, &own) == 0, stat(path, &named) == 0, own.st_ino == named.st_ino,
      own.st_dev == named.st_dev
    else {
      close(descriptor)
      return (-1, EWOULDBLOCK)
    }
    return (descriptor, 0)
  }

  private static func opened(_ path: String) throws -> Int32 {
    var descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o666)
    if descriptor < 0, errno == EACCES {
      // The file belongs to another user, who left it behind or is still working.
      descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
      if descriptor < 0 { errno = EACCES }
    }
    guard descriptor >= 0 else { throw WritingError(path: path, code: errno) }
    return descriptor
  }

  /// The live holder of a lock file; nil if nobody holds it.
  static func holder(of path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    guard flock(descriptor, LOCK_SH | LOCK_NB) != 0, errno == EWOULDBLOCK else { return nil }
    return text(of: path)
  }

  static func removeIfDead(_ path: String) {
    let descriptor = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    // Locks of another host may not be visible here.
    guard text(of: path).contains(" on host \(Host.name),"),
      flock(descriptor, LOCK_EX | LOCK_NB) == 0
    else {
      return
    }
    unlink(path)
  }

  private static func text(of path: String) -> String {
    let bytes = FileManager.default.contents(atPath: path)?.prefix(300) ?? Data()
    let line = String(decoding: bytes, as: UTF8.self).prefix { !$0.isNewline }
    return String(
      String.UnicodeScalarView(line.unicodeScalars.filter { $0.value >= 0x20 && $0.value != 0x7F }))
  }

  func release() {
    // Only the last of several that share a file removes it.
    if flock(descriptor, LOCK_EX | LOCK_NB) == 0 {
      var (own, named) = (stat(), stat())
      if fstat(descriptor, &own) == 0, lstat(path, &named) == 0, own.st_ino == named.st_ino {
        unlink(path)
      }
    }
    close(descriptor)
    TemporaryFiles.remove(path)
  }
}
