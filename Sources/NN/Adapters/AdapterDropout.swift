import Synchronization
import Torch

/// Dropout of the inputs of adapters, in training only (Srivastava et al., "Dropout", 2014; applied
/// where peft applies it).
///
/// A mask is a function of the seed, the pass and the layer, not of a random state. So a block that
/// is recomputed in the backward pass draws the same mask again, and so does a resumed run.
public final class AdapterDropout: Sendable {
  /// The fraction of a layer's inputs that is dropped, from 0 to 1. The other inputs are divided by
  /// one minus that.
  public let probability: Double
  private let seed: UInt64
  /// The number of the current pass; nil outside of training.
  private let pass = Mutex<Int?>(nil)

  /// - Precondition: `probability` is between 0 and 1.
  public init(probability: Double, seed: UInt64) {
    precondition((0...1).contains(probability), "a probability lies between 0 and 1")
    self.probability = probability
    self.seed = seed
  }

  /// Runs a forward and backward pass with masks. Outside of a pass nothing is dropped.
  ///
  /// - Parameter number: A number that is unique in the run, such as a count over steps,
  ///   accumulated batches and ranks.
  public func inPass<R>(_ number: Int, _ body: () throws -> R) rethrows -> R {
    pass.withLock { $0 = number }
    defer { pass.withLock { $0 = nil } }
    return try body()
  }

  /// The dropout of one layer.
  public struct Layer: Sendable {
    let source: AdapterDropout
    let seed: UInt64

    /// Whether a pass is running in which inputs are dropped.
    var isActive: Bool { source.probability > 0 && source.pass.withLock { $0 != nil } }

    /// Sets a fraction of x to zero and scales the rest; returns x unchanged outside of a pass.
    func callAsFunction(_ x: Tensor) throws -> Tensor {
      let p = source.probability
      guard p > 0, let pass = source.pass.withLock({ $0 }) else { return x }
      let generator = try Generator(seed: RandomSeed.mix(seed, "pass", pass), device: x.device)
      let kept = try generator.uniform(x.shape).greaterOrEqual(to: Scalar(p)).to(x.dtype)
      return try x * (p < 1 ? kept * (1 / (1 - p)) : kept)
    }
  }

  func layer(_ path: String) -> Layer { Layer(source: self, seed: RandomSeed.mix(seed, path)) }
}
