// O outputs, I inputs of a linear layer, R rank.

import Support
import Torch

/// A LoRA with a magnitude m for each output: m / ||W + scale * B A|| * (W + scale * B A), the norm
/// over the inputs of each output (Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024,
/// equation 5).
///
/// No gradient goes through the norm, which is section 4.3 of the paper. The strength interpolates
/// between the original layer and the changed one.
public struct DoRAAdapter: Adapter {
  public static let name = "dora"
  public static let title = "DoRA"
  public static let networkModule = "networks.lora"
  public static let dependsOnWeight = true
  public static let absorbsScale = true
  static let magnitudeRole = "lora_magnitude_vector"
  public static let roles =
    LoRAAdapter.roles + [
      // ComfyUI and kohya say dora_scale, peft says lora_magnitude_vector.
      AdapterRole(
        magnitudeRole,
        also: [
          "dora_scale", "lora_magnitude_vector.weight", "lora_magnitude_vector.default",
          "lora_magnitude_vector.default.weight",
        ])
    ]

  private var lora: LoRAAdapter
  /// [O]
  public let magnitude: Tensor
  public var strength = 1.0
  /// ||w|| of each row of the layer's weight, [O]; nil until the adapter is attached.
  private var rowNorms: Tensor?
  /// m / ||W + scale * B A||, [O], of an adapter that training doesn't change.
  private var fixedFactor: Tensor?

  /// - Parameters:
  ///   - down: A, [R, I].
  ///   - up: B, [O, R].
  ///   - magnitude: [O]
  public init(down: Tensor, up: Tensor, magnitude: Tensor, scale: Double, strength: Double = 1) {
    lora = LoRAAdapter(down: down, up: up, scale: scale)
    self.magnitude = magnitude
    self.strength = strength
  }

  public static func isKind(of roles: Set<String>) -> Bool { roles.contains(magnitudeRole) }

  public init(_ tensors: [String: Tensor]) throws {
    guard let magnitude = tensors[Self.magnitudeRole] else {
      throw Issue("has no magnitude (dora_scale or lora_magnitude_vector)")
    }
    guard tensors[LoRAAdapter.downRole] != nil || tensors[LoRAAdapter.upRole] != nil else {
      throw Issue("has a magnitude of DoRA but no A (lora_A or lora_down)")
    }
    lora = try LoRAAdapter(tensors)
    let outputs = lora.up.size(0)
    guard magnitude.dtype.isFloatingPoint, [[outputs], [outputs, 1]].contains(magnitude.shape)
    else {
      throw Issue(
        [.name(Self.magnitudeRole)],
        "has dtype \(magnitude.dtype) and shape \(magnitude.shape) (expected one floating-point "
          + "value for each of the \(outputs) outputs)")
    }
    self.magnitude = try magnitude.reshape([outputs])
  }

  /// A LoRA that changes nothing, and the norms of the weight's rows.
  public init(
    for layer: BaseLayer, _ settings: AdapterSettings, generator: Generator, dtype: DType
  ) throws {
    lora = try LoRAAdapter(for: layer, settings, generator: generator, dtype: dtype)
    magnitude = try layer.weight.dequantized().to(layer.device).rowNorms()
  }

  public static func shapes(inputs: Int, outputs: Int, _ settings: AdapterSettings)
    -> [String: [Int]]
  {
    LoRAAdapter.shapes(inputs: inputs, outputs: outputs, settings)
      .merging([magnitudeRole: [outputs]]) { first, _ in first }
  }

  public var tensors: [(role: String, tensor: Tensor)] {
    lora.tensors + [(Self.magnitudeRole, magnitude)]
  }

  private init(_ lora: LoRAAdapter, magnitude: Tensor, strength: Double) {
    (self.lora, self.magnitude, self.strength) = (lora, magnitude, strength)
  }

  public func mapTensors(_ transform: (String, Tensor) throws -> Tensor) throws -> Self {
    DoRAAdapter(
      try lora.mapTensors(transform), magnitude: try transform(Self.magnitudeRole, magnitude),
      strength: strength)
  }

  public var scale: Double {
    get { lora.scale }
    set { lora.scale = newValue }
  }
  public var dropout: AdapterDropout.Layer? {
    get { lora.dropout }
    set { lora.dropout = newValue }
  }
  public var rank: Int? { lora.rank }
  public var dtype: DType { lora.dtype }
  public var weightShape: [Int]? {
    magnitude.shape == [lora.up.size(0)] ? lora.weightShape : nil
  }

  // MARK: Computing

  public func attached(to layer: BaseLayer) throws -> Self {
    let weight = try layer.weight.dequantized().to(layer.device)
    let norms = try weight.rowNorms()
    var copy = self
    copy.rowNorms = norms
    copy.fixedFactor = isTrained ? nil : try factor(weight, rowNorms: norms)
    return copy
  }

  /// strength * (f (x W^T + scale * (x A^T) B^T) - x W^T), where f = m / ||W + scale * B A||.
  public func change(_ x: Tensor, of layer: BaseLayer, base: Tensor?) throws -> Tensor {
    let factor: Tensor
    if let fixedFactor {
      factor = fixedFactor
    } else {
      let weight = try layer.weight.dequantized()
      factor = try self.factor(weight, rowNorms: rowNorms ?? weight.rowNorms())
    }
    let seen = try lora.input(x, lora.down.dtype)
    let isDropping = dropout?.isActive ?? false
    // Like in peft, the magnitude acts on the inputs that remain after dropout.
    let through =
      try isDropping ? layer.weight.matmul(seen.to(x.dtype)) : base ?? layer.weight.matmul(x)
    // In this form, the graph keeps one tensor of the output's size.
    let change = try (through + seen.linear(lora.down).linear(lora.up) * scale) * factor - through
    return strength == 1 ? change : try change * strength
  }

  /// m / ||W + scale * B A||: [O], float32.
  ///
  /// The norm's square is |w|^2 + 2 scale w (B A)^T + scale^2 |B A|^2 row by row, so that B A,
  /// which has the size of W, is never formed.
  private func factor(_ weight: Tensor, rowNorms: Tensor) throws -> Tensor {
    let norms = try withoutGrad {
      try withoutAutocast(on: weight.device) {
        let (a, b) = (try lora.down.detach().to(.float32), try lora.up.detach().to(.float32))
        let w = try weight.to(.float32).matmul(a.transpose(0, 1))  // [O, R]
        let cross = try (w * b).sum([1]) * (2 * scale)
        let own = try (b.matmul(a.matmul(a.transpose(0, 1))) * b).sum([1]) * (scale * scale)
        return try (rowNorms.square() + cross + own)
          .clamped(min: Scalar(DType.float32.smallestNormal)).sqrt()
      }
    }
    return try magnitude.to(.float32) / norms
  }

  /// ltx-core doesn't know DoRA, so the change is computed in float32.
  public func change(ofWeight weight: Tensor) throws -> Tensor {
    let factor = try factor(weight, rowNorms: weight.rowNorms()).detach().unsqueeze(1)
    return try ((factor - 1) * weight + factor * lora.change(ofWeight: weight)) * strength
  }

  // MARK: Files and tools

  /// A magnitude is [O, 1] in ComfyUI's and kohya's files, [O] in peft's.
  public func fileTensors(_ naming: AdapterNaming) throws -> [(name: String, tensor: Tensor)] {
    let magnitude =
      switch naming {
      case .comfyUI, .kohya: ("dora_scale", try magnitude.reshape([-1, 1]))
      case .peft: (Self.magnitudeRole, magnitude)
      }
    var tensors = try lora.fileTensors(naming)
    tensors.insert(magnitude, at: 2)
    return tensors
  }

  public func absorbing(_ factor: Double) throws -> Self {
    DoRAAdapter(try lora.absorbing(factor), magnitude: magnitude, strength: strength)
  }

  public func lowRank() throws -> LoRAAdapter? { nil }

  /// Without a weight, the norm of scale * B A.
  public func squaredNorm(onto weight: Tensor?) throws -> Double {
    guard let weight else { return try lora.squaredNorm(onto: nil) }
    let (a, b) = (try lora.down.to(.float64), try lora.up.to(.float64))
    let gram = try a.matmul(a.transpose(0, 1))  // [R, R]
    let wide = try weight.to(.float32)
    let weights = try wide.square().sum([1], dtype: .float64)  // [O]
    let products = try wide.matmul(a.to(.float32).transpose(0, 1)).to(.float64)  // W A^T: [O, R]
    let cross = try (products * b).sum([1]) * scale
    let own = try (b.matmul(gram) * b).sum([1]) * (scale * scale)
    let tiny = Scalar(DType.float32.smallestNormal)
    let changed = try (weights + cross * 2 + own).clamped(min: tiny).sqrt()
    let factor = try magnitude.to(.float64).reshape([-1]) / changed
    // f (w + d) - w = (f - 1) w + f d, row by row.
    let less = try factor - 1
    return try (less.square() * weights + less * factor * cross * 2 + factor.square() * own)
      .sum().item()
  }
}
