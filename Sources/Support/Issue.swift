/// A problem as a value: its subject, the problem itself, and the remedy.
///
/// Libraries report problems by *subject*, a path of names in their own vocabulary (`["conditions",
/// 0, "mask"]`). Only the code that received the input from a user knows the user's name for the
/// subject: the command line maps it to an option, the YAML reader to a key with its line
/// (`SubjectTable`).
public struct Issue: Error, Equatable, Sendable {
  /// The subject of the problem, from the outside in.
  public let subject: [PathComponent]
  /// The problem, as a clause that follows the subject: "must be between 1 and 8 (got 0)".
  public let problem: String
  /// The remedy, as a sentence with its period; nil if the problem says it all. It names another
  /// subject in backticks, such as `` `device` ``, which a `SubjectTable` translates.
  public let suggestion: String?

  public init(_ subject: [PathComponent], _ problem: String, suggestion: String? = nil) {
    self.subject = subject
    self.problem = problem
    self.suggestion = suggestion
  }

  /// A problem without a subject.
  public init(_ problem: String, suggestion: String? = nil) {
    self.init([], problem, suggestion: suggestion)
  }

  /// A tensor of the wrong shape.
  ///
  /// - Parameter expected: The right shape, such as `[batch, 128, frames, rows, columns]`.
  public static func shape(_ tensor: PathComponent, _ found: [Int], expected: String) -> Issue {
    Issue([tensor], "has shape \(found) (expected \(expected))")
  }

  /// One step of a subject path.
  public enum PathComponent: Hashable, Sendable {
    /// A property, an option or a tensor.
    case name(String)
    /// A position in a list, from 0.
    case index(Int)
    /// The path of a file or a folder.
    case file(String)
    /// A line of a text file, from 1.
    case line(Int)
  }

  /// The same problem, seen from a caller for which the subject is a part of something else.
  public func within(_ outer: PathComponent...) -> Issue { prefixed(by: outer) }

  public func prefixed(by outer: [PathComponent]) -> Issue {
    Issue(outer + subject, problem, suggestion: suggestion)
  }

  /// Converts any error to an issue.
  ///
  /// An error that is neither an issue nor convertible to one has no subject.
  public init(describing error: any Error) {
    switch error {
    case let issue as Issue: self = issue
    case let error as any IssueConvertible: self = error.issue
    default: self.init([], describe(error))
    }
  }

  /// Runs a closure whose subjects are parts of a larger one.
  public static func within<R>(_ outer: PathComponent..., body: () throws -> R) throws -> R {
    do {
      return try body()
    } catch let issue as Issue {
      throw issue.prefixed(by: outer)
    }
  }

  /// The first file that the subject names.
  public var file: String? {
    subject.lazy.compactMap { if case .file(let path) = $0 { path } else { nil } }.first
  }

  /// The line that the subject names first.
  public var line: Int? {
    subject.lazy.compactMap { if case .line(let line) = $0 { line } else { nil } }.first
  }

  /// The same problem without its line, for callers that list the line beside it.
  public var withoutLine: Issue {
    let rest = subject.filter { if case .line = $0 { false } else { true } }
    return Issue(rest, problem, suggestion: suggestion)
  }

  /// The problem and the suggestion without the subject, for callers that name the subject
  /// themselves.
  public var message: String { suggestion.map { "\(problem). \($0)" } ?? problem }
}

extension Issue: CustomStringConvertible {
  /// `model.safetensors: lora.rank: must be between 1 and 8 (got 0). Choose a smaller rank.`
  public var description: String {
    subject.isEmpty ? message : "\(subject.pathDescription): \(message)"
  }
}

extension Issue.PathComponent: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
  public init(stringLiteral value: String) { self = .name(value) }
  public init(integerLiteral value: Int) { self = .index(value) }
}

extension [Issue.PathComponent] {
  /// Names joined by dots, positions in brackets, files and lines set off by a colon:
  /// `a.safetensors: blocks[0].weight`, `data.csv:3: caption`.
  public var pathDescription: String {
    var text = ""
    var followsPlace = false
    for component in self {
      switch component {
      case .name(let name): text += (text.isEmpty ? "" : followsPlace ? ": " : ".") + name
      case .index(let index): text += "[\(index)]"
      case .file(let path): text += (text.isEmpty ? "" : ": ") + path
      case .line(let line): text += text.isEmpty ? "line \(line)" : ":\(line)"
      }
      switch component {
      case .file, .line: followsPlace = true
      case .name, .index: followsPlace = false
      }
    }
    return text
  }
}

/// A typed error, for callers that branch on it, that is shown to users as an issue.
public protocol IssueConvertible: Error {
  var issue: Issue { get }
}

/// Several problems at once, so that a user can correct all of them before the next try.
public struct Issues: Error, Equatable, Sendable, CustomStringConvertible {
  /// At least one.
  public let all: [Issue]

  public init(_ all: [Issue]) { self.all = all }

  /// One line per problem.
  public var description: String { all.map(\.description).joined(separator: "\n") }
}
