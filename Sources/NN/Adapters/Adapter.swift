// O outputs, I inputs of a linear layer.

import Torch

/// A change of one linear layer that can be trained, stored and combined with others.
///
/// The weight W becomes W + strength * change. A kind of adapter (LoRA, DoRA, LoKr, ...) is one
/// conforming type, in its own file, and a line in `AdapterKinds.all`. Layers, files, training and
/// tools use adapters only through this protocol.
public protocol Adapter: Sendable {
  /// The name in configurations and metadata: `lora`.
  static var name: String { get }
  /// The name in messages: `LoRA`.
  static var title: String { get }
  /// The tensors that the kind can have, and their names in files.
  static var roles: [AdapterRole] { get }

  /// Whether these roles, found together in a file, make an adapter of this kind. `AdapterKinds`
  /// checks the kinds in their order.
  static func isKind(of roles: Set<String>) -> Bool

  /// An adapter with the given tensors and scale 1.
  ///
  /// - Throws: `Issue` for tensors that are missing or don't fit together. Its subject is the role of
  ///   the invalid tensor, or empty for the adapter as a whole.
  init(_ tensors: [String: Tensor]) throws

  /// A new adapter to train. It doesn't change the layer yet.
  ///
  /// - Parameters:
  ///   - layer: The layer to adapt.
  ///   - generator: The source of random numbers.
  init(
    for layer: BaseLayer, _ settings: AdapterSettings, generator: Generator, dtype: DType
  ) throws

  /// The shapes of the tensors of a new adapter, by role.
  static func shapes(inputs: Int, outputs: Int, _ settings: AdapterSettings) -> [String: [Int]]

  /// The tensors by role, in the order in which they are trained and saved.
  var tensors: [(role: String, tensor: Tensor)] { get }
  /// The same adapter with transformed tensors: other values, or another device.
  func mapTensors(_ transform: (_ role: String, _ tensor: Tensor) throws -> Tensor) throws -> Self

  /// The factor of the change that belongs to the adapter, usually alpha / rank.
  var scale: Double { get set }
  /// The user's factor for the full change of the layer.
  var strength: Double { get set }
  /// Dropout of the adapter's inputs; nil for none.
  var dropout: AdapterDropout.Layer? { get set }

  /// The rank that alpha is divided by; nil for an adapter without factors, whose scale is 1.
  var rank: Int? { get }
  /// [O, I] of the layers that the adapter fits; nil for tensors that don't fit together.
  var weightShape: [Int]? { get }
  /// The dtype to write the adapter in.
  var dtype: DType { get }

  // MARK: Computing

  /// Whether the change depends on the layer's weight. Such an adapter can't be scaled or merged
  /// with others from its tensors alone.
  static var dependsOnWeight: Bool { get }

  /// The adapter as part of a layer, with all values that it derives from the layer's weight.
  func attached(to layer: BaseLayer) throws -> Self

  /// The change as a product of two factors that a layer can add together with its own product; nil
  /// if it can't be written so, or dropout is active.
  var lowRankTerm: LowRankTerm? { get }

  /// strength * the change of the layer's output.
  ///
  /// - Parameters:
  ///   - x: [..., I]
  ///   - layer: The layer without adapters.
  ///   - base: x W^T, [..., O]; passed to adapters that depend on the weight.
  /// - Returns: [..., O]
  func change(_ x: Tensor, of layer: BaseLayer, base: Tensor?) throws -> Tensor

  // MARK: Fusing

  /// strength * the change of a weight, in float32.
  ///
  /// - Parameter weight: W in float32, [O, I].
  func change(ofWeight weight: Tensor) throws -> Tensor

  /// The change added to those of other adapters, in bfloat16; for adapters that don't depend on
  /// the weight.
  ///
  /// - Parameters:
  ///   - sum: [O, I] in bfloat16, which may be overwritten; nil if there are no changes yet.
  ///   - weight: [O, I]
  func addingChange(to sum: Tensor?, weight: Tensor) throws -> Tensor

  // MARK: Files and tools

  /// The module of kohya's trainer that makes such adapters, for metadata.
  static var networkModule: String { get }

  /// Whether files hold the scale in one of the tensors instead of an alpha.
  static var absorbsScale: Bool { get }

  /// The tensors by their names in a file, with everything that a reader needs.
  ///
  /// - Throws: `Issue` if the naming scheme has no names for them.
  func fileTensors(_ naming: AdapterNaming) throws -> [(name: String, tensor: Tensor)]

  /// The adapter with a factor multiplied into one of its tensors.
  func absorbing(_ factor: Double) throws -> Self

  /// The same change as a LoRA; nil if it depends on the weight, or if the factors would be larger
  /// than the weight.
  func lowRank() throws -> LoRAAdapter?

  /// The square of the Frobenius norm of the change at strength 1, in float64; with a weight, of
  /// the change to that weight.
  ///
  /// - Parameter weight: W, [O, I].
  func squaredNorm(onto weight: Tensor?) throws -> Double
}

/// A linear layer without its adapters, as input of adapters.
public struct BaseLayer: Sendable {
  public let inputs: Int
  public let outputs: Int
  public let weight: any StoredWeight
  /// The device that the layer's tensors are built on.
  public let device: Device

  public init(weight: any StoredWeight, device: Device = .cpu) {
    (outputs, inputs) = (weight.shape[0], weight.shape[1])
    self.weight = weight
    self.device = device
  }
}

extension Adapter {
  public static var kind: AdapterKind { AdapterKind(Self.self) }
  public static var dependsOnWeight: Bool { false }
  public static var absorbsScale: Bool { false }
  /// The module of kohya's trainer that makes such adapters, for metadata.
  public static var networkModule: String { "lycoris.kohya" }
  public static func isKind(of roles: Set<String>) -> Bool {
    self.roles.contains { roles.contains($0.name) }
  }

  public var lowRankTerm: LowRankTerm? { nil }
  public func attached(to layer: BaseLayer) throws -> Self { self }

  /// The shared dtype of the tensors, or float32.
  public var dtype: DType {
    let dtypes = Set(tensors.map(\.tensor.dtype))
    return dtypes.count == 1 ? dtypes.first ?? .float32 : .float32
  }

  public func addingChange(to sum: Tensor?, weight: Tensor) throws -> Tensor {
    let change = try change(ofWeight: weight.to(.float32)).to(.bfloat16)
    return try sum.map { try $0 + change } ?? change
  }

  public func squaredNorm(onto weight: Tensor?) throws -> Double {
    if let lowRank = try lowRank() { return try lowRank.squaredNorm(onto: weight) }
    guard let shape = weightShape else { return .nan }
    let change = try change(ofWeight: weight?.to(.float32) ?? .zeros(shape))
    return try change.square().sum([1], dtype: .float64).sum().item()
  }

  public func with(strength: Double) -> Self {
    var copy = self
    copy.strength = strength
    return copy
  }

  public func with(scale: Double) -> Self {
    var copy = self
    copy.scale = scale
    return copy
  }

  /// An adapter with the same effect but another scale; adapters without a rank keep theirs.
  public func rescaled(to scale: Double) throws -> Self {
    guard rank != nil, scale != self.scale else { return self }
    return try absorbing(self.scale / scale).with(scale: scale)
  }

  public subscript(role: String) -> Tensor? { tensors.first { $0.role == role }?.tensor }

  /// Whether training changes one of the tensors.
  var isTrained: Bool { tensors.contains { $0.tensor.requiresGrad } }

  /// x in the adapter's dtype, with dropout in training.
  func input(_ x: Tensor, _ dtype: DType) throws -> Tensor {
    let x = try x.to(dtype)
    return try dropout?(x) ?? x
  }

  /// `lora_A of [4, 64] and lora_B of [64, 4]`.
  public var shapes: String {
    tensors.map { role, tensor in
      "\(role.hasSuffix(".weight") ? String(role.dropLast(7)) : role) of \(tensor.shape)"
    }.joined(separator: " and ")
  }

  /// The adapter as part of a layer.
  ///
  /// - Throws: `WeightError` for an adapter that doesn't fit; `TorchError`.
  func checked(for layer: BaseLayer, _ path: String, of file: String) throws -> any Adapter {
    try requireFit(path, of: file, inputs: layer.inputs, outputs: layer.outputs)
    return try attached(to: layer)
  }

  /// - Throws: `WeightError` for an adapter that doesn't fit a layer of these sizes.
  func requireFit(_ layer: String, of file: String, inputs: Int, outputs: Int) throws {
    guard weightShape == [outputs, inputs] else {
      throw WeightError(
        file: file, key: layer,
        problem: "has \(inputs) inputs and \(outputs) outputs, but its \(Self.title) adapter has "
          + "\(shapes). The adapter was made for another model.")
    }
  }
}

extension Tensor {
  /// The largest absolute value; NaN or infinity if there is one.
  package func largestValue() throws -> Double {
    // libtorch doesn't compute in 8 bits.
    try (dtype.size == 1 ? to(.float32) : self).abs().amax().to(.float64).item()
  }
}
