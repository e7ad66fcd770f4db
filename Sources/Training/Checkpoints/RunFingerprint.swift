import Datasets
import Foundation
import Support

/// Everything that the results of a run depend on. A run resumes only from a state whose
/// fingerprint is equal.
struct RunFingerprint: Sendable, Equatable {
  private static let model = "the model"
  private static let dataset = "the dataset"
  private static let start = "model.load_checkpoint"
  private static let ranks = "the number of ranks"
  private static let accumulation = "optimization.gradient_accumulation_steps"
  private var values: [String: String]
  /// Keys that runs of older versions do not store, but had at these values.
  private let implied: Set<String>

  /// - Parameters:
  ///   - configuration: the keys that the results depend on, with their values.
  ///   - implied: those of the keys that are at their defaults in runs of older versions, which
  ///     lack them.
  ///   - model: `FileIdentity` of the checkpoint.
  ///   - dataset: `PrecomputedDataset.identity`.
  ///   - start: `FileIdentity` of the weights that training starts from; nil for fresh ones.
  ///   - ranks: the number of processes that train together.
  init(
    configuration: [String: String], implied: Set<String> = [], model: String, dataset: String,
    start: String?, ranks: Int
  ) {
    var values = configuration
    values[Self.model] = model
    values[Self.dataset] = dataset
    values[Self.start] = start
    values[Self.ranks] = String(ranks)
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

  /// The number of batches in each step of the run.
  var batchesPerStep: Int? {
    guard let ranks = values[Self.ranks].flatMap({ Int($0) }),
      let accumulation = values[Self.accumulation].flatMap({ Int($0) })
    else { return nil }
    return ranks * accumulation
  }

  /// The fingerprint of an earlier start on another number of ranks, if each step has the same
  /// batches then or the accumulation is unchanged; nil for the same number.
  func movedToOtherRanks(from old: RunFingerprint) -> RunFingerprint? {
    guard values[Self.ranks] != old.values[Self.ranks],
      values[Self.accumulation] == old.values[Self.accumulation]
        || batchesPerStep == old.batchesPerStep
    else { return nil }
    var moved = self
    for key in [Self.ranks, Self.accumulation] { moved.values[key] = old.values[key] }
    return moved
  }

  /// A line for each key.
  var lines: String {
    values.sorted { $0.key < $1.key }.map { "\($0): \($1)" }.joined(separator: "\n")
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
