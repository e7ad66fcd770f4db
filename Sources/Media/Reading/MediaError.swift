import CFFmpeg
import Support

/// A problem with a media file: the file, the problem and a suggestion.
public struct MediaError: IssueConvertible, Equatable, Sendable, CustomStringConvertible {
  public enum Kind: Equatable, Sendable {
    /// The file does not exist, is a folder, or may not be read.
    case notReadable
    /// The file is not in a media format that the installed FFmpeg supports, or it is truncated.
    case notMedia
    /// A media file without the requested kind of stream.
    case noStream
    /// A stream that cannot be decoded.
    case decoding
    /// A file that cannot be written.
    case writing
    /// An invalid value from the caller.
    case badOption
    /// The system ran out of memory, or FFmpeg was built without a required component.
    case system
  }

  public let kind: Kind
  /// The path as the caller gave it; empty for an option.
  public let file: String
  /// The problem, as one clause.
  public let what: String
  /// The suggestion, as one sentence.
  public let remedy: String

  public init(_ kind: Kind, file: String, _ what: String, remedy: String) {
    self.kind = kind
    self.file = file
    self.what = what
    self.remedy = remedy
  }

  public var issue: Issue { Issue(file.isEmpty ? [] : [.file(file)], what, suggestion: remedy) }

  /// One line: `clip.mp4: the problem. The suggestion.`
  public var description: String { issue.description }
}

extension MediaError {
  /// A file that `AtomicFile` couldn't write.
  package init(_ error: WritingError) {
    self.init(.writing, file: error.path, error.problem, remedy: error.remedy + ".")
  }
}

/// FFmpeg's message for an error code.
func ffmpegMessage(_ code: Int32) -> String {
  withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
    buffer.initialize(repeating: 0)
    guard let start = buffer.baseAddress else { return "error \(code)" }
    av_strerror(code, start, buffer.count)
    return String(cString: start)
  }
}

/// Returns a nonnegative status and throws an error for a negative one; `.system` if memory ran
/// out.
@discardableResult
package func check(
  _ status: Int32, _ kind: MediaError.Kind, file: String, _ what: @autoclosure () -> String,
  remedy: @autoclosure () -> String
) throws -> Int32 {
  if status >= 0 { return status }
  if status == cffmpeg_out_of_memory { throw outOfMemory(file: file) }
  throw MediaError(kind, file: file, "\(what()) (\(ffmpegMessage(status)))", remedy: remedy())
}

package func outOfMemory(file: String) -> MediaError {
  MediaError(
    .system, file: file, "out of memory", remedy: "Close other programs or use smaller images.")
}

/// Keeps FFmpeg from writing its messages to standard error; `StreamDecoder` counts them instead.
/// Must be called before FFmpeg opens anything.
func silenceFFmpeg() { _ = quietLog }

private let quietLog: Void = cffmpeg_take_log()
