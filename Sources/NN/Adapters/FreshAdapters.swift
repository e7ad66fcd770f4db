import Torch

/// New adapters for the linear layers whose names match, to be trained.
public struct FreshAdapters: Sendable {
  /// What an adapter is made of besides A and B.
  public enum Kind: Sendable, CaseIterable {
    /// W + scale * B A (Hu et al., "LoRA", 2021).
    case lora
    /// With a magnitude for each output (Liu et al., "DoRA", 2024).
    case dora
  }

  /// Names that a layer's path must be, or end in after a dot: `to_q`, `to_out.0`. As a list of
  /// peft's `target_modules`.
  public let targets: [String]
  public let rank: Int
  public let alpha: Double
  /// Whether B A is multiplied by alpha / sqrt(rank) (Kalajdzievski, "A Rank Stabilization Scaling
  /// Factor for Fine-Tuning with LoRA", 2023) rather than alpha / rank.
  public let isRankStabilized: Bool
  public let kind: Kind
  public let dropout: AdapterDropout?
  /// The factors' element type.
  public let dtype: DType
  private let generator: Generator
  private(set) var initial: InitialAdapters?
  private var isExcluded: @Sendable (String) -> Bool = { _ in false }

  /// - Parameter generator: where A's random numbers come from, layer by layer in the order of
  ///   building.
  public init(
    targets: [String], rank: Int, alpha: Double, isRankStabilized: Bool = false, kind: Kind = .lora,
    dropout: AdapterDropout? = nil, dtype: DType = .float32, generator: Generator
  ) {
    self.targets = targets
    self.rank = rank
    self.alpha = alpha
    self.isRankStabilized = isRankStabilized
    self.kind = kind
    self.dropout = dropout
    self.dtype = dtype
    self.generator = generator
  }

  /// What B A is multiplied by.
  public var scale: Double { alpha / (isRankStabilized ? Double(rank).squareRoot() : Double(rank)) }

  /// The same without the layers that are named here, by their paths. A target that matches nothing
  /// else is unmatched.
  public func excluding(_ isExcluded: @escaping @Sendable (String) -> Bool) -> FreshAdapters {
    var copy = self
    let before = self.isExcluded
    copy.isExcluded = { before($0) || isExcluded($0) }
    return copy
  }

  /// The same, going on from adapters that were trained before, instead of random numbers.
  public func continuing(_ initial: InitialAdapters) -> FreshAdapters {
    var copy = self
    copy.initial = initial
    return copy
  }

  static func matches(_ path: String, target: String) -> Bool {
    path == target || path.hasSuffix(".\(target)")
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

  /// A uniform in +-1/sqrt(inputs), B zero, so that training starts from the unchanged model; or
  /// the values that it goes on from.
  ///
  /// - Parameter rowNorms: of the layer's weight, [outputs]: where magnitudes start.
  func make(
    _ path: String, inputs: Int, outputs: Int, device: Device, rowNorms: () throws -> Tensor
  ) throws -> LowRankAdapter {
    let bound = 1 / Double(inputs).squareRoot()
    // What is wrong with the values is said when all layers have been built.
    let given = initial?.values[path].flatMap {
      $0.fits(inputs: inputs, outputs: outputs, rank: rank, kind: kind) ? $0 : nil
    }
    let down = try given?.down ?? generator.uniform([rank, inputs]) * (2 * bound) - bound
    let up = try given?.up ?? .zeros([outputs, rank], dtype: dtype, device: device)
    let magnitude = kind == .dora ? try given?.magnitude ?? rowNorms() : nil
    // Values that are continued are copied: training writes into them.
    func leaf(_ tensor: Tensor) throws -> Tensor {
      let own = try tensor.to(device, dtype)
      return try (own.sharesStorage(with: tensor) ? own.clone() : own).asLeaf()
    }
    return LowRankAdapter(
      down: try leaf(down), up: try leaf(up), scale: scale, magnitude: try magnitude.map(leaf),
      dropout: dropout?.layer(path))
  }
}

/// Adapters that were trained before, to go on from, by the path of the module that they modify.
public struct InitialAdapters: Sendable {
  public struct Value: Sendable {
    /// A: [rank, inputs].
    public let down: Tensor
    /// B: [outputs, rank], to be multiplied by the scale of the run that goes on from it.
    public let up: Tensor
    /// [outputs]; of DoRA.
    public let magnitude: Tensor?

    public init(down: Tensor, up: Tensor, magnitude: Tensor?) {
      self.down = down
      self.up = up
      self.magnitude = magnitude
    }

    func fits(inputs: Int, outputs: Int, rank: Int, kind: FreshAdapters.Kind) -> Bool {
      down.shape == [rank, inputs] && up.shape == [outputs, rank]
        && (magnitude != nil) == (kind == .dora)
        && (magnitude == nil || magnitude?.shape == [outputs])
    }
  }

  /// Where they come from, for messages.
  public let file: String
  public let values: [String: Value]

  public init(file: String, values: [String: Value]) {
    self.file = file
    self.values = values
  }

  /// What keeps the values from being those of the layers that a run trains.
  func mismatch(_ layers: [AdaptedLayer], _ fresh: FreshAdapters) -> AdapterMismatch? {
    let trained = Set(layers.map(\.path))
    let others = layers.compactMap { layer -> String? in
      guard let value = values[layer.path],
        !value.fits(
          inputs: layer.inputs, outputs: layer.outputs, rank: fresh.rank, kind: fresh.kind)
      else { return nil }
      if value.down.size(0) != fresh.rank {
        return "\(layer.path) has rank \(value.down.size(0)), the run \(fresh.rank)"
      }
      if (value.magnitude != nil) != (fresh.kind == .dora) {
        return
          "\(layer.path) has \(value.magnitude == nil ? "no magnitude" : "a magnitude, so it is DoRA")"
          + ", the run trains \(fresh.kind == .dora ? "DoRA" : "LoRA")"
      }
      return
        "\(layer.path) has A of \(value.down.shape) and B of \(value.up.shape), but the layer has "
        + "\(layer.inputs) inputs and \(layer.outputs) outputs"
    }
    let mismatch = AdapterMismatch(
      file: file, missing: trained.filter { values[$0] == nil }.sorted(),
      unexpected: values.keys.filter { !trained.contains($0) }.sorted(), others: others)
    return mismatch.isEmpty ? nil : mismatch
  }
}

/// A layer that got an adapter.
struct AdaptedLayer: Sendable {
  let path: String
  let inputs: Int
  let outputs: Int
}

/// Adapters to go on from that are not those that a run trains.
public struct AdapterMismatch: Error, CustomStringConvertible, Sendable {
  public let file: String
  /// Layers that the run trains and the file has no adapter for.
  public let missing: [String]
  /// Layers of the file that the run does not train.
  public let unexpected: [String]
  /// Layers whose adapters differ in rank, size or kind, with what differs.
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
    return "\(file): training can't go on from this LoRA: \(parts.joined(separator: "; ")). "
      + "Give the rank and the target modules that it was trained with"
  }
}
