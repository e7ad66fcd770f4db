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

  /// The differences from the adapters that a run trains; nil if there are none.
  func mismatch(_ layers: [AdaptedLayer], _ fresh: FreshAdapters) -> AdapterMismatch? {
    let trained = Set(layers.map(\.path))
    let mismatch = AdapterMismatch(
      file: file, missing: trained.filter { adapters[$0] == nil }.sorted(),
      unexpected: adapters.keys.filter { !trained.contains($0) }.sorted(),
      others: layers.compactMap { layer in
        adapters[layer.path].flatMap { layer.difference($0, fresh) }
      })
    return mismatch.isEmpty ? nil : mismatch
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

/// An error about adapters to continue from that don't match the ones that a run trains.
public struct AdapterMismatch: Error, CustomStringConvertible, Sendable {
  public let file: String
  /// Layers that the run trains and the file has no adapter for.
  public let missing: [String]
  /// Layers of the file that the run doesn't train.
  public let unexpected: [String]
  /// Layers whose adapters differ in rank, size or kind, with the difference.
  public let others: [String]

  var isEmpty: Bool { missing.isEmpty && unexpected.isEmpty && others.isEmpty }

  public var description: String {
    func list(_ names: [String], _ what: String) -> String? {
      guard let first = names.first else { return nil }
      return what + first + (names.count > 1 ? " (and \(names.count - 1) more)" : "")
    }
    let parts = [
      list(others, ""), list(missing, "it has no adapter for "),
      list(unexpected, "the run does not train "),
    ].compactMap { $0 }
    return "\(file): training can't continue from this LoRA: \(parts.joined(separator: "; ")). "
      + "Set the kind, the rank and the target modules that it was trained with."
  }
}
