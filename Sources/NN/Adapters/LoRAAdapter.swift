// O outputs, I inputs of a linear layer, R rank.

import Torch

/// A low-rank change of a linear layer: W + scale * B A (Hu et al., "LoRA", 2021).
///
/// With a magnitude m the layer is m / ||W + scale * B A|| * (W + scale * B A), the norm over the
/// inputs of each output (Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", 2024, equation
/// 5). As there in section 4.3, no gradient goes through the norm.
public struct LowRankAdapter: Sendable {
  /// A: [R, I].
  public let down: Tensor
  /// B: [O, R].
  public let up: Tensor
  /// What B A is multiplied by: alpha / rank, or alpha / sqrt(rank).
  public let scale: Double
  /// What the change of the layer as a whole is multiplied by.
  public let strength: Double
  /// [O]; of DoRA.
  public let magnitude: Tensor?
  let dropout: AdapterDropout.Layer?

  public init(
    down: Tensor, up: Tensor, scale: Double, strength: Double = 1, magnitude: Tensor? = nil
  ) {
    self.init(
      down: down, up: up, scale: scale, strength: strength, magnitude: magnitude, dropout: nil)
  }

  init(
    down: Tensor, up: Tensor, scale: Double, strength: Double = 1, magnitude: Tensor?,
    dropout: AdapterDropout.Layer?
  ) {
    self.down = down
    self.up = up
    self.scale = scale
    self.strength = strength
    self.magnitude = magnitude
    self.dropout = dropout
  }

  public var rank: Int { down.size(0) }

  /// Whether the change is strength * scale * B A x and nothing else now.
  var isPlain: Bool { magnitude == nil && !(dropout?.isActive ?? false) }

  /// strength * scale * (x A^T) B^T
  var term: LowRankTerm { LowRankTerm(down: down, up: up, scale: strength * scale) }

  /// x in the adapter's element type, partly dropped in training.
  func input(_ x: Tensor) throws -> Tensor {
    let x = try x.to(down.dtype)
    return try dropout?(x) ?? x
  }

  /// strength * scale * (x A^T) B^T for x [..., I], computed in the adapter's own element type, or
  /// autocast's.
  func change(_ x: Tensor) throws -> Tensor {
    let product = try input(x).linear(down).linear(up)
    let factor = strength * scale
    return factor == 1 ? product : try product * factor
  }

  // MARK: DoRA

  /// strength * (f (x W^T + scale * (x A^T) B^T) - x W^T), where f = m / ||W + scale * B A||.
  ///
  /// - Parameters:
  ///   - base: x W^T.
  ///   - product: the same of another x.
  func change(_ x: Tensor, base: Tensor, factor: Tensor, product: (Tensor) throws -> Tensor) throws
    -> Tensor
  {
    let seen = try input(x)
    // As in peft, the magnitude acts on what is left after dropout.
    let through = dropout?.isActive ?? false ? try product(seen.to(x.dtype)) : base
    // So the graph keeps one tensor of the output's size.
    let change = try (through + seen.linear(down).linear(up) * scale) * factor - through
    return strength == 1 ? change : try change * strength
  }

  /// m / ||W + scale * B A||: [O], float32. Nil without a magnitude.
  ///
  /// The norm's square is |w|^2 + 2 scale w (B A)^T + scale^2 |B A|^2 row by row, so that nothing
  /// of the size of W is made for B A.
  func factor(_ weight: Tensor, rowNorms: Tensor) throws -> Tensor? {
    guard let magnitude else { return nil }
    let norms = try withoutGrad {
      try withoutAutocast(on: weight.device) {
        let (a, b) = (try down.detach().to(.float32), try up.detach().to(.float32))
        let w = try weight.to(.float32).matmul(a.transpose(0, 1))  // [O, R]
        let cross = try (w * b).sum([1]) * (2 * scale)
        let own = try (b.matmul(a.matmul(a.transpose(0, 1))) * b).sum([1]) * (scale * scale)
        return try (rowNorms.square() + cross + own)
          .clamped(min: Scalar(DType.float32.smallestNormal)).sqrt()
      }
    }
    return try magnitude.to(.float32) / norms
  }

  /// W + the sum of the adapters' changes, in the weight's element type.
  ///
  /// Rounded as ltx-core rounds (`ltx_core.loader.fuse_loras`): (B * scale) A of the first in
  /// bfloat16, the others' added to it in bfloat16, and so is W, even one that is float32. What has
  /// a magnitude, which ltx-core does not know, is computed in float32 and added to that.
  ///
  /// - Parameter weight: [O, I]
  static func fused(_ adapters: [LowRankAdapter], into weight: Tensor) throws -> Tensor {
    var sum: Tensor?
    for adapter in adapters where adapter.magnitude == nil {
      let (down, up) = (
        try adapter.down.detach().to(.bfloat16), try adapter.up.detach().to(.bfloat16)
      )
      let factor = adapter.strength * adapter.scale
      if let change = sum {
        sum = try change.addmm(up, down, alpha: Scalar(factor))
      } else {
        sum = try (up * factor).matmul(down)
      }
    }
    // Types of 8 bits don't add.
    if let sum { try sum.add_(weight.dtype.size == 1 ? weight.to(.bfloat16) : weight) }
    let decomposed = adapters.filter { $0.magnitude != nil }
    guard !decomposed.isEmpty else { return try sum?.to(weight.dtype) ?? weight }
    let wide = try weight.to(.float32)
    let rowNorms = try wide.rowNorms()
    var result = try sum?.to(.float32) ?? wide
    for adapter in decomposed {
      guard let factor = try adapter.factor(wide, rowNorms: rowNorms)?.unsqueeze(1) else {
        continue
      }
      let low =
        try adapter.up.detach().to(.float32).matmul(adapter.down.detach().to(.float32))
        * adapter.scale
      result = try result + ((factor - 1) * wide + factor * low) * adapter.strength
    }
    return try result.detach().to(weight.dtype)
  }

  /// - Throws: `WeightError` for factors that don't fit a layer of these sizes, with all shapes.
  func requireFit(_ layer: String, of file: String, inputs: Int, outputs: Int) throws {
    let (down, up) = (down.shape, up.shape)
    guard down.count == 2, up.count == 2, down[0] == up[1], down[1] == inputs, up[0] == outputs
    else {
      throw WeightError(
        file: file, key: layer,
        problem:
          "is a layer of \(inputs) inputs and \(outputs) outputs, but the LoRA's A is \(down) "
          + "and its B \(up); the LoRA was made for another model")
    }
    if let magnitude, magnitude.shape != [outputs] {
      throw WeightError(
        file: file, key: layer,
        problem:
          "is a layer of \(outputs) outputs, but the LoRA's magnitude is \(magnitude.shape); "
          + "the LoRA was made for another model")
    }
  }
}

/// Adapters by the path of the module that they modify.
public struct AdapterSet: Sendable {
  /// What becomes of the adapters when a layer is built.
  public enum Placement: String, Sendable, CaseIterable {
    /// They stay beside the weight, which is not copied: less memory, and a strength costs nothing
    /// to change.
    case separate
    /// They are added to the weight, which then takes memory of its own: each step is as fast as
    /// without them.
    case fused
  }

  public var placement: Placement = .separate
  private var adapters: [String: [LowRankAdapter]] = [:]
  /// The modified modules, in the order in which they were first added.
  public private(set) var paths: [String] = []

  public init() {}

  public var isEmpty: Bool { paths.isEmpty }

  public subscript(path: String) -> [LowRankAdapter] { adapters[path] ?? [] }

  /// Stacks one more adapter on a module. Factors that require gradients are trained.
  public mutating func add(_ adapter: LowRankAdapter, to path: String) {
    if adapters[path] == nil { paths.append(path) }
    adapters[path, default: []].append(adapter)
  }
}
