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

  /// The root of the mean square of a difference, relative to that of the exact values.
  private func error(_ found: Tensor, _ exact: Tensor) throws -> Double {
    let exact = try exact.to(.float64)
    let difference = try (found.to(.float64) - exact).square().mean().item()
    return try (difference / exact.square().mean().item()).squareRoot()
  }

  /// Under autocast, an adapted layer is no less exact than its plain composition: output and
  /// gradients, with a dense matrix and with a quantized one whose rows have scales.
  @Test(arguments: [(1, false), (0.3, false), (1, true), (0.3, true)])
  func adaptedLinearUnderAutocast(scale: Double, isQuantized: Bool) throws {
    let x = try generator.normal([2, 30, 64]).to(.bfloat16)
    let (down, up) = (try generator.normal([4, 64]) / 8, try generator.normal([48, 4]) / 2)
    let bias = try generator.normal([48]).to(.bfloat16)
    let weight =
      isQuantized
      ? try (generator.normal([48, 64]) * 30).round().clamped(min: -127, max: 127).to(.int8)
      : try (generator.normal([48, 64]) / 8).to(.bfloat16)
    let factors = isQuantized ? try generator.uniform([48, 1]) / 100 + 0.001 : nil
    let direction = try generator.normal([2, 30, 48]).to(.bfloat16)

    func results(
      _ leaves: [Tensor], _ direction: Tensor, _ layer: ([Tensor]) throws -> Tensor
    ) throws -> [Tensor] {
      let leaves = try leaves.map { try $0.asLeaf() }
      let y = try layer(leaves)
      return try [y]
        + grad(of: [y], wrt: leaves, gradOutputs: [direction.to(y.dtype)]).map { try #require($0) }
    }
    let exact = try results([x, down, up].map { try $0.to(.float64) }, direction.to(.float64)) {
      var matrix = try weight.to(.float64)
      if let factors { matrix = try matrix * factors.to(.float64) }
      return try $0[0].linear(matrix, bias.to(.float64)) + $0[0].linear($0[1]).linear($0[2]) * scale
    }
    func underAutocast(_ layer: ([Tensor]) throws -> Tensor) throws -> [Tensor] {
      try results([x, down, up], direction) { leaves in
        try withAutocast(.bfloat16, on: .cpu) { try layer(leaves) }
      }
    }
    func fused(_ leaves: [Tensor]) throws -> Tensor {
      try leaves[0].linear(
        weight, factors: factors, dtype: .bfloat16, scalesProduct: isQuantized, bias,
        adaptedBy: leaves[1], leaves[2], scale: scale)
    }
    let one = try underAutocast(fused)
    let several = try underAutocast { leaves in
      let y =
        isQuantized
        ? try leaves[0].linear(
          quantized: weight, factors: factors, dtype: .bfloat16, scalesProduct: true, bias)
        : try leaves[0].linear(weight, bias)
      let change = try leaves[0].to(.float32).linear(leaves[1]).linear(leaves[2]) * scale
      return try (y + change).to(y.dtype)
    }
    for (index, name) in ["y", "dx", "dA", "dB"].enumerated() {
      #expect(one[index].dtype == several[index].dtype, "\(name)")
      let (found, plain) = try (
        error(one[index], exact[index]), error(several[index], exact[index])
      )
      #expect(found <= 1.1 * plain + 1e-7, "\(name): \(found), \(plain) for the composition")
      #expect(found < 8e-3, "\(name)")
    }
    // Copies of the factors that were made together change nothing, and are not used once the
    // factors have changed.
    for isChanged in [false, true] {
      let leaves = try [x, down.clone(), up.clone()].map { try $0.asLeaf() }
      let again = try withAutocast(.bfloat16, on: .cpu) {
        try Tensor.withCasts(of: [leaves[1], leaves[2]], on: .cpu) {
          if isChanged { try withoutGrad { _ = try leaves[1].copy_(leaves[1] * 2) } }
          return try fused(leaves)
        }
      }
      #expect(try Tensor.isEqual(again, one[0]) == !isChanged)
      if isChanged {
        let fresh = try withAutocast(.bfloat16, on: .cpu) { try fused(leaves) }
        #expect(try Tensor.isEqual(again, fresh))
      }
    }
  }

  /// In bfloat16, a norm is that of float32, rounded once.
  @Test func normsInBFloat16AreRoundedOnce() throws {
    let x = try generator.normal([2, 40, 257]).to(.bfloat16)
    let rows = try generator.normal([2, 40, 2, 257]).to(.bfloat16)
    let weight = try generator.normal([257]).to(.bfloat16)
    let direction = try generator.normal([2, 40, 257]).to(.bfloat16)
    func modulated(_ x: Tensor, _ rows: Tensor) throws -> Tensor {
      try x.modulatedRMSNorm(scale: rows.select(2, 0), shift: rows.select(2, 1), eps: 1e-6)
    }
    let cases: [(Tensor, DType) throws -> Tensor] = [
      { x, _ in try x.rmsNorm(eps: 1e-6) },
      { x, dtype in try x.rmsNorm(weight: weight.to(dtype), eps: 1e-6) },
      { x, dtype in try modulated(x, rows.to(dtype)) },
      { x, dtype in try modulated(x, rows.slice(1, from: 0, to: 1).to(dtype)) },
    ]
    for norm in cases {
      let (narrow, wide) = (try x.asLeaf(), try x.to(.float32).asLeaf())
      let (y, expected) = (try norm(narrow, .bfloat16), try norm(wide, .float32))
      #expect(y.dtype == .bfloat16)
      #expect(try Tensor.isEqual(y, expected.to(.bfloat16)))
      let dx = try #require(try grad(of: [y], wrt: [narrow], gradOutputs: [direction])[0])
      let dWide = try #require(
        try grad(of: [expected], wrt: [wide], gradOutputs: [direction.to(.float32)])[0])
      #expect(try Tensor.isEqual(dx, dWide.to(.bfloat16)))
    }
  }

  /// Under autocast, a rotation is that of float32, rounded once, for tables in any memory order.
  @Test func rotationsUnderAutocastAreRoundedOnce() throws {
    let angles = try generator.normal([2, 50, 4, 6])
    let x = try generator.normal([2, 50, 48]).to(.bfloat16)
    let direction = try generator.normal([2, 4, 50, 12]).to(.bfloat16)
    let tables = try [angles.cos(), angles.sin()].map { try $0.transpose(1, 2) }
    for tables in [tables, try tables.map { try $0.contiguous() }] {
      let (narrow, wide) = (try x.asLeaf(), try x.to(.float32).asLeaf())
      let y = try withAutocast(.bfloat16, on: .cpu) {
        try narrow.rotatedHalves(cos: tables[0], sin: tables[1])
      }
      let expected = try wide.rotatedHalves(cos: tables[0], sin: tables[1])
      #expect(y.dtype == .bfloat16)
      // The order of two additions may differ in float32.
      #expect(try error(y, expected.to(.bfloat16)) < 1e-4)
      let dx = try #require(try grad(of: [y], wrt: [narrow], gradOutputs: [direction])[0])
      let dWide = try #require(
        try grad(of: [expected], wrt: [wide], gradOutputs: [direction.to(.float32)])[0])
      #expect(dx.dtype == .bfloat16)
      #expect(try error(dx, dWide.to(.bfloat16)) < 1e-4)
    }
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
