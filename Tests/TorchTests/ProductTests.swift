import Testing
import Torch

/// Compares linear layers of sizes at which oneDNN may replace MKL with float64: values and
/// gradients in float32.
@Suite struct ProductTests {
  // Rows, inputs, outputs: below and above the threshold for oneDNN; sizes that don't fill a
  // vector; narrow ones.
  @Test(
    arguments: [
      [7, 9, 5], [128, 96, 160], [131, 257, 133], [512, 1024, 16], [512, 16, 1024], [300, 15, 400],
    ], [true, false])
  func linearLayers(_ sizes: [Int], hasBias: Bool) throws {
    let generator = try Generator(seed: 5)
    let x = try generator.normal([sizes[0], sizes[1]])
    let weight = try generator.normal([sizes[2], sizes[1]])
    let bias = hasBias ? [try generator.normal([sizes[2]])] : []
    // A view that is not contiguous.
    let turned = try x.transpose(0, 1).contiguous().transpose(0, 1)
    for input in [x, turned] {
      let (found, wanted) = try (
        results([input, weight] + bias, .float32), results([input, weight] + bias, .float64)
      )
      for (a, b) in zip(found, wanted) {
        #expect(a.dtype == .float32)
        #expect(a.shape == b.shape)
        let scale = try b.abs().max().item()
        #expect(try (a.to(.float64) - b).abs().max().item() <= 3e-6 * scale)
      }
      // The results are the same each time.
      for (a, b) in zip(found, try results([input, weight] + bias, .float32)) {
        #expect(try (a - b).abs().max().item() == 0)
      }
    }
  }

  /// The layer's output and the gradients of all its inputs.
  private func results(_ tensors: [Tensor], _ dtype: DType) throws -> [Tensor] {
    let leaves = try tensors.map { try $0.to(dtype).asLeaf() }
    let y = try leaves[0].linear(leaves[1], leaves.count > 2 ? leaves[2] : nil)
    let weights = try Generator(seed: 6).normal(y.shape).to(dtype)
    return try [y] + grad(of: [y], wrt: leaves, gradOutputs: [weights]).map { try #require($0) }
  }
}
