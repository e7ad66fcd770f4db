import Torch

/// Adapters by the path of the module that they change.
public struct AdapterSet: Sendable {
  /// The placement of a layer's adapters when the layer is built.
  public enum Placement: String, Sendable, CaseIterable {
    /// Kept beside the weight, which is not copied. This takes less memory, and a change of
    /// strength costs nothing.
    case separate
    /// Added to a copy of the weight. Each step is as fast as without adapters.
    case fused
  }

  public var placement: Placement = .separate
  private var adapters: [String: [any Adapter]] = [:]
  /// The changed modules, in the order in which they were first added.
  public private(set) var paths: [String] = []

  public init() {}

  public var isEmpty: Bool { paths.isEmpty }

  public subscript(path: String) -> [any Adapter] { adapters[path] ?? [] }

  /// Stacks one more adapter on a module. Tensors that require gradients are trained.
  public mutating func add(_ adapter: any Adapter, to path: String) {
    if adapters[path] == nil { paths.append(path) }
    adapters[path, default: []].append(adapter)
  }
}

extension [any Adapter] {
  /// W plus the changes of all adapters, in the weight's dtype.
  ///
  /// The changes that don't depend on the weight are summed in bfloat16, like in ltx-core
  /// (`ltx_core.loader.fuse_loras`), and so is the weight, even one in float32. The other changes,
  /// which ltx-core doesn't know, are computed in float32 and added to that.
  ///
  /// - Parameter weight: [O, I]
  func fused(into weight: Tensor) throws -> Tensor {
    var sum: Tensor?
    for adapter in self where !type(of: adapter).dependsOnWeight {
      sum = try adapter.addingChange(to: sum, weight: weight)
    }
    // 8-bit dtypes can't be added.
    if let sum { try sum.add_(weight.dtype.size == 1 ? weight.to(.bfloat16) : weight) }
    let dependent = filter { type(of: $0).dependsOnWeight }
    guard !dependent.isEmpty else { return try sum?.to(weight.dtype) ?? weight }
    let wide = try weight.to(.float32)
    var result = try sum?.to(.float32) ?? wide
    for adapter in dependent { result = try result + adapter.change(ofWeight: wide) }
    return try result.detach().to(weight.dtype)
  }
}
