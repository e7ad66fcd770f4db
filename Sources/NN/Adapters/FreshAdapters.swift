import Torch

/// New adapters to train, for the linear layers whose names match.
public struct FreshAdapters: Sendable {
  /// Names that a layer's path must equal, or end in after a dot: `to_q`, `to_out.0`. These are the
  /// rules of peft's `target_modules`.
  public let targets: [String]
  public let kind: AdapterKind
  public let settings: AdapterSettings
  public let dropout: AdapterDropout?
  /// The dtype of the adapters' tensors.
  public let dtype: DType
  private let generator: Generator
  private(set) var initial: InitialAdapters?
  private var isExcluded: @Sendable (String) -> Bool = { _ in false }

  /// - Parameter generator: The source of the initial values, layer by layer in the order of
  ///   building.
  public init(
    targets: [String], kind: AdapterKind = LoRAAdapter.kind, settings: AdapterSettings,
    dropout: AdapterDropout? = nil, dtype: DType = .float32, generator: Generator
  ) {
    self.targets = targets
    self.kind = kind
    self.settings = settings
    self.dropout = dropout
    self.dtype = dtype
    self.generator = generator
  }

  /// The factor of every change.
  public var scale: Double { settings.scale }

  /// Returns the same adapters without some layers, given by their paths. A target that matches
  /// nothing else is unmatched.
  public func excluding(_ isExcluded: @escaping @Sendable (String) -> Bool) -> FreshAdapters {
    var copy = self
    let before = self.isExcluded
    copy.isExcluded = { before($0) || isExcluded($0) }
    return copy
  }

  /// Returns the same adapters, starting from adapters that were trained earlier instead of random
  /// values.
  public func continuing(_ initial: InitialAdapters) -> FreshAdapters {
    var copy = self
    copy.initial = initial
    return copy
  }

  static func matches(_ path: String, target: String) -> Bool {
    path == target || path.hasSuffix(".\(target)")
  }

  /// The shapes of the tensors of a layer's adapter; none if it isn't adapted.
  package func shapes(for path: String, inputs: Int, outputs: Int) -> [[Int]] {
    guard matches(path) else { return [] }
    return kind.type.shapes(inputs: inputs, outputs: outputs, settings).values.map { $0 }
  }

  func matches(_ path: String) -> Bool {
    !isExcluded(path) && targets.contains { Self.matches(path, target: $0) }
  }

  /// The targets that match no layer, and whether they would without the exclusion.
  func unmatched(in layers: [String]) -> [(name: String, isExcluded: Bool)] {
    targets.compactMap { target in
      let found = layers.filter { Self.matches($0, target: target) }
      return found.allSatisfy(isExcluded) ? (target, !found.isEmpty) : nil
    }
  }

  /// A new adapter for a layer, or the given one that training continues.
  func make(_ path: String, for layer: BaseLayer) throws -> any Adapter {
    // Given adapters that don't fit are reported when all layers have been built.
    let given = initial?.adapters[path].flatMap { $0.fits(layer, self) ? $0 : nil }
    var adapter =
      try given
      ?? kind.type.init(for: layer, settings, generator: generator, dtype: dtype)
    if adapter.rank != nil { adapter.scale = scale }
    adapter.dropout = dropout?.layer(path)
    return try adapter.mapTensors { _, tensor in
      // Given tensors are copied, because training writes into them.
      let own = try tensor.to(layer.device, dtype)
      return try (own.sharesStorage(with: tensor) ? own.clone() : own).asLeaf()
    }
  }
}
