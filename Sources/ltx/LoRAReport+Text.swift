import Foundation
import LoRAFiles
import Support
import TensorFiles

extension LoRAReport {
  /// The report for the terminal.
  ///
  /// Some layers have thousands of characters in their names and some files thousands of keys, so
  /// all text of the file is shortened.
  var text: String {
    (heading + findings + groups + layerTable + unused + metadataTable).joined(separator: "\n")
  }

  private var heading: [String] {
    let adapters =
      "\(kinds.joined(separator: " and ")) \(layers.count == 1 ? "adapter" : "adapters")"
    let first =
      "\(file): \(layers.count) \(adapters), \(format.title) format, "
      + "\(dtypes.joined(separator: " and ")), \(bytes) bytes"
    guard let key = nonFiniteKeys.first else { return [first] }
    let problem = LoRAFile.nonFiniteProblem(others: nonFiniteKeys.count - 1)
    return [first, "DAMAGED  \(key.displayed()) \(problem)"]
  }

  private var findings: [String] {
    let ranks =
      switch ranks.count {
      case 0: "none"
      case 1: "\(ranks[0])"
      default: "\(ranks[0]) to \(ranks[ranks.count - 1])"
      }
    let names: SubjectTable = [["checkpoint"]: "--model CHECKPOINT"]
    var lines = [
      "rank     \(ranks)" + (hasAlpha ? ", scaled by alpha / rank" : ""),
      "base     \(base): \(names.message(baseReason))",
    ]
    lines += generations.map { "version  \($0.reason)" }
    if let fits { lines.append("fits     \(fits)") }
    lines += warnings.map { "warning  \($0)" }
    lines += change.map { "change   \($0)" }
    lines += validationLosses.map { loss in
      "loss     \(loss.modality) validation loss: \(Self.number(loss.before)) before training, "
        + "\(Self.number(loss.after)) after"
    }
    if let triggerWord { lines.append("trigger  \(triggerWord.displayed())") }
    return lines
  }

  private var groups: [String] {
    (parts + depth).map { part in
      var line = "\(Self.padded(part.part, 8)) \(part.layers) "
      line += part.layers == 1 ? "adapter" : "adapters"
      line += ", |change| \(Self.number(part.norm))"
      if let relative = part.relative { line += ", \(AdapterChange.percent(relative)) of the base" }
      if part.zeroLayers > 0 { line += ", \(part.zeroLayers) zero" }
      return line
    } + ["targets  " + Self.list(targets.map { "\($0.name.displayed()) (\($0.layers))" })]
  }

  private var layerTable: [String] {
    let width = min(layers.map(\.path.count).max() ?? 0, 100)
    return ["layers"]
      + layers.map { layer in
        var line = "  \(Self.padded(layer.path.displayed(), width))  "
        if kinds.count > 1 { line += "\(layer.kind) " }
        line += layer.rank.map { "rank \($0)" } ?? "full rank"
        line += "  |change| \(Self.number(layer.norm))"
        if let relative = layer.relative { line += "  \(AdapterChange.percent(relative))" }
        if layer.scale != 1 { line += "  scale \(Self.number(layer.scale))" }
        return line + (layer.isUsed ? "" : "  not used")
      }
  }

  private var unused: [String] {
    (ignoredKeys.isEmpty ? [] : ["not used " + Self.list(ignoredKeys.map { $0.displayed() })])
      + otherModules.sorted { $0.key < $1.key }.map { component, names in
        "not used \(names.count) of the \(component): " + Self.list(names.map { $0.displayed() })
      }
  }

  private var metadataTable: [String] {
    guard !metadata.isEmpty else { return [] }
    let shown = Self.first(50, of: metadata.keys)
    let lines = shown.map { "  \($0.displayed()): \((metadata[$0] ?? "").displayed())" }
    let rest = metadata.count - shown.count
    return ["metadata"] + lines + (rest > 0 ? ["  and \(rest) more; --json prints all"] : [])
  }

  private static func list(_ names: [String]) -> String {
    names.prefix(20).joined(separator: ", ")
      + (names.count > 20 ? " and \(names.count - 20) more" : "")
  }

  /// The first names in alphabetical order, without sorting all of them; there may be a million.
  private static func first(_ count: Int, of names: some Sequence<String>) -> [String] {
    var first: [String] = []
    for name in names where first.count < count || name < first[count - 1] {
      first.insert(name, at: first.firstIndex { name < $0 } ?? first.count)
      if first.count > count { first.removeLast() }
    }
    return first
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  private static func number(_ value: Double) -> String {
    value.isFinite ? String(format: "%.4g", value) : "not finite"
  }
}
