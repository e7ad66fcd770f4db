// O outputs, I inputs of a linear layer, R rank.

import Support
import Torch

/// W + strength * scale * B A (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models",
/// 2021).
public struct LoRAAdapter: Adapter {
  public static let name = "lora"
  public static let title = "LoRA"
  public static let networkModule = "networks.lora"
  public static let absorbsScale = true
  static let downRole = "lora_A.weight"
  static let upRole = "lora_B.weight"
  public static let roles = [
    AdapterRole(downRole, also: ["lora_A.default.weight", "lora_down.weight", "lora.down.weight"]),
    AdapterRole(upRole, also: ["lora_B.default.weight", "lora_up.weight", "lora.up.weight"]),
  ]

  /// A: [R, I].
  public let down: Tensor
  /// B: [O, R].
  public let up: Tensor
  public var scale: Double
  public var strength: Double
  public var dropout: AdapterDropout.Layer?

  public init(down: Tensor, up: Tensor, scale: Double, strength: Double = 1) {
    (self.down, self.up, self.scale, self.strength) = (down, up, scale, strength)
  }

  public init(_ tensors: [String: Tensor]) throws {
    guard let down = tensors[Self.downRole] else {
      let isHalf = tensors[Self.upRole] != nil
      throw Issue("has \(isHalf ? "a B" : "an alpha") but no A (lora_A or lora_down)")
    }
    guard let up = tensors[Self.upRole] else {
      throw Issue("has an A but no B (lora_B or lora_up)")
    }
    try tensors.requireFactors(Self.downRole, Self.upRole)
    guard down.size(0) == up.size(1) else {
      throw Issue(
        "has A of \(down.shape) and B of \(up.shape), whose ranks \(down.size(0)) and "
          + "\(up.size(1)) differ")
    }
    self.init(down: down, up: up, scale: 1)
  }

  /// A is uniform in +-1/sqrt(I) and B is zero.
  public init(
    for layer: BaseLayer, _ settings: AdapterSettings, generator: Generator, dtype: DType
  ) throws {
    self.init(
      down: try generator.uniform(
        [settings.rank, layer.inputs], bound: 1 / Double(layer.inputs).squareRoot()),
      up: try .zeros([layer.outputs, settings.rank], dtype: dtype, device: layer.device),
      scale: settings.scale)
  }

  public static func shapes(inputs: Int, outputs: Int, _ settings: AdapterSettings)
    -> [String: [Int]]
  {
    [downRole: [settings.rank, inputs], upRole: [outputs, settings.rank]]
  }

  public var tensors: [(role: String, tensor: Tensor)] {
    [(Self.downRole, down), (Self.upRole, up)]
  }

  public func mapTensors(_ transform: (String, Tensor) throws -> Tensor) throws -> Self {
    var copy = LoRAAdapter(
      down: try transform(Self.downRole, down), up: try transform(Self.upRole, up), scale: scale,
      strength: strength)
    copy.dropout = dropout
    return copy
  }

  public var rank: Int? { down.size(0) }

  public var weightShape: [Int]? {
    guard down.rank == 2, up.rank == 2, down.size(0) == up.size(1) else { return nil }
    return [up.size(0), down.size(1)]
  }

  // MARK: Computing

  public var lowRankTerm: LowRankTerm? {
    dropout?.isActive ?? false
      ? nil : LowRankTerm(down: down, up: up, scale: strength * scale)
  }

  /// strength * scale * (x A^T) B^T, computed in the adapter's own dtype, or autocast's.
  public func change(_ x: Tensor, of layer: BaseLayer, base: Tensor?) throws -> Tensor {
    let product = try input(x, down.dtype).linear(down).linear(up)
    let factor = strength * scale
    return factor == 1 ? product : try product * factor
  }

  public func change(ofWeight weight: Tensor) throws -> Tensor {
    try up.detach().to(.float32).matmul(down.detach().to(.float32)) * (strength * scale)
  }

  /// Rounded as ltx-core rounds (`ltx_core.loader.fuse_loras`): (B * scale) A of the first adapter
  /// in bfloat16, and the products of the others added to it in bfloat16.
  public func addingChange(to sum: Tensor?, weight: Tensor) throws -> Tensor {
    let (down, up) = (try down.detach().to(.bfloat16), try up.detach().to(.bfloat16))
    let factor = strength * scale
    guard let sum else { return try (up * factor).matmul(down) }
    return try sum.addmm(up, down, alpha: Scalar(factor))
  }

  // MARK: Files and tools

  /// Only kohya's readers expect an alpha, so the scale is multiplied into B. kohya's alpha is the
  /// rank, which stands for a scale of 1.
  public func fileTensors(_ naming: AdapterNaming) throws -> [(name: String, tensor: Tensor)] {
    let up = try absorbing(scale).up
    switch naming {
    case .comfyUI, .peft: return [(Self.downRole, down), (Self.upRole, up)]
    case .kohya:
      return [
        ("lora_down.weight", down), ("lora_up.weight", up),
        ("alpha", try .full([], Scalar(down.size(0)), dtype: .float32)),
      ]
    }
  }

  public func absorbing(_ factor: Double) throws -> Self {
    guard factor != 1 else { return self }
    var copy = LoRAAdapter(
      down: down, up: try up.to(up.dtype == .float64 ? .float64 : .float32) * factor, scale: scale,
      strength: strength)
    copy.dropout = dropout
    return copy
  }

  public func lowRank() throws -> LoRAAdapter? { self }

  /// B A is never formed: the Gram matrices of the factors, [R, R], give its norm.
  public func squaredNorm(onto weight: Tensor?) throws -> Double {
    let (a, b) = (try down.to(.float64), try up.to(.float64))
    let gram = try a.matmul(a.transpose(0, 1))
    let product: Double = try (b.transpose(0, 1).matmul(b) * gram).sum().item()
    return product * scale * scale
  }
}

extension [String: Tensor] {
  /// Checks tensors of an adapter that must be matrices.
  ///
  /// - Throws: `Issue` for one that isn't a matrix of a floating-point dtype, or is empty.
  func requireFactors(_ roles: String...) throws {
    for role in roles {
      guard let tensor = self[role] else { continue }
      guard tensor.rank == 2, tensor.dtype.isFloatingPoint, tensor.count > 0 else {
        throw Issue(
          [.name(role)],
          "has dtype \(tensor.dtype) and shape \(tensor.shape) (expected a matrix in a "
            + "floating-point dtype)")
      }
    }
  }
}

extension Generator {
  /// Uniform values from -bound to bound.
  func uniform(_ shape: [Int], bound: Double) throws -> Tensor {
    try uniform(shape) * (2 * bound) - bound
  }
}
