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
}

/// Adapters by the path of the module that they modify.
public struct AdapterSet: Sendable {
  private var adapters: [String: [LowRankAdapter]] = [:]
  /// The modified modules, in the order in which they were first added.
  public private(set) var paths: [String] = []
  /// The adapters' tensors that are trained, in the order of `paths`: A and then B.
  public private(set) var parameters: [Parameter] = []

  public init() {}

  public var isEmpty: Bool { paths.isEmpty }

  public subscript(path: String) -> [LowRankAdapter] { adapters[path] ?? [] }

  /// Stacks one more adapter on a module.
  public mutating func add(_ adapter: LowRankAdapter, to path: String) {
    if adapters[path] == nil { paths.append(path) }
    adapters[path, default: []].append(adapter)
    for (name, tensor) in [("lora_A", adapter.down), ("lora_B", adapter.up)] where tensor.requiresGrad {
      parameters.append(Parameter(key: "\(path).\(name).weight", tensor: tensor))
    }
  }
}
