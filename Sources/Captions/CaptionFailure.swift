import Support

/// A clip without a caption, for a reason that lies with the model or its server.
public struct CaptionFailure: IssueConvertible, CustomStringConvertible {
  /// The other work that a failure concerns.
  public enum Scope: Sendable {
    /// Only this clip: the model refuses it, or it is too large.
    case clip
    /// Perhaps the server. Several in a row end the run.
    case server
    /// All clips: no key, no server, a limit that has been reached. The run ends at once.
    case run
  }

  public let issue: Issue
  public let scope: Scope

  public init(_ issue: Issue, scope: Scope) { (self.issue, self.scope) = (issue, scope) }

  public var description: String { issue.description }
}
