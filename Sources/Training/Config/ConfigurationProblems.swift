/// Everything that is wrong with a configuration, each with its place.
public struct ConfigurationProblems: Error, CustomStringConvertible, Sendable {
  public struct Problem: Sendable, Equatable {
    /// Nil where it has no place in the text.
    public let place: ConfigurationPlace?
    /// `optimization.steps`
    public let key: String
    public let message: String

    public var line: Int? { if case .text(let line, _) = place { line } else { nil } }
    public var column: Int? { if case .text(_, let column) = place { column } else { nil } }
  }

  public let file: String
  public let problems: [Problem]

  public var description: String {
    problems.map { problem in
      let start =
        switch problem.place {
        case .text(let line, let column): "\(file):\(line):\(column)"
        case .option(let text): "--set \(text)"
        case nil: file
        }
      return "\(start): \(problem.key.isEmpty ? "" : "\(problem.key) ")\(problem.message)"
    }.joined(separator: "\n")
  }
}

/// Where a key of a configuration was given.
public enum ConfigurationPlace: Sendable, Equatable {
  /// Both count from 1.
  case text(line: Int, column: Int)
  /// A `--set` option, as it was written.
  case option(String)
}

/// Something that a user should know of a configuration that is fine.
public struct ConfigurationNotice: Sendable, Equatable, CustomStringConvertible {
  public let place: ConfigurationPlace?
  public let key: String
  public let message: String

  public var line: Int? { if case .text(let line, _) = place { line } else { nil } }
  public var description: String { "\(key)\(line.map { " (line \($0))" } ?? "") \(message)" }
}

/// The text that a configuration was read from.
public struct ConfigurationSource: Sendable {
  /// The file, for messages.
  public var file = "configuration"
  /// Where keys stand, by their full names such as `lora.target_modules`.
  var places: [String: ConfigurationPlace] = [:]
  public var notices: [ConfigurationNotice] = []
}

extension TrainingConfiguration {
  /// What older keys were taken to mean, and the like.
  public var notices: [ConfigurationNotice] { source.notices }

  /// A value that turned out to be impossible, told with its place in the file.
  ///
  /// - Parameter key: `lora.target_modules`; the place of the section is told where the file does
  ///   not give it.
  public func problem(_ key: String, _ message: String) -> ConfigurationProblems {
    var parts = key.split(separator: ".")
    var place = source.places[key]
    while place == nil, !parts.isEmpty {
      parts.removeLast()
      place = source.places[parts.joined(separator: ".")]
    }
    return ConfigurationProblems(
      file: source.file, problems: [.init(place: place, key: key, message: message)])
  }
}
