import Foundation
import Support
import Yams

/// A part of a configuration's text, with its position.
struct ConfigurationNode {
  struct Entry {
    var key: String
    var place: ConfigurationPlace
    var value: ConfigurationNode
  }

  enum Content {
    case scalar(YAMLScalar)
    case list([ConfigurationNode])
    case mapping([Entry])
  }

  var content: Content
  var place: ConfigurationPlace

  var isNull: Bool {
    if case .scalar(let scalar) = content { scalar.value == .null } else { false }
  }

  /// A short description for messages.
  var shown: String {
    switch content {
    case .scalar(let scalar): scalar.value == .null ? "null" : "\"\(scalar.text)\""
    case .list: "a list"
    case .mapping: "a section"
    }
  }
}

/// Parses YAML text into nodes.
struct ConfigurationParser {
  /// The max number of values, because aliases of aliases can make a small text enormous.
  private static let maximumNodes = 20_000
  private static let maximumDepth = 64

  /// The source of the text.
  private let origin: Origin
  private var count = 0

  enum Origin {
    case file(String)
    /// A `--set` option, as it was written.
    case option(String)

    func place(_ mark: Mark?) -> ConfigurationPlace {
      switch self {
      case .file: .text(line: mark?.line ?? 1, column: mark?.column ?? 1)
      case .option(let text): .option(text)
      }
    }
  }

  /// - Throws: `ConfigurationProblems` if the file can't be read as text.
  static func text(ofFile path: String) throws -> String {
    func problem(_ message: String) -> ConfigurationProblems {
      ConfigurationProblems(file: path, problems: [.init(place: nil, key: "", message: message)])
    }
    guard let data = FileManager.default.contents(atPath: path) else {
      throw problem(
        PathSyntax.problem(path, isOutput: false) ?? "can't be read; does it exist?")
    }
    guard let text = String(data: data, encoding: .utf8) else {
      throw problem("is not UTF-8 text")
    }
    return text
  }

  /// - Returns: nil for an empty text.
  /// - Throws: `ConfigurationProblems` if the text is not YAML.
  static func parse(_ text: String, _ origin: Origin) throws -> ConfigurationNode? {
    var parser = ConfigurationParser(origin: origin)
    do {
      guard let node = try Yams.compose(yaml: text) else { return nil }
      return try parser.convert(node, depth: 0)
    } catch let error as YamlError {
      let (mark, message) = describe(error)
      if let tab = tabIndentation(in: text, near: mark?.line) {
        let hint =
          "is indented with a tab, where YAML allows only spaces. Replace the tab with spaces"
        guard case .file(let file) = origin else { throw parser.problem(nil, hint) }
        let place = ConfigurationPlace.text(line: tab.line, column: tab.column)
        throw ConfigurationProblems(
          file: file, problems: [.init(place: place, key: "", message: hint)])
      }
      // libyaml has its own limit, but describes it in programmers' terms.
      let isTooDeep = message.hasPrefix("Maximum nesting level")
      throw parser.problem(
        mark, isTooDeep ? "is nested too deep" : "is not valid YAML: \(message)",
        hasPlace: mark != nil)
    }
  }

  /// The first tab in the indentation of the reported line or of a line next to it.
  private static func tabIndentation(in text: String, near line: Int?) -> (line: Int, column: Int)?
  {
    for (index, content) in text.split(separator: "\n", omittingEmptySubsequences: false)
      .enumerated()
    {
      let indentation = content.prefix { $0 == " " || $0 == "\t" }
      guard let tab = indentation.firstIndex(of: "\t"), indentation.count < content.count else {
        continue
      }
      if let line, abs(line - (index + 1)) > 1 { continue }
      return (index + 1, content.distance(from: content.startIndex, to: tab) + 1)
    }
    return nil
  }

  private init(origin: Origin) { self.origin = origin }

  private func problem(_ mark: Mark?, _ message: String, hasPlace: Bool = true)
    -> ConfigurationProblems
  {
    let file = if case .file(let file) = origin { file } else { "" }
    var place: ConfigurationPlace? = origin.place(mark)
    if case .file = origin, !hasPlace { place = nil }
    return ConfigurationProblems(
      file: file, problems: [.init(place: place, key: "", message: message)])
  }

  private mutating func convert(_ node: Node, depth: Int) throws -> ConfigurationNode {
    count += 1
    guard count <= Self.maximumNodes else {
      throw problem(node.mark, "holds more than \(Self.maximumNodes) values")
    }
    guard depth <= Self.maximumDepth else {
      throw problem(node.mark, "is nested more than \(Self.maximumDepth) deep")
    }
    let content: ConfigurationNode.Content
    switch node {
    case .scalar(let scalar): content = .scalar(try self.scalar(scalar))
    case .sequence(let items):
      content = .list(try items.map { try convert($0, depth: depth + 1) })
    case .mapping(let mapping): content = .mapping(try entries(mapping, depth: depth))
    case .alias: throw problem(node.mark, "has an alias without an anchor")
    }
    return ConfigurationNode(content: content, place: origin.place(node.mark))
  }

  private func scalar(_ scalar: Node.Scalar) throws -> YAMLScalar {
    // The tag is empty if the text has none.
    let tag = scalar.tag.description
    switch (tag, scalar.style) {
    case ("", .plain), ("", .any): return YAMLScalar(plain: scalar.string)
    case ("", _), ("tag:yaml.org,2002:str", _), ("!", _): return YAMLScalar(quoted: scalar.string)
    case ("tag:yaml.org,2002:int", _), ("tag:yaml.org,2002:float", _),
      ("tag:yaml.org,2002:bool", _),
      ("tag:yaml.org,2002:null", _):
      return YAMLScalar(plain: scalar.string)
    default: throw problem(scalar.mark, "has the tag \(tag); remove it")
    }
  }

  private mutating func entries(_ mapping: Node.Mapping, depth: Int) throws -> [ConfigurationNode
    .Entry]
  {
    var entries: [ConfigurationNode.Entry] = []
    var merged: [ConfigurationNode.Entry] = []
    for (key, value) in mapping {
      guard case .scalar(let scalar) = key else {
        throw problem(key.mark ?? mapping.mark, "has a key that is not a single value")
      }
      let converted = try convert(value, depth: depth + 1)
      if scalar.string == "<<", scalar.style == .plain {
        merged +=
          try Self.merged(converted)
          ?? { throw problem(key.mark, "<< must be followed by a section") }()
      } else {
        entries.append(.init(key: scalar.string, place: origin.place(key.mark), value: converted))
      }
    }
    // The section's own keys override merged ones, and earlier merged sections override later ones.
    for entry in merged where !entries.contains(where: { $0.key == entry.key }) {
      entries.append(entry)
    }
    return entries
  }

  private static func merged(_ node: ConfigurationNode) -> [ConfigurationNode.Entry]? {
    switch node.content {
    case .mapping(let entries): return entries
    case .list(let items):
      var all: [ConfigurationNode.Entry] = []
      for item in items {
        guard case .mapping(let entries) = item.content else { return nil }
        all += entries
      }
      return all
    case .scalar: return nil
    }
  }

  private static func describe(_ error: YamlError) -> (Mark?, String) {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      (mark, problem)
    case .reader(let problem, _, _, _): (nil, problem)
    case .duplicatedKeysInMapping(let keys, let context):
      (context.mark, "\(keys.sorted().joined(separator: ", ")) appears twice in one section")
    default: (nil, String(describing: error).split(separator: "\n").first.map(String.init) ?? "")
    }
  }
}
