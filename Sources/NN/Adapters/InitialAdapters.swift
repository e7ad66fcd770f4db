import Support
import Torch

/// Adapters from earlier training to continue from, by the path of the module that they change.
public struct InitialAdapters: Sendable {
  /// The file that they come from, for messages.
  public let file: String
  /// The adapters, with the scale of the run that continues from them.
  public let adapters: [String: any Adapter]

  public init(file: String, adapters: [String: any Adapter]) {
    self.file = file
    self.adapters = adapters
  }

  /// The subject of a problem with adapters to continue from, in front of their file.
  public static let subject: Issue.PathComponent = "initialAdapters"

  /// The differences from the adapters that a run trains; nil if there are none.
  func mismatch(_ layers: [AdaptedLayer], _ fresh: FreshAdapters) -> Issue? {
    let trained = Set(layers.map(\.path))
    func list(_ names: [String], _ what: String) -> String? {
      guard let first = names.first else { return nil }
      return what + first + (names.count > 1 ? " (and \(names.count - 1) more)" : "")
    }
    let differences = [
      list(
        layers.compactMap { layer in adapters[layer.path].flatMap { layer.difference($0, fresh) } },
        ""),
      list(trained.filter { adapters[$0] == nil }.sorted(), "it has no adapter for "),
      list(adapters.keys.filter { !trained.contains($0) }.sorted(), "the run does not train "),
    ].compactMap { $0 }
    guard !differences.isEmpty else { return nil }
    return Issue(
      [Self.subject, .file(file)],
      "training can't continue from this LoRA: \(differences.joined(separator: "; "))",
      suggestion: "Set the kind, the rank and the target modules that it was trained with.")
  }
}

extension Adapter {
  /// Whether the adapter has the tensors of a new one.
  func fits(_ layer: BaseLayer, _ fresh: FreshAdapters) -> Bool {
    fits(inputs: layer.inputs, outputs: layer.outputs, fresh)
  }

  fileprivate func fits(inputs: Int, outputs: Int, _ fresh: FreshAdapters) -> Bool {
    Self.kind == fresh.kind
      && Dictionary(tensors.map { ($0.role, $0.tensor.shape) }) { first, _ in first }
        == Self.shapes(inputs: inputs, outputs: outputs, fresh.settings)
  }
}

/// A layer that got a new adapter.
struct AdaptedLayer: Sendable {
  let path: String
  let inputs: Int
  let outputs: Int

  /// The difference between a given adapter and the one that the layer would get; nil if there is
  /// none.
  func difference(_ given: any Adapter, _ fresh: FreshAdapters) -> String? {
    guard !given.fits(inputs: inputs, outputs: outputs, fresh) else { return nil }
    let kind = type(of: given).kind
    if kind != fresh.kind {
      return "\(path) is \(kind.title), the run trains \(fresh.kind.title)"
    }
    if let rank = given.rank, rank != fresh.settings.rank {
      return "\(path) has rank \(rank), the run \(fresh.settings.rank)"
    }
    let wanted = fresh.kind.type.shapes(inputs: inputs, outputs: outputs, fresh.settings)
      .sorted { $0.key < $1.key }.map { "\($0.key) of \($0.value)" }.joined(separator: ", ")
    return "\(path) has \(given.shapes), but the layer has \(inputs) inputs and \(outputs) outputs "
      + "(expected \(wanted))"
  }
}
