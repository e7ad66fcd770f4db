import Torch

/// A low-rank change of a linear layer: W + scale * B A (Hu et al., "LoRA", 2021).
public struct LowRankAdapter: Sendable {
  /// A: [rank, inputs].
  public let down: Tensor
  /// B: [outputs, rank].
  public let up: Tensor
  public let scale: Double

  public init(down: Tensor, up: Tensor, scale: Double) {
    self.down = down
    self.up = up
    self.scale = scale
  }

  public var rank: Int { down.size(0) }

  /// scale * (x A^T) B^T for x [..., inputs], computed in the adapter's own element type, or autocast's.
  func change(_ x: Tensor) throws -> Tensor {
    let product = try x.to(down.dtype).linear(down).linear(up)
    return scale == 1 ? product : try product * scale
  }

  /// W + the sum of scale * B A over the adapters, in the weight's element type.
  ///
  /// Rounded as ltx-core rounds (`ltx_core.loader.fuse_loras`): (B * scale) A of the first in bfloat16, the others' added
  /// to it in bfloat16, and so is W, even one that is float32.
  ///
  /// - Parameter weight: [outputs, inputs]
  static func fused(_ adapters: [LowRankAdapter], into weight: Tensor) throws -> Tensor {
    var sum: Tensor?
    for adapter in adapters {
      let (down, up) = (try adapter.down.detach().to(.bfloat16), try adapter.up.detach().to(.bfloat16))
      if let change = sum {
        sum = try change.addmm(up, down, alpha: Scalar(adapter.scale))
      } else {
        sum = try (up * adapter.scale).matmul(down)
      }
    }
    guard let sum else { return weight }
    // Types of 8 bits don't add.
    try sum.add_(weight.dtype.size == 1 ? weight.to(.bfloat16) : weight)
    return try sum.to(weight.dtype)
  }

  /// - Throws: `WeightError` for factors that don't fit a layer of these sizes, with all shapes.
  func requireFit(_ layer: String, of file: String, inputs: Int, outputs: Int) throws {
    let (down, up) = (down.shape, up.shape)
    guard down.count == 2, up.count == 2, down[0] == up[1], down[1] == inputs, up[0] == outputs else {
      throw WeightError(
        file: file, key: layer,
        problem: "is a layer of \(inputs) inputs and \(outputs) outputs, but the LoRA's A is \(down) "
          + "and its B \(up); the LoRA was made for another model")
    }
  }
}

/// Adapters by the path of the module that they modify.
public struct AdapterSet: Sendable {
  /// What becomes of the adapters when a layer is built.
  public enum Placement: String, Sendable, CaseIterable {
    /// They stay beside the weight, which is not copied: less memory, and a strength costs nothing to change.
    case separate
    /// They are added to the weight, which then takes memory of its own: each step is as fast as without them.
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

/// New adapters for the linear layers whose names match, to be trained from scratch.
public struct FreshAdapters: Sendable {
  /// Names that a layer's path must be, or end in after a dot: `to_q`, `to_out.0`.
  public let targets: [String]
  public let rank: Int
  /// What B A is multiplied by is alpha / rank.
  public let alpha: Double
  /// The factors' element type.
  public let dtype: DType
  private let generator: Generator

  /// - Parameter generator: where A's random numbers come from, layer by layer in the order of building.
  public init(targets: [String], rank: Int, alpha: Double, dtype: DType = .float32, generator: Generator) {
    self.targets = targets
    self.rank = rank
    self.alpha = alpha
    self.dtype = dtype
    self.generator = generator
  }

  static func matches(_ path: String, target: String) -> Bool {
    path == target || path.hasSuffix(".\(target)")
  }

  func matches(_ path: String) -> Bool { targets.contains { Self.matches(path, target: $0) } }

  /// A uniform in +-1/sqrt(inputs), B zero, so that training starts from the unchanged model.
  func make(inputs: Int, outputs: Int, device: Device) throws -> LowRankAdapter {
    let bound = 1 / Double(inputs).squareRoot()
    let down = try (generator.uniform([rank, inputs]) * (2 * bound) - bound).to(device, dtype).asLeaf()
    let up = try Tensor.zeros([outputs, rank], dtype: dtype, device: device).asLeaf()
    return LowRankAdapter(down: down, up: up, scale: alpha / Double(rank))
  }
}
