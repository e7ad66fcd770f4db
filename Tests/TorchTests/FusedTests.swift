import Testing
import Torch

/// Compares fused layers with the operations that they replace: values and gradients in float32, to
/// within a few roundings of the sums.
@Suite struct FusedTests {
  let generator: Generator

  init() throws { generator = try Generator(seed: 7) }

  /// Compares two functions of the same leaves.
  private func expectEqual(
    _ leaves: [Tensor], _ one: ([Tensor]) throws -> Tensor, _ several: ([Tensor]) throws -> Tensor,
    _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let leaves = try leaves.map { try $0.asLeaf() }
    let a = try one(leaves)
    let b = try several(leaves)
    #expect(a.shape == b.shape, comment, sourceLocation: sourceLocation)
    let weights = try generator.normal(a.shape)
    let found =
      try [a] + grad(of: [a], wrt: leaves, gradOutputs: [weights]).map { try #require($0) }
    let wanted =
      try [b] + grad(of: [b], wrt: leaves, gradOutputs: [weights]).map { try #require($0) }
    for (x, y) in zip(found, wanted) {
      let scale = try y.abs().max().item()
      #expect(
        try (x - y).abs().max().item() <= 3e-6 * scale, comment, sourceLocation: sourceLocation)
    }
  }

  // Large enough for several threads, with widths that don't fill a vector.
  @Test(arguments: [[2, 3, 10], [1, 300, 130], [2, 200, 257]])
  func rmsNorm(_ shape: [Int]) throws {
    let x = try generator.normal(shape)
    let width = shape[2]
    let weight = try generator.normal([width])
    try expectEqual(
      [x], { try $0[0].rmsNorm(eps: 1e-3) }, { try $0[0].rmsNorm([width], eps: 1e-3) })
    try expectEqual(
      [x], { try $0[0].rmsNorm(weight: weight, eps: 1e-3) },
      { try $0[0].rmsNorm([width], weight: weight, eps: 1e-3) })
    try expectEqual(
      [x, weight], { try $0[0].rmsNorm(weight: $0[1], eps: 1e-3) },
      { try $0[0].rmsNorm([width], weight: $0[1], eps: 1e-3) }, "a weight that is trained")
  }

  @Test(arguments: [1, 40])
  func modulation(tokens: Int) throws {
    let x = try generator.normal([2, 40, 50])
    // In training they are rows of one tensor, which are not contiguous.
    let rows = try generator.normal([2, tokens, 3, 50])
    func several(_ x: Tensor, _ rows: Tensor) throws -> Tensor {
      try x.rmsNorm([50], eps: 1e-6) * (1 + rows.select(2, 1)) + rows.select(2, 2)
    }
    func one(_ x: Tensor, _ rows: Tensor) throws -> Tensor {
      try x.modulatedRMSNorm(scale: rows.select(2, 1), shift: rows.select(2, 2), eps: 1e-6)
    }
    try expectEqual([x], { try one($0[0], rows) }, { try several($0[0], rows) })
    try expectEqual(
      [x, rows], { try one($0[0], $0[1]) }, { try several($0[0], $0[1]) }, "rows that are trained")
    let turned = try x.transpose(0, 1).contiguous()
    try expectEqual(
      [turned], { try one($0[0].transpose(0, 1), rows) },
      { try several($0[0].transpose(0, 1), rows) },
      "strides of its own")
  }

  @Test(arguments: [[2, 5, 24, 4], [1, 250, 132, 2]])
  func rotation(_ sizes: [Int]) throws {
    let (batch, tokens, width, heads) = (sizes[0], sizes[1], sizes[2], sizes[3])
    let angles = try generator.normal([batch, tokens, heads, width / heads / 2])
    let tables = try [angles.cos(), angles.sin()]
    let x = try generator.normal([batch, tokens, width])
    // The tables of RotaryEmbedding, and the same in another memory order.
    for transposed in try [
      tables.map { try $0.transpose(1, 2) }, tables.map { try $0.transpose(1, 2).contiguous() },
    ] {
      try expectEqual(
        [x], { try $0[0].rotatedHalves(cos: transposed[0], sin: transposed[1]) },
        { x in
          let halves = try x[0].unflatten(-1, [heads, -1]).transpose(1, 2).chunk(2, -1)
          return try Tensor.cat(
            [
              halves[0] * transposed[0] - halves[1] * transposed[1],
              halves[1] * transposed[0] + halves[0] * transposed[1],
            ], -1)
        })
    }
  }

  @Test(arguments: [1, 0.3])
  func adaptedLinear(scale: Double) throws {
    let leaves = try [[2, 30, 20], [4, 20], [12, 4]].map { try generator.normal($0) }
    let weight = try generator.normal([12, 20])
    let bias = try generator.normal([12])
    for bias in [bias, nil] {
      try expectEqual(
        leaves, { try $0[0].linear(weight, bias, adaptedBy: $0[1], $0[2], scale: scale) },
        { try $0[0].linear(weight, bias) + $0[0].linear($0[1]).linear($0[2]) * scale })
    }
    try expectEqual(
      leaves + [weight], { try $0[0].linear($0[3], bias, adaptedBy: $0[1], $0[2], scale: scale) },
      { try $0[0].linear($0[3], bias) + $0[0].linear($0[1]).linear($0[2]) * scale },
      "a weight that is trained")
  }

  @Test func wrongSizesAreShapeErrors() throws {
    let x = try Tensor.ones([1, 4, 8])
    let failing: [() throws -> Tensor] = [
      { try x.rmsNorm(weight: .ones([7]), eps: 1e-6) },
      { try x.modulatedRMSNorm(scale: .ones([1, 3, 8]), shift: .ones([1, 3, 8]), eps: 1e-6) },
      { try x.rotatedHalves(cos: .ones([1, 2, 4, 3]), sin: .ones([1, 2, 4, 3])) },
      { try x.linear(.ones([5, 8]), nil, adaptedBy: .ones([2, 7]), .ones([5, 2]), scale: 1) },
    ]
    for call in failing {
      let error = #expect(throws: TorchError.self) { try call() }
      #expect(error?.kind == .shape)
    }
  }

  // One sample, fewer than a filter's reach, exactly one piece, several pieces with a rest.
  @Test(arguments: [1, 2, 5, 512, 1300])
  func antialiasedSnake(_ samples: Int) throws {
    // Angles of up to hundreds of revolutions.
    let x = try generator.normal([2, 3, samples]) * 20
    let alpha = try generator.normal([3]).exp() * 3
    let inverseBeta = try generator.normal([3]).exp()
    let (up, down) = (try generator.normal([12]) / 4, try generator.normal([12]) / 4)
    let one = try x.antialiasedSnake(alpha: alpha, inverseBeta: inverseBeta, up: up, down: down)
    #expect(one.shape == x.shape)
    // In float64, the unfused operations are used.
    let several = try x.to(.float64).antialiasedSnake(
      alpha: alpha.to(.float64), inverseBeta: inverseBeta.to(.float64), up: up.to(.float64),
      down: down.to(.float64))
    let filter = try up.to(.float64).reshape([1, 1, 12]).repeated([3, 1, 1])
    let doubled = try x.to(.float64).pad([5, 5], mode: "replicate")
      .convTransposed1d(filter, stride: [2], groups: 3).narrow(2, 15, 2 * samples)
    let angles = try doubled * alpha.to(.float64).reshape([1, 3, 1])
    let bent = try doubled + angles.sin().square() * inverseBeta.to(.float64).reshape([1, 3, 1])
    let wanted = try bent.pad([5, 6], mode: "replicate")
      .conv1d(down.to(.float64).reshape([1, 1, 12]).repeated([3, 1, 1]), stride: [2], groups: 3)
    let scale = try wanted.abs().max().item()
    #expect(try (several - wanted).abs().max().item() < 1e-12 * scale)
    // Angles are rounded when they are computed: at a hundred revolutions, float32 leaves four
    // digits of the sine.
    #expect(try (one.to(.float64) - wanted).abs().max().item() < 1e-5 * scale)
  }
}
