import Glibc

/// A folder to write files into, which need not exist yet.
public enum OutputFolder {
  /// The reason why files can't be written there, to be read after the folder's name; nil if they
  /// can.
  ///
  /// Checking permissions isn't enough: full, read-only and virtual file systems reject even root.
  /// So a file is created, and removed again, in the nearest folder that exists.
  public static func problem(_ path: String) -> String? {
    if let problem = PathSyntax.problem(path) { return problem }
    var folder = path.isEmpty ? "." : path
    var status = stat()
    while stat(folder, &status) != 0 {
      let code = errno
      guard code == ENOENT || code == ENOTDIR, !isRoot(folder) else {
        return "can't be written to: \(describe(errno: code))"
      }
      folder = parent(of: folder)
    }
    guard status.st_mode & S_IFMT == S_IFDIR else {
      return folder == path ? "is a file; name a folder" : "can't be created: \(folder) is a file"
    }
    let trial = TemporaryFiles.name(beside: "\(folder)/trial")
    let descriptor = open(trial, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      let place = folder == path ? "can't be written to" : "can't be created in \(folder)"
      return "\(place): \(describe(errno: errno))"
    }
    close(descriptor)
    unlink(trial)
    return nil
  }

  /// Whether the disk of a folder can be written to and has some room left, at least a mebibyte.
  public static func hasRoom(_ path: String) -> Bool {
    var status = statvfs()
    guard statvfs(path, &status) == 0 else { return false }
    return status.f_flag & UInt(ST_RDONLY) == 0
      && UInt64(status.f_bavail) * UInt64(status.f_frsize) >= 1 << 20
  }

  private static func isRoot(_ path: String) -> Bool { path == "/" || path == "." }

  private static func parent(of path: String) -> String {
    let parts = path.split(separator: "/").dropLast()
    return (path.hasPrefix("/") ? "/" : parts.isEmpty ? "." : "") + parts.joined(separator: "/")
  }
}
