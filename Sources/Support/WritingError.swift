import Foundation

/// A file or folder that can't be written.
public struct WritingError: IssueConvertible, CustomStringConvertible, Equatable, Sendable {
  /// The file or folder, as the caller named it.
  public let path: String
  /// The system's error number.
  public let code: Int32

  public init(path: String, code: Int32) { (self.path, self.code) = (path, code) }

  /// An error of Foundation while writing to a path.
  public init(path: String, _ error: any Error) {
    self.init(path: path, code: errorNumber(of: error) ?? EIO)
  }

  /// The problem, to be read after the path.
  public var problem: String { "can't be written (\(describe(errno: code)))" }

  /// The remedy, as a sentence without its period.
  public var remedy: String {
    switch code {
    case ENOSPC: "Free some space on the disk and try again"
    case EDQUOT: "The disk quota is used up; free some space and try again"
    case EROFS: "The file system is read-only; choose another folder"
    case EACCES, EPERM: "Check the permissions of the folder, or choose another one"
    case ENOENT: "Create the folder first"
    case ENOTDIR: "A part of the path is a file; choose another folder"
    case EISDIR: "A folder has that name; choose another name"
    case ENAMETOOLONG: "Choose a shorter name"
    case EFBIG:
      "The limit on file sizes is reached; raise it with `ulimit -f`, or choose another disk"
    case EMFILE, ENFILE: "Too many files are open; raise the limit with `ulimit -n`"
    case EIO: "The disk reports an error; check it, or choose another one"
    default: "Check the disk and the permissions of the folder"
    }
  }

  public var issue: Issue { Issue([.file(path)], problem, suggestion: remedy + ".") }

  public var description: String { issue.description }
}
