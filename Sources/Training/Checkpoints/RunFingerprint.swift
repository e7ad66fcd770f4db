import Datasets
import Foundation
import Support

/// What must be equal for a run to go on from a state: everything that its numbers depend on.
struct RunFingerprint: Sendable, Equatable {
  private static let model = "the model"
  private static let dataset = "the dataset"
  private static let start = "model.load_checkpoint"
  private let values: [String: String]
  /// Keys that an earlier run had at these values if it does not know them.
  private let implied: Set<String>

  /// - Parameters:
  ///   - configuration: the keys that the results depend on, with their values.
  ///   - implied: those keys among them that have their default in runs of older versions, which
  ///     lack them.
  ///   - model: `FileIdentity` of the checkpoint.
  ///   - samples: what tells the dataset's samples apart.
  ///   - start: `FileIdentity` of the weights that training starts from; nil for fresh ones.
  ///   - ranks: processes that train together.
  init(
    configuration: [String: String], implied: Set<String> = [], model: String, samples: [String],
    start: String?, ranks: Int
  ) {
    var values = configuration
    values[Self.model] = model
    values[Self.dataset] = FileIdentity.identity(ofNames: samples)
    values[Self.start] = start
    values["the number of ranks"] = String(ranks)
    self.values = values
    self.implied = implied
  }

  /// - Parameter text: as it was stored.
  /// - Throws: an error for anything else.
  init(text: String) throws {
    values = try JSON(parsing: text).decode([String: String].self)
    implied = []
  }

  /// `FileIdentity` of the checkpoint.
  var modelIdentity: String? { values[Self.model] }

  /// The value of a key of the configuration, as it was stored.
  func value(_ key: String) -> String? { values[key] }

  var text: String {
    JSON.object(values.mapValues(JSON.string)).text(JSONFormat(escapes: .slashes))
  }

  /// The keys whose values differ from an earlier run's, in alphabetical order.
  func differences(from old: RunFingerprint) -> [String] {
    Set(values.keys).union(old.values.keys).filter { key in
      values[key] != old.values[key] && !(old.values[key] == nil && implied.contains(key))
    }.sorted()
  }

  /// A difference in words.
  func words(_ key: String, from old: RunFingerprint) -> String {
    if [Self.model, Self.dataset, Self.start].contains(key) { return "\(key) is another one" }
    return "\(key) was \(old.values[key] ?? "not set") and is now \(values[key] ?? "not set")"
  }
}
