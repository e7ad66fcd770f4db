import Testing
import Torch

/// Kept attention has the results and the gradients of plain attention, bit for bit.
@Suite struct KeptAttentionTests {
  private func inputs(_ width: Int, _ dtype: DType) throws -> [Tensor] {
    let generator = try Generator(seed: 3)
    return try [5, 7, 7].map { tokens in
      try generator.normal([2, 3, tokens, width]).to(dtype).asLeaf()
    }
  }

  private func gradients(_ output: Tensor, _ inputs: [Tensor]) throws -> [Tensor?] {
    try grad(of: [(output * output).to(.float32).sum()], wrt: inputs)
  }

  @Test(arguments: [DType.float32, .bfloat16], [8, 20])
  func gradientsAreThoseOfPlainAttention(_ dtype: DType, width: Int) throws {
    let inputs = try inputs(width, dtype)
    let plain = try Tensor.scaledDotProductAttention(inputs[0], inputs[1], inputs[2])
    let expected = try gradients(plain, inputs)
    let kept = KeptAttention()
    func attend() throws -> Tensor {
      try KeptAttention.attention(inputs[0], inputs[1], inputs[2])
    }
    let first = try withoutGrad { try kept.keep(attend) }
    #expect(try !first.requiresGrad && Tensor.isEqual(first, plain))
    // More than once: each time, the results are used from the first one on.
    for _ in 0..<2 {
      let again = try kept.reuse(attend)
      #expect(try again.requiresGrad && Tensor.isEqual(again, plain))
      for (own, other) in zip(try gradients(again, inputs), expected) {
        #expect(try Tensor.isEqual(#require(own), #require(other)))
      }
    }
    // Outside of both, attention is plain.
    #expect(try attend().requiresGrad)
  }

  /// The kept result is used, also where computing again would give another one.
  @Test func nothingIsComputedAgain() throws {
    let inputs = try inputs(8, .float32)
    let kept = KeptAttention()
    let first = try withoutGrad {
      try kept.keep { try KeptAttention.attention(inputs[0], inputs[1], inputs[2]) }
    }
    let other = try kept.reuse {
      try KeptAttention.attention(inputs[0], inputs[1], (inputs[2] * 2).detach())
    }
    #expect(try Tensor.isEqual(other, first))
  }

  /// Under autocast, attention computes in its dtype.
  @Test func autocastApplies() throws {
    let inputs = try inputs(8, .float32)
    let kept = KeptAttention()
    func attend() throws -> Tensor {
      try withAutocast(.bfloat16, on: .cpu) {
        try KeptAttention.attention(inputs[0], inputs[1], inputs[2])
      }
    }
    let plain = try attend()
    let first = try withoutGrad { try kept.keep(attend) }
    let again = try kept.reuse(attend)
    #expect(plain.dtype == .bfloat16 && first.dtype == .bfloat16)
    #expect(try Tensor.isEqual(again, plain))
    for (own, other) in zip(try gradients(again, inputs), try gradients(plain, inputs)) {
      #expect(try Tensor.isEqual(#require(own), #require(other)))
    }
  }
}
