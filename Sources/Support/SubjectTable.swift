/// The user's names for subjects: options of the command line, keys of a YAML file.
///
/// The longest entry that is a prefix of a subject gives its name; the rest of the subject is
/// appended. A position in a list matches an entry for this position first, and one for `.index(0)`
/// otherwise.
public struct SubjectTable: ExpressibleByDictionaryLiteral, Sendable {
  private var names: [[Issue.PathComponent]: String]

  public init(_ names: [[Issue.PathComponent]: String]) { self.names = names }

  public init(dictionaryLiteral names: ([Issue.PathComponent], String)...) {
    self.init(Dictionary(names) { _, last in last })
  }

  /// The name of a subject, for reading and changing an entry.
  public subscript(subject: Issue.PathComponent...) -> String? {
    get { names[subject] }
    set { names[subject] = newValue }
  }

  public subscript(subject: [Issue.PathComponent]) -> String? {
    get { names[subject] }
    set { names[subject] = newValue }
  }

  /// This table with the entries of another, which take precedence.
  public func merging(_ other: SubjectTable) -> SubjectTable {
    SubjectTable(names.merging(other.names) { _, last in last })
  }

  /// The user's name of a subject; nil if the table has no entry for it.
  public func name(of subject: [Issue.PathComponent]) -> String? {
    entry(for: subject).map { name, rest in
      rest.isEmpty ? name : "\(name): \(rest.pathDescription)"
    }
  }

  /// The longest entry for a subject, and the rest of the subject.
  public func entry(
    for subject: [Issue.PathComponent]
  ) -> (name: String, rest: [Issue.PathComponent])? {
    for length in stride(from: subject.count, to: 0, by: -1) {
      if let name = entry(subject.prefix(length)) {
        return (name, Array(subject.dropFirst(length)))
      }
    }
    return nil
  }

  private func entry(_ subject: ArraySlice<Issue.PathComponent>) -> String? {
    names[Array(subject)]
      ?? names[
        subject.map { component in
          if case .index = component { .index(0) } else { component }
        }]
  }

  /// A library's text in the user's words: subjects in backticks, such as `` `audioTrack` ``, become
  /// the user's names. Text in backticks that isn't a subject of this table is unchanged.
  public func translate(_ text: String) -> String {
    guard text.contains("`") else { return text }
    return names.reduce(text) { text, entry in
      text.replacing("`\(entry.key.pathDescription)`", with: entry.value)
    }
  }

  /// The issue in the user's words.
  public func describe(_ issue: Issue) -> String {
    let message = translate(issue.message)
    let subject = name(of: issue.subject) ?? issue.subject.pathDescription
    return subject.isEmpty ? message : "\(subject): \(message)"
  }

  /// An error in the user's words, if it is an issue or several; nil for any other error.
  public func describe(_ error: any Error) -> String? {
    switch error {
    case let issue as Issue: describe(issue)
    case let error as any IssueConvertible: describe(error.issue)
    case let issues as Issues: issues.all.map(describe).joined(separator: "\n")
    default: nil
    }
  }
}
