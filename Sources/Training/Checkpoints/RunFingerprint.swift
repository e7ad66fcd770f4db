import Datasets
import Foundation
import Support

/// Everything that the results of a run depend on. A run resumes only from a state whose
/// fingerprint is equal.
struct RunFingerprint: Sendable, Equatable {
  private static let model = "the model"
  private static let dataset = "the dataset"
  private static let start = "model.load_checkpoint"
  private let values: [String: String]
  /// Keys that runs of older versions do not store, but had at these values.
  private let implied: Set<String>

  /// - Parameters:
  ///   - configuration: the keys that the results depend on, with their values.
  ///   - implied: those of the keys that are at their defaults in runs of older versions, which
  ///     lack them.
  ///   - model: `FileIdentity` of the checkpoint.
  ///   - samples: the identities of the dataset's samples.
  ///   - start: `FileIdentity` of the weights that training starts from; nil for fresh ones.
  ///   - ranks: the number of processes that train together.
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

  /// - Parameter text: the stored text.
  /// - Throws: an error if the text is not a fingerprint.
  init(text: String) throws {
    values = try JSON(parsing: text).decode([String: String].self)
    implied = []
  }

  /// `FileIdentity` of the checkpoint.
  var modelIdentity: String? { values[Self.model] }

  /// The stored value of a configuration key.
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

  /// A description of a difference.
  func words(_ key: String, from old: RunFingerprint) -> String {
    if [Self.model, Self.dataset, Self.start].contains(key) { return "\(key) differs" }
    return "\(key) was \(old.values[key] ?? "not set") and is now \(values[key] ?? "not set")"
  }
}
