// O outputs, I inputs of a linear layer, R rank.
// The weight is a Kronecker product: O = a b and I = c d, W1 is [a, c] and W2 is [b, d].

import Support
import Torch

/// W + strength * scale * (W1 ⊗ W2), where each factor is a matrix or a product of two (Yeh et al.,
/// "Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to Model Evaluation", 2024).
///
/// Names, shapes and initial values are those of LyCORIS, whose files ComfyUI loads too. With two
/// full matrices there is no rank, and the scale is 1.
public struct LoKrAdapter: Adapter {
  public static let name = "lokr"
  public static let title = "LoKr"
  private static let order = [
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b",
  ]
  public static let roles = order.map { AdapterRole($0) }

  /// A matrix, or a product of two.
  private enum Factor: Sendable {
    case whole(Tensor)
    /// a: [rows, R], b: [R, columns].
    case product(a: Tensor, b: Tensor)

    init(_ tensors: [String: Tensor], _ name: String) throws {
      let (whole, a, b) = (tensors[name], tensors["\(name)_a"], tensors["\(name)_b"])
      switch (whole, a, b) {
      case (let whole?, nil, nil): self = .whole(whole)
      case (nil, let a?, let b?):
        guard a.size(1) == b.size(0) else {
          throw Issue(
            "has \(name)_a of \(a.shape) and \(name)_b of \(b.shape), whose ranks \(a.size(1)) and "
              + "\(b.size(0)) differ")
        }
        self = .product(a: a, b: b)
      case (nil, nil, nil): throw Issue("has neither \(name) nor \(name)_a and \(name)_b")
      case (_?, _, _): throw Issue("has both \(name) and a product in its place")
      case (nil, _, _):
        throw Issue(
          "has \(name)_\(a == nil ? "b" : "a") but no \(name)_\(a == nil ? "a" : "b")")
      }
    }

    func tensors(_ name: String) -> [(role: String, tensor: Tensor)] {
      switch self {
      case .whole(let whole): [(name, whole)]
      case .product(let a, let b): [("\(name)_a", a), ("\(name)_b", b)]
      }
    }

    func map(_ name: String, _ transform: (String, Tensor) throws -> Tensor) throws -> Factor {
      switch self {
      case .whole(let whole): .whole(try transform(name, whole))
      case .product(let a, let b):
        .product(a: try transform("\(name)_a", a), b: try transform("\(name)_b", b))
      }
    }

    var shape: [Int] {
      switch self {
      case .whole(let whole): whole.shape
      case .product(let a, let b): [a.size(0), b.size(1)]
      }
    }

    var rank: Int? { if case .product(let a, _) = self { a.size(1) } else { nil } }

    var dtype: DType {
      switch self {
      case .whole(let whole): whole.dtype
      case .product(let a, _): a.dtype
      }
    }

    /// The matrix in a dtype, without gradients: [rows, columns].
    func matrix(_ dtype: DType) throws -> Tensor {
      switch self {
      case .whole(let whole): try whole.detach().to(dtype)
      case .product(let a, let b): try a.detach().to(dtype).matmul(b.detach().to(dtype))
      }
    }

    /// x F^T for x [..., columns]: [..., rows].
    func callAsFunction(_ x: Tensor) throws -> Tensor {
      switch self {
      case .whole(let whole): try x.linear(whole)
      case .product(let a, let b): try x.linear(b).linear(a)
      }
    }
  }

  private let first: Factor
  private let second: Factor
  public var scale = 1.0
  public var strength = 1.0
  public var dropout: AdapterDropout.Layer?

  public init(_ tensors: [String: Tensor]) throws {
    for role in Self.order {
      guard let tensor = tensors[role] else { continue }
      guard tensor.rank == 2, tensor.dtype.isFloatingPoint, tensor.count > 0 else {
        throw Issue(
          [.name(role)],
          "has dtype \(tensor.dtype) and shape \(tensor.shape) (expected a matrix in a "
            + "floating-point dtype)")
      }
    }
    first = try Factor(tensors, "lokr_w1")
    second = try Factor(tensors, "lokr_w2")
  }

  private init(_ first: Factor, _ second: Factor, like other: LoKrAdapter) {
    (self.first, self.second) = (first, second)
    (scale, strength, dropout) = (other.scale, other.strength, other.dropout)
  }

  /// Uniform in +-1/sqrt(columns), except for the last tensor, which is zero.
  public init(
    for layer: BaseLayer, _ settings: AdapterSettings, generator: Generator, dtype: DType
  ) throws {
    let shapes = Self.shapes(inputs: layer.inputs, outputs: layer.outputs, settings)
    let zero = shapes["lokr_w2"] == nil ? "lokr_w2_b" : "lokr_w2"
    var tensors: [String: Tensor] = [:]
    for role in Self.order {
      guard let shape = shapes[role] else { continue }
      tensors[role] =
        role == zero
        ? try .zeros(shape, dtype: dtype, device: layer.device)
        : try generator.uniform(shape, bound: 1 / Double(shape[1]).squareRoot())
    }
    try self.init(tensors)
    if rank != nil { scale = settings.scale }
  }

  /// LyCORIS's rule: a factor is a product if its rank is less than half of its larger side. W1 is
  /// a product only if requested.
  public static func shapes(inputs: Int, outputs: Int, _ settings: AdapterSettings)
    -> [String: [Int]]
  {
    let (a, b) = factorization(outputs, settings.factor)
    let (c, d) = factorization(inputs, settings.factor)
    var shapes: [String: [Int]] = [:]
    func add(_ name: String, _ rows: Int, _ columns: Int, mayBeProduct: Bool) {
      if mayBeProduct, !settings.isFullMatrix, 2 * settings.rank < max(rows, columns) {
        shapes["\(name)_a"] = [rows, settings.rank]
        shapes["\(name)_b"] = [settings.rank, columns]
      } else {
        shapes[name] = [rows, columns]
      }
    }
    add("lokr_w1", a, c, mayBeProduct: settings.decomposesBoth)
    add("lokr_w2", b, d, mayBeProduct: true)
    return shapes
  }

  /// A size as a product, the smaller number first: with `factor` if that divides it, otherwise
  /// with two numbers close to each other of which the smaller is at most `factor`.
  ///
  /// - Parameter factor: -1 for no limit.
  static func factorization(_ size: Int, _ factor: Int) -> (Int, Int) {
    if factor > 0, size.isMultiple(of: factor) {
      return (min(factor, size / factor), max(factor, size / factor))
    }
    let limit = factor < 0 ? size : factor
    var (m, n) = (1, size)
    while m < n {
      guard let next = (m + 1...size).first(where: { size.isMultiple(of: $0) }) else { break }
      let other = size / next
      // The sum shrinks until the two numbers have met.
      guard next + other <= size + 1, next <= limit else { break }
      (m, n) = (next, other)
    }
    return (min(m, n), max(m, n))
  }

  public var tensors: [(role: String, tensor: Tensor)] {
    first.tensors("lokr_w1") + second.tensors("lokr_w2")
  }

  public func mapTensors(_ transform: (String, Tensor) throws -> Tensor) throws -> Self {
    LoKrAdapter(
      try first.map("lokr_w1", transform), try second.map("lokr_w2", transform), like: self)
  }

  public var rank: Int? { second.rank ?? first.rank }

  public var weightShape: [Int]? {
    [first.shape[0] * second.shape[0], first.shape[1] * second.shape[1]]
  }

  // MARK: Computing

  /// The Kronecker product is never formed: with x as [..., c, d], the change is W1 x W2^T.
  public func change(_ x: Tensor, of layer: BaseLayer, base: Tensor?) throws -> Tensor {
    let seen = try input(x, first.dtype)
    let grouped = try seen.reshape(Array(x.shape.dropLast()) + [first.shape[1], second.shape[1]])
    let right = try second(grouped)  // [..., c, b]
    let both = try first(right.transpose(-1, -2)).transpose(-1, -2)  // [..., a, b]
    let change = try both.reshape(
      Array(x.shape.dropLast()) + [first.shape[0] * second.shape[0]])
    let factor = strength * scale
    return factor == 1 ? change : try change * factor
  }

  public func change(ofWeight weight: Tensor) throws -> Tensor {
    try Self.kronecker(first.matrix(.float32), second.matrix(.float32)) * (strength * scale)
  }

  /// [a b, c d] for [a, c] and [b, d].
  private static func kronecker(_ x: Tensor, _ y: Tensor) throws -> Tensor {
    let blocks =
      try x.reshape([x.size(0), 1, x.size(1), 1]) * y.reshape([1, y.size(0), 1, y.size(1)])
    return try blocks.reshape([x.size(0) * y.size(0), x.size(1) * y.size(1)])
  }

  // MARK: Files and tools

  /// The factors unchanged, and alpha = scale * rank. Without a rank, readers ignore alpha.
  public func fileTensors(_ naming: AdapterNaming) throws -> [(name: String, tensor: Tensor)] {
    if naming == .peft {
      throw Issue("is \(Self.title), which diffusers does not load")
    }
    let alpha = rank.map { scale * Double($0) } ?? 1
    return tensors.map { ($0.role, $0.tensor) }
      + [("alpha", try .full([], Scalar(alpha), dtype: .float32))]
  }

  public func absorbing(_ factor: Double) throws -> Self {
    guard factor != 1 else { return self }
    let target = first.rank == nil ? "lokr_w1" : "lokr_w1_a"
    return try mapTensors { role, tensor in
      role == target
        ? try tensor.to(tensor.dtype == .float64 ? .float64 : .float32) * factor : tensor
    }
  }

  /// W1 ⊗ (a b) = (W1 ⊗ a) (1 ⊗ b), or with the identity on the side of W1's rows if there are
  /// fewer of them than columns.
  public func lowRank() throws -> LoRAAdapter? {
    guard case .product(let a, let b) = second else { return nil }
    let w1 = try first.matrix(.float32)
    let (rows, columns) = (w1.size(0), w1.size(1))
    let count = min(rows, columns)
    guard let shape = weightShape, count * a.size(1) * (shape[0] + shape[1]) < shape[0] * shape[1]
    else { return nil }
    let (left, right) = (try a.detach().to(.float32), try b.detach().to(.float32))
    let diagonal = (0..<count * count).map { $0.isMultiple(of: count + 1) ? Float(1) : 0 }
    let identity = try Tensor(diagonal, shape: [count, count]).to(w1.device)
    return LoRAAdapter(
      down: try Self.kronecker(columns <= rows ? identity : w1, right),
      up: try Self.kronecker(columns <= rows ? w1 : identity, left), scale: scale)
  }

  /// The norm of a Kronecker product is the product of the norms.
  public func squaredNorm(onto weight: Tensor?) throws -> Double {
    func square(_ factor: Factor) throws -> Double {
      try factor.matrix(.float64).square().sum().item()
    }
    return try square(first) * square(second) * scale * scale
  }
}
