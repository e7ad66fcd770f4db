import Glibc

/// A file to be written.
public enum OutputFile {
  /// The reason why the file can't be written, to be read after its name; nil if it can.
  ///
  /// - Parameter inputs: Files that the work reads, none of which may be overwritten.
  public static func problem(_ path: String, inputs: [String] = []) -> String? {
    guard !path.isEmpty, !path.hasSuffix("/") else { return "isn't a file name" }
    if let problem = PathSyntax.problem(path) { return problem }
    var status = stat()
    if stat(path, &status) != 0 {
      // Otherwise this would fail only at the end of the work, when the file gets its name.
      if errno != ENOENT, errno != ENOTDIR { return "can't be written: \(describe(errno: errno))" }
    } else {
      guard status.st_mode & S_IFMT != S_IFDIR else { return "is a folder; name a file" }
      guard status.st_mode & S_IFMT == S_IFREG else {
        return
          "is a device, pipe or socket; name a file, which can be replaced when the new one is complete"
      }
      for input in inputs {
        var other = stat()
        if stat(input, &other) == 0, other.st_dev == status.st_dev, other.st_ino == status.st_ino {
          return "is the input \(input); choose another name"
        }
      }
    }
    let folder =
      path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
    guard stat(folder, &status) == 0 else {
      return "can't be written: the folder \(folder) does not exist; create it first"
    }
    return OutputFolder.problem(folder).map { "can't be written: the folder \(folder) \($0)" }
  }
}
