// O outputs, I inputs of a linear layer, R rank.

import Support
import Torch

/// W + strength * scale * (A1 B1) ∘ (A2 B2), an elementwise product of two low-rank products
/// (Hyeon-Woo et al., "FedPara: Low-Rank Hadamard Product for Communication-Efficient Federated
/// Learning", 2022), whose rank is up to R^2.
///
/// Names, shapes and initial values are those of LyCORIS, whose files ComfyUI loads too.
public struct LoHaAdapter: Adapter {
  public static let name = "loha"
  public static let title = "LoHa"
  private static let order = ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"]
  public static let roles = order.map { AdapterRole($0) }

  /// A1 and A2: [O, R]. B1 and B2: [R, I].
  private let a1: Tensor
  private let b1: Tensor
  private let a2: Tensor
  private let b2: Tensor
  public var scale = 1.0
  public var strength = 1.0
  public var dropout: AdapterDropout.Layer?

  public init(_ tensors: [String: Tensor]) throws {
    try tensors.requireFactors("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    func tensor(_ role: String) throws -> Tensor {
      guard let tensor = tensors[role] else { throw Issue("has no \(role)") }
      return tensor
    }
    (a1, b1) = (try tensor("hada_w1_a"), try tensor("hada_w1_b"))
    (a2, b2) = (try tensor("hada_w2_a"), try tensor("hada_w2_b"))
    guard a1.size(1) == b1.size(0), a2.size(1) == b2.size(0) else {
      throw Issue("has \(shapes), whose ranks differ")
    }
    guard a1.size(0) == a2.size(0), b1.size(1) == b2.size(1) else {
      throw Issue("has \(shapes), which are for layers of different sizes")
    }
  }

  /// B1 and B2 are normal, A1 is normal with deviation 0.1, and A2 is zero.
  public init(
    for layer: BaseLayer, _ settings: AdapterSettings, generator: Generator, dtype: DType
  ) throws {
    let (up, down) = ([layer.outputs, settings.rank], [settings.rank, layer.inputs])
    a1 = try generator.normal(up) * 0.1
    b1 = try generator.normal(down)
    a2 = try .zeros(up, dtype: dtype, device: layer.device)
    b2 = try generator.normal(down)
    scale = settings.scale
  }

  public static func shapes(inputs: Int, outputs: Int, _ settings: AdapterSettings)
    -> [String: [Int]]
  {
    let (up, down) = ([outputs, settings.rank], [settings.rank, inputs])
    return ["hada_w1_a": up, "hada_w1_b": down, "hada_w2_a": up, "hada_w2_b": down]
  }

  public var tensors: [(role: String, tensor: Tensor)] { Array(zip(Self.order, [a1, b1, a2, b2])) }

  public func mapTensors(_ transform: (String, Tensor) throws -> Tensor) throws -> Self {
    var tensors: [String: Tensor] = [:]
    for (role, tensor) in self.tensors { tensors[role] = try transform(role, tensor) }
    var copy = try LoHaAdapter(tensors)
    (copy.scale, copy.strength, copy.dropout) = (scale, strength, dropout)
    return copy
  }

  public var rank: Int? { b1.size(0) }
  public var weightShape: [Int]? { [a1.size(0), b1.size(1)] }

  // MARK: Computing

  /// The elementwise product as one product of two factors of rank R^2: each column of the first
  /// factor is the elementwise product of a column of A1 and one of A2, each row of the second that
  /// of a row of B1 and one of B2.
  ///
  /// - Returns: [O, R1 R2] and [R1 R2, I]; nil if they would be larger than the weight.
  private func factors(_ dtype: DType? = nil) throws -> (up: Tensor, down: Tensor)? {
    let (outputs, inputs) = (a1.size(0), b1.size(1))
    let rank = b1.size(0) * b2.size(0)
    guard rank * (outputs + inputs) < outputs * inputs else { return nil }
    func wide(_ tensor: Tensor) throws -> Tensor { try tensor.to(dtype ?? tensor.dtype) }
    return (
      try (wide(a1).unsqueeze(2) * wide(a2).unsqueeze(1)).reshape([outputs, rank]),
      try (wide(b1).unsqueeze(1) * wide(b2).unsqueeze(0)).reshape([rank, inputs])
    )
  }

  public func change(_ x: Tensor, of layer: BaseLayer, base: Tensor?) throws -> Tensor {
    let seen = try input(x, a1.dtype)
    let product =
      if let (up, down) = try factors() { try seen.linear(down).linear(up) } else {
        try seen.linear(a1.matmul(b1) * a2.matmul(b2))
      }
    let factor = strength * scale
    return factor == 1 ? product : try product * factor
  }

  public func change(ofWeight weight: Tensor) throws -> Tensor {
    func product(_ a: Tensor, _ b: Tensor) throws -> Tensor {
      try a.detach().to(.float32).matmul(b.detach().to(.float32))
    }
    return try product(a1, b1) * product(a2, b2) * (strength * scale)
  }

  // MARK: Files and tools

  /// The factors unchanged, and alpha = scale * rank.
  public func fileTensors(_ naming: AdapterNaming) throws -> [(name: String, tensor: Tensor)] {
    if naming == .peft {
      throw Issue("is \(Self.title), which diffusers does not load")
    }
    return tensors.map { ($0.role, $0.tensor) }
      + [("alpha", try .full([], Scalar(scale * Double(b1.size(0))), dtype: .float32))]
  }

  public func absorbing(_ factor: Double) throws -> Self {
    guard factor != 1 else { return self }
    return try mapTensors { role, tensor in
      role == "hada_w1_a"
        ? try tensor.to(tensor.dtype == .float64 ? .float64 : .float32) * factor : tensor
    }
  }

  public func lowRank() throws -> LoRAAdapter? {
    guard let (up, down) = try factors(.float32) else { return nil }
    return LoRAAdapter(down: try down.detach(), up: try up.detach(), scale: scale)
  }
}
