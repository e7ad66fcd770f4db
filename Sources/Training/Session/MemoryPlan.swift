/// The memory that a run's tensors will take on the device at its peak, as predicted.
///
/// Weights and the optimizer's state are exact. Activations are estimated
/// (`TransformerConfiguration.keptBytes`); some scratch memory of single operations is not included.
public struct MemoryPlan: Sendable {
  public var parts: [(name: String, bytes: Int)]
  public var total: Int { parts.reduce(0) { $0 + $1.bytes } }
}
