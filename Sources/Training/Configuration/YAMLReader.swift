import Foundation
import Yams

/// Everything that is wrong with a configuration file, each with its line.
public struct ConfigurationProblems: Error, CustomStringConvertible, Sendable {
  public struct Problem: Sendable, Equatable {
    public let line: Int?
    public let column: Int?
    /// `optimization.steps`
    public let key: String
    public let message: String
  }

  public let file: String
  public let problems: [Problem]

  public var description: String {
    problems.map { problem in
      let place = problem.line.map { ":\($0):\(problem.column ?? 1)" } ?? ""
      let key = problem.key.isEmpty ? "" : "\(problem.key) "
      return "\(file)\(place): \(key)\(problem.message)"
    }.joined(separator: "\n")
  }
}

/// Reads a YAML mapping key by key, and collects what is wrong instead of stopping at it.
///
/// A reader that finds a problem returns a stand-in, so that the rest of the file is still checked; the stand-ins are
/// never used, for `finish` throws.
final class YAMLReader {
  /// Problems of the whole file, shared by the readers of its sections.
  final class Problems {
    var found: [ConfigurationProblems.Problem] = []
  }

  let path: String
  private let values: [(key: String, keyNode: Node, value: Node)]
  private let mark: Mark?
  private let problems: Problems
  private var known: [String] = []

  /// - Throws: `ConfigurationProblems` when the text is not a YAML mapping.
  convenience init(yaml: String, file: String) throws {
    let node: Node?
    do {
      node = try Yams.compose(yaml: yaml)
    } catch let error as YamlError {
      let (line, column, message) = Self.describe(error)
      throw ConfigurationProblems(
        file: file,
        problems: [.init(line: line, column: column, key: "", message: "is not valid YAML: \(message)")])
    }
    guard let node, case .mapping(let mapping) = node else {
      throw ConfigurationProblems(
        file: file,
        problems: [.init(line: 1, column: 1, key: "", message: "is not a YAML mapping of sections")])
    }
    self.init(mapping, path: "", mark: node.mark, problems: Problems())
  }

  private init(_ mapping: Node.Mapping?, path: String, mark: Mark?, problems: Problems) {
    self.path = path
    self.mark = mark
    self.problems = problems
    values = (mapping?.map { $0 } ?? []).map { ($0.key.string ?? "", $0.key, $0.value) }
  }

  var allProblems: [ConfigurationProblems.Problem] { problems.found }

  func has(_ key: String) -> Bool { node(key) != nil }

  func section(_ key: String) -> YAMLReader {
    guard let node = node(key) else {
      return YAMLReader(nil, path: full(key), mark: mark, problems: problems)
    }
    guard case .mapping(let mapping) = node else {
      report(key, "must be a mapping of keys")
      return YAMLReader(nil, path: full(key), mark: node.mark, problems: problems)
    }
    return YAMLReader(mapping, path: full(key), mark: node.mark, problems: problems)
  }

  /// The sections of a list.
  func sections(_ key: String) -> [YAMLReader] {
    guard let node = node(key) else { return [] }
    guard case .sequence(let items) = node else {
      report(key, "must be a list")
      return []
    }
    return items.enumerated().compactMap { index, item in
      guard case .mapping(let mapping) = item else {
        report(key, "entry \(index + 1) must be a mapping of keys")
        return nil
      }
      return YAMLReader(mapping, path: "\(full(key))[\(index)]", mark: item.mark, problems: problems)
    }
  }

  func string(_ key: String, default fallback: String? = nil) -> String {
    optionalString(key) ?? fallback ?? missing(key, "")
  }

  func optionalString(_ key: String) -> String? {
    guard let node = node(key) else { return nil }
    guard case .scalar(let scalar) = node else {
      report(key, "must be a text")
      return nil
    }
    return scalar.string
  }

  func int(_ key: String, default fallback: Int? = nil, in range: ClosedRange<Int>? = nil) -> Int {
    optionalInt(key, in: range) ?? fallback ?? (node(key) == nil ? missing(key, 0) : 0)
  }

  func optionalInt(_ key: String, in range: ClosedRange<Int>? = nil) -> Int? {
    guard let node = node(key) else { return nil }
    guard case .scalar(let scalar) = node, let value = Int.construct(from: scalar) else {
      report(key, "is \(shown(node)); it must be an integer")
      return nil
    }
    if let range, !range.contains(value) {
      let limit =
        range.upperBound == .max
        ? "at least \(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
      report(key, "is \(value); it must be \(limit)")
    }
    return value
  }

  func double(_ key: String, default fallback: Double? = nil, in range: ClosedRange<Double>? = nil) -> Double
  {
    guard let node = node(key) else { return fallback ?? missing(key, 0) }
    // YAML 1.1 reads 1e-4 as a text, and people write it all the same.
    guard let text = node.string, let value = Double(text.replacingOccurrences(of: "_", with: "")),
      value.isFinite
    else {
      report(key, "is \(shown(node)); it must be a number")
      return fallback ?? 0
    }
    if let range, !range.contains(value) {
      let limit =
        range.upperBound == .infinity
        ? "at least \(range.lowerBound)" : "from \(range.lowerBound) to \(range.upperBound)"
      report(key, "is \(value); it must be \(limit)")
    }
    return value
  }

  func bool(_ key: String, default fallback: Bool? = nil) -> Bool {
    guard let node = node(key) else { return fallback ?? missing(key, false) }
    guard case .scalar(let scalar) = node, let value = Bool.construct(from: scalar) else {
      report(key, "is \(shown(node)); it must be true or false")
      return fallback ?? false
    }
    return value
  }

  func strings(_ key: String, default fallback: [String]) -> [String] {
    guard let node = node(key) else { return fallback }
    guard case .sequence(let items) = node, items.allSatisfy({ $0.string != nil }) else {
      report(key, "must be a list of texts")
      return fallback
    }
    return items.compactMap(\.string)
  }

  func choice<Choice: RawRepresentable & CaseIterable>(_ key: String, default fallback: Choice) -> Choice
  where Choice.RawValue == String {
    guard let text = optionalString(key) else { return fallback }
    guard let choice = Choice(rawValue: text) else {
      let allowed = Choice.allCases.map(\.rawValue)
      report(key, "is \"\(text)\"; it must be one of \(allowed.joined(separator: ", "))")
      return fallback
    }
    return choice
  }

  /// Names keys that exist but are not read here, so that they don't count as unknown.
  func accept(_ keys: String...) { known += keys }

  func report(_ key: String, _ message: String) { problems.found.append(problem(key, message)) }

  /// Something that is wrong with a key, where it stands, or where its section does if it is not given.
  func problem(_ key: String, _ message: String) -> ConfigurationProblems.Problem {
    let mark = values.first { $0.key == key }?.keyNode.mark ?? mark
    return .init(line: mark?.line, column: mark?.column, key: full(key), message: message)
  }

  /// Reports keys that nothing has asked for, with the nearest one that exists.
  func finish() {
    for (key, _, _) in values where !known.contains(key) {
      let nearest = NearestName.find(key, in: known)
      report(key, "is not a known key" + (nearest.map { "; did you mean \(full($0))?" } ?? ""))
    }
  }

  private func node(_ key: String) -> Node? {
    if !known.contains(key) { known.append(key) }
    guard let node = values.first(where: { $0.key == key })?.value else { return nil }
    if case .scalar(let scalar) = node, scalar.style == .plain,
      ["", "~", "null", "Null", "NULL"].contains(scalar.string)
    {
      return nil
    }
    return node
  }

  private func full(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  private func missing<Value>(_ key: String, _ standIn: Value) -> Value {
    report(key, "is missing; it has no default")
    return standIn
  }

  private func shown(_ node: Node) -> String { node.string.map { "\"\($0)\"" } ?? "not a single value" }

  private static func describe(_ error: YamlError) -> (Int?, Int?, String) {
    switch error {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      (mark.line, mark.column, problem)
    case .reader(let problem, _, _, _):
      (nil, nil, problem)
    case .duplicatedKeysInMapping(let keys, let context):
      (
        context.mark.line, context.mark.column,
        "\(keys.sorted().joined(separator: ", ")) stands twice in one section"
      )
    default: (nil, nil, String(describing: error).split(separator: "\n").first.map(String.init) ?? "")
    }
  }
}

/// The nearest of some names to a mistyped one.
enum NearestName {
  /// - Returns: nil where nothing is near enough to be a guess.
  static func find(_ name: String, in names: [String]) -> String? {
    let ranked = names.map { ($0, distance(Array(name.lowercased()), Array($0.lowercased()))) }
    guard let best = ranked.min(by: { $0.1 < $1.1 }), best.1 <= max(2, name.count / 3) else { return nil }
    return best.0
  }

  /// Edits that turn one text into the other (Levenshtein).
  private static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
      var previous = row[0]
      row[0] = i + 1
      for (j, y) in b.enumerated() {
        let substitution = previous + (x == y ? 0 : 1)
        previous = row[j + 1]
        row[j + 1] = min(substitution, previous + 1, row[j] + 1)
      }
    }
    return row[b.count]
  }
}
