import Testing
import Torch

@Suite struct AutogradTests {
  let x: Tensor
  let w: Tensor

  init() throws {
    x = try Tensor([1, 2, 3] as [Float]).asLeaf()
    w = try Tensor([4, 5, 6] as [Float]).asLeaf()
  }

  @Test func analyticGradients() throws {
    // d/dx sum(x^2 w) = 2 x w, d/dw = x^2
    let gradients = try grad(of: [(x * x * w).sum()], wrt: [x, w])
    #expect(try gradients[0]?.array(of: Float.self) == [8, 20, 36])
    #expect(try gradients[1]?.array(of: Float.self) == [1, 4, 9])
    let exponential = try grad(of: [x.exp().sum()], wrt: [x])
    #expect(try exponential[0]?.array(of: Float.self) == x.exp().array(of: Float.self))
  }

  @Test func gradientsOfOutputsAreWeights() throws {
    let y = try x * x
    let gradients = try grad(of: [y], wrt: [x], gradOutputs: [Tensor([1, 10, 100] as [Float])])
    #expect(try gradients[0]?.array(of: Float.self) == [2, 40, 600])
  }

  @Test func severalOutputsAddUp() throws {
    let gradients = try grad(of: [(x * 2).sum(), (x * w).sum()], wrt: [x])
    #expect(try gradients[0]?.array(of: Float.self) == [6, 7, 8])
  }

  @Test func intermediateResultsAreInputs() throws {
    let y = try x * 3
    let gradients = try grad(of: [(y * y).sum()], wrt: [y])
    #expect(try gradients[0]?.array(of: Float.self) == [6, 12, 18])
  }

  @Test func unusedInputsGiveNil() throws {
    let gradients = try grad(of: [x.sum()], wrt: [w, x])
    #expect(gradients[0] == nil)
    #expect(try gradients[1]?.array(of: Float.self) == [1, 1, 1])
  }

  @Test func aGraphIsUsedOnceUnlessItIsRetained() throws {
    let y = try (x * x).sum()
    let first = try grad(of: [y], wrt: [x], retainGraph: true)
    let second = try grad(of: [y], wrt: [x])
    #expect(try first[0]?.array(of: Float.self) == second[0]?.array(of: Float.self))
    let error = try torchFailure { _ = try grad(of: [y], wrt: [x]) }
    #expect(error.kind == .autograd)
    #expect(error.operation == "grad")
  }

  @Test func mistakesAreOfTheAutogradKind() throws {
    for body: () throws -> Void in [
      { _ = try grad(of: [Tensor.scalar(1)], wrt: [x]) },  // no graph
      { _ = try grad(of: [(x * 2)], wrt: [x]) },  // not a scalar, and gradOutputs is missing
      { _ = try grad(of: [x.sum()], wrt: [Tensor.scalar(1)]) },  // an input outside of any graph
      {  // a tensor that the graph needs was overwritten
        let y = try x * 1
        let z = try (y * y).sum()
        try y.zero_()
        _ = try grad(of: [z], wrt: [x])
      },
      { try x.zero_() },  // a leaf is overwritten
      {  // a tensor of inference mode
        let frozen = try withInference { try Tensor.ones([3]) }
        _ = try x * frozen
      },
    ] {
      let error = try torchFailure(body)
      #expect(error.kind == .autograd, "\(error)")
    }
    let error = try torchFailure {
      _ = try grad(of: [x * 2], wrt: [x], gradOutputs: [Tensor.ones([2])])
    }
    #expect(error.kind == .shape, "\(error)")
  }

  @Test func leaves() throws {
    #expect(x.requiresGrad && x.isLeaf)
    let y = try x * 2
    #expect(y.requiresGrad && !y.isLeaf)
    #expect(try !y.detach().requiresGrad)
    #expect(try x.detach().sharesStorage(with: x))
    #expect(try x.to(.bfloat16).requiresGrad)
  }

  /// Whether operations on a leaf are recorded here.
  private func records() throws -> Bool { try (x * 2).requiresGrad }

  @Test func scopesNest() throws {
    #expect(try records())
    try withoutGrad {
      #expect(try records() == false)
      try withGrad {
        #expect(try records())
        try withoutGrad { () throws in #expect(try records() == false) }
        #expect(try records())
      }
      #expect(try records() == false)
    }
    try withInference {
      #expect(try records() == false)
      try withInference { () throws in #expect(try records() == false) }
      #expect(try records() == false)
    }
    #expect(try records())
  }

  @Test func scopesEndWithErrors() throws {
    struct Stop: Error {}
    #expect(throws: Stop.self) { try withoutGrad { throw Stop() } }
    #expect(throws: Stop.self) { try withInference { throw Stop() } }
    #expect(throws: Stop.self) { try withAutocast(.bfloat16, on: .cpu) { throw Stop() } }
    #expect(try records())
    #expect(try x.unsqueeze(0).matmul(x.unsqueeze(1)).dtype == .float32)
  }

  @Test func autocastOnTheCPU() throws {
    let row = try x.unsqueeze(0)
    let column = try w.unsqueeze(1)
    try withAutocast(.bfloat16, on: .cpu) {
      let product = try row.matmul(column)
      #expect(product.dtype == .bfloat16)
      #expect(try (x * 2).dtype == .float32)
      try withAutocast(.float16, on: .cpu) { () throws in
        #expect(try row.matmul(column).dtype == .float16)
      }
      #expect(try row.matmul(column).dtype == .bfloat16)
      let gradients = try grad(of: [product.sum()], wrt: [x])
      #expect(gradients[0]?.dtype == .float32)
    }
    #expect(try row.matmul(column).dtype == .float32)
  }
}
