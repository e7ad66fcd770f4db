import Foundation

/// A `--set KEY=VALUE` option: `optimization.steps=50`, `validation.samples[0].prompt="A cat"`. The
/// value is YAML.
struct ConfigurationOverride {
  private enum Step {
    case key(String)
    case index(Int)
  }

  private let option: String
  private let key: String
  private let steps: [Step]
  private let value: ConfigurationNode

  /// - Throws: `ConfigurationProblems` with the option.
  init(_ option: String) throws {
    guard let sign = option.firstIndex(of: "="), sign != option.startIndex else {
      throw Self.problem(option, "must be KEY=VALUE, such as optimization.steps=50")
    }
    self.option = option
    key = option[..<sign].trimmingCharacters(in: .whitespaces)
    guard let steps = Self.steps(key) else {
      throw Self.problem(
        option,
        "\"\(key)\" is not a key; write it as optimization.steps or validation.samples[0].prompt")
    }
    self.steps = steps
    let text = String(option[option.index(after: sign)...])
    value =
      try ConfigurationParser.parse(text, .option(option))
      ?? ConfigurationNode(content: .scalar(YAMLScalar(plain: "")), place: .option(option))
  }

  /// Sets the value, and creates missing sections on the way to it.
  func apply(to root: inout ConfigurationNode) throws { try apply(to: &root, steps[...], path: "") }

  private func apply(to node: inout ConfigurationNode, _ steps: ArraySlice<Step>, path: String)
    throws
  {
    guard let step = steps.first else {
      node = value
      return
    }
    let place = ConfigurationPlace.option(option)
    let absent = ConfigurationNode(content: .scalar(YAMLScalar(plain: "")), place: place)
    switch step {
    case .key(let key):
      if node.isNull { node = ConfigurationNode(content: .mapping([]), place: place) }
      guard case .mapping(var entries) = node.content else {
        throw Self.problem(option, "\(path) is \(node.shown) and has no keys")
      }
      var index = entries.firstIndex { $0.key == key }
      if index == nil {
        entries.append(.init(key: key, place: place, value: absent))
        index = entries.count - 1
      }
      guard let index else { return }
      try apply(
        to: &entries[index].value, steps.dropFirst(), path: path.isEmpty ? key : "\(path).\(key)")
      if steps.count == 1 { entries[index].place = place }
      node.content = .mapping(entries)
    case .index(let index):
      if node.isNull { node = ConfigurationNode(content: .list([]), place: place) }
      guard case .list(var items) = node.content else {
        throw Self.problem(option, "\(path) is \(node.shown) and not a list")
      }
      guard index <= items.count else {
        throw Self.problem(
          option,
          "\(path) has \(items.count) entries, counted from 0; the next would be \(path)[\(items.count)]"
        )
      }
      if index == items.count { items.append(absent) }
      try apply(to: &items[index], steps.dropFirst(), path: "\(path)[\(index)]")
      node.content = .list(items)
    }
  }

  private static func problem(_ option: String, _ message: String) -> ConfigurationProblems {
    ConfigurationProblems(
      file: "", problems: [.init(place: .option(option), key: "", message: message)])
  }

  /// - Returns: nil if the text is not a key.
  private static func steps(_ key: String) -> [Step]? {
    var steps: [Step] = []
    for part in key.split(separator: ".", omittingEmptySubsequences: false) {
      let pieces = part.split(separator: "[", omittingEmptySubsequences: false)
      guard let name = pieces.first, !name.isEmpty else { return nil }
      steps.append(.key(String(name)))
      for piece in pieces.dropFirst() {
        guard piece.hasSuffix("]"), let index = Int(piece.dropLast()), index >= 0 else {
          return nil
        }
        steps.append(.index(index))
      }
    }
    return steps
  }
}
