import Testing
import Torch

/// Compares linear layers and attention with float64: values and gradients, of sizes at which libtorch's
/// way may be replaced.
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

  /// Sums are in float32, and only the results are rounded.
  @Test(
    arguments: [DType.bfloat16, .float16],
    [
      [7, 9, 5], [64, 16, 256], [131, 257, 133], [1, 512, 300], [8, 257, 96], [9, 128, 96],
    ])
  func linearLayersInHalfPrecision(dtype: DType, sizes: [Int]) throws {
    let generator = try Generator(seed: 5)
    // Rounded before, so that both sides have the same inputs.
    let inputs = try [
      [sizes[0], sizes[1]], [sizes[2], sizes[1]], [sizes[2]],
    ].map { try generator.normal($0).to(dtype) }
    let found = try results(inputs, dtype)
    for (a, b) in zip(found, try results(inputs, .float64)) {
      #expect(a.dtype == dtype && a.shape == b.shape)
      try expectRounded(a, b)
    }
  }

  /// Rows, inputs, outputs: few rows of a matrix of int8 are multiplied without a copy of it, if its
  /// rows are multiples of 16 elements and aligned; others with a copy.
  @Test(
    arguments: [
      [1, 64, 7], [3, 512, 130], [16, 48, 33], [17, 64, 20], [2, 24, 9], [1, 7, 5],
    ],
    [false, true])
  func int8LinearLayers(sizes: [Int], isShifted: Bool) throws {
    let generator = try Generator(seed: 5)
    let (rows, inputs, outputs) = (sizes[0], sizes[1], sizes[2])
    let x = try generator.normal([rows, inputs]).to(.bfloat16)
    var elements = try (generator.normal([outputs + 1, inputs]) * 40).round()
      .clamped(min: -128, max: 127).to(.int8)
    if isShifted {
      // As in a file whose tensors follow each other without gaps.
      let all = try Tensor.cat([Tensor.zeros([1], dtype: .int8), elements.flatten()])
      elements = try all.narrow(0, 1, (outputs + 1) * inputs).unflatten(0, [-1, inputs])
    }
    elements = try elements.narrow(0, 0, outputs)
    let factors = try generator.uniform([outputs, 1]) / 100 + 0.001
    let bias = try generator.normal([outputs]).to(.bfloat16)
    let leaf = try x.asLeaf()
    let y = try leaf.linear(
      quantized: elements, factors: factors, dtype: .bfloat16, scalesProduct: true, bias)
    let exact = try x.to(.float64).asLeaf()
    let wanted = try exact.linear(
      elements.to(.float64) * factors.to(.float64), bias.to(.float64))
    #expect(y.dtype == .bfloat16 && y.shape == [rows, outputs])
    // The sum, its product with the factor and the sum with the bias are rounded.
    try expectRounded(y, wanted, steps: 2)
    let direction = try generator.normal(y.shape).to(.bfloat16)
    let found = try #require(grad(of: [y], wrt: [leaf], gradOutputs: [direction])[0])
    let gradient = try #require(
      grad(of: [wanted], wrt: [exact], gradOutputs: [direction.to(.float64)])[0])
    try expectRounded(found, gradient, steps: 2)
  }

  @Test(arguments: [DType.bfloat16, .float16]) func attentionInHalfPrecision(dtype: DType) throws {
    let generator = try Generator(seed: 7)
    let inputs = try (0..<3).map { _ in try generator.normal([2, 3, 70, 16]).to(dtype) }
    func run(_ dtype: DType) throws -> [Tensor] {
      let leaves = try inputs.map { try $0.to(dtype).asLeaf() }
      let y = try Tensor.scaledDotProductAttention(leaves[0], leaves[1], leaves[2])
      let weights = try Generator(seed: 6).normal(y.shape).to(dtype)
      return try [y] + grad(of: [y], wrt: leaves, gradOutputs: [weights]).map { try #require($0) }
    }
    for (a, b) in zip(try run(dtype), try run(.float64)) {
      #expect(a.dtype == dtype)
      try expectRounded(a, b, steps: 4)
    }
  }

  /// Checks that values differ from exact ones by rounding to their dtype.
  ///
  /// - Parameter steps: the allowed difference, in steps between neighbors at the largest value.
  private func expectRounded(_ a: Tensor, _ b: Tensor, steps: Double = 1) throws {
    let step = a.dtype == .bfloat16 ? 0x1p-8 : 0x1p-11
    let scale = try b.abs().max().item()
    #expect(try (a.to(.float64) - b).abs().max().item() <= steps * step * scale)
  }

  /// The layer's output and the gradients of all its inputs.
  private func results(_ tensors: [Tensor], _ dtype: DType) throws -> [Tensor] {
    let leaves = try tensors.map { try $0.to(dtype).asLeaf() }
    let y = try leaves[0].linear(leaves[1], leaves.count > 2 ? leaves[2] : nil)
    // The same in all dtypes: a gradient with a single term is not an average of roundings.
    let weights = try Generator(seed: 6).normal(y.shape).to(.bfloat16).to(dtype)
    return try [y] + grad(of: [y], wrt: leaves, gradOutputs: [weights]).map { try #require($0) }
  }
}
