import Foundation
import LoRAFiles
import NN
import Support
import Yams

extension TrainingConfiguration {
  /// The whole configuration with every default, as YAML that reads back to an equal value.
  ///
  /// The official trainer reads it too; extensions at their defaults are omitted.
  public var resolvedYAML: String {
    get throws { try Yams.serialize(node: official.yaml, width: -1, allowUnicode: true) }
  }

  /// The same with all keys, for records of runs.
  public var json: JSON { written.json }

  /// `written` without extensions at their defaults.
  private var official: ConfigurationValue {
    func removing(_ value: ConfigurationValue) -> ConfigurationValue {
      guard case .mapping(let entries) = value else { return value }
      return .mapping(
        entries.filter { !$0.isImplied }.map { .init($0.key, removing($0.value)) })
    }
    return removing(written)
  }

  /// The values that the results of a run depend on, by key. A run is resumed only from a state in
  /// which all of them are equal.
  ///
  /// Keys that only change the location of results, the monitoring, or the speed are omitted. The
  /// number of steps counts if the learning rate schedule depends on it.
  public var fingerprintValues: [String: String] {
    var values: [String: String] = [:]
    forEachResultKey { key, value, _ in values[key] = value }
    return values
  }

  /// The keys of `fingerprintValues` that are extensions at their defaults.
  var impliedKeys: Set<String> {
    var keys: Set<String> = []
    forEachResultKey { key, _, isImplied in if isImplied { keys.insert(key) } }
    return keys
  }

  private func forEachResultKey(_ body: (String, String, Bool) -> Void) {
    func visit(_ value: ConfigurationValue, _ path: String, isImplied: Bool) {
      guard case .mapping(let entries) = value, !entries.isEmpty else {
        body(path, value.line, isImplied)
        return
      }
      for entry in entries where entry.affectsResult {
        let key = path.isEmpty ? entry.key : "\(path).\(entry.key)"
        if key == "optimization.steps", optimization.scheduleIsIndependentOfSteps { continue }
        visit(entry.value, key, isImplied: isImplied || entry.isImplied)
      }
    }
    visit(written, "", isImplied: false)
  }
}

extension TrainingConfiguration.Optimization {
  /// Whether a longer run has the same first steps as a shorter one.
  fileprivate var scheduleIsIndependentOfSteps: Bool {
    switch schedulerType {
    case .constant: true
    case .cosineWithRestarts: schedulerParams["T_0"] != nil
    case .step: schedulerParams["step_size"] != nil
    case .linear, .cosine, .polynomial: false
    }
  }
}

extension ConfigurationValue {
  /// The value in one line, for comparisons and messages.
  fileprivate var line: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .int(let value): "\(value)"
    case .double(let value): "\(value)"
    case .string(let value): value
    case .list(let values): "[\(values.map(\.line).joined(separator: ", "))]"
    case .mapping(let entries):
      "{\(entries.map { "\($0.key): \($0.value.line)" }.joined(separator: ", "))}"
    }
  }
}
