import BlockExecution
import NN
import Testing
import Torch

/// Every plan gives the same loss and the same gradients, equal to those of plain autograd over the
/// complete stack.
@Suite struct BlockStackTests {
  private static let plans: [[ActivationPolicy]] = [
    [.keep, .keep, .keep, .keep], [.recompute, .recompute, .recompute, .recompute],
    [.keep, .recompute, .keep, .recompute], [.recompute, .keep, .keep, .keep],
    [.keepAttention, .keepAttention, .keepAttention, .keepAttention],
    [.keep, .keepAttention, .recompute, .offload],
  ]

  @Test(arguments: plans)
  func plansAgreeWithPlainAutograd(_ policies: [ActivationPolicy]) throws {
    let stack = try ToyStack(trained: [true, true, true, true])
    let plain = try stack.plainGradients(inputRequiresGrad: true)
    let planned = try stack.plannedGradients(policies, inputRequiresGrad: true)
    #expect(planned.loss == plain.loss)
    #expect(planned.gradients.count == plain.gradients.count)
    for (name, want) in plain.gradients {
      let got = try #require(planned.gradients[name], "\(name)")
      #expect(try Tensor.isEqual(got, want) || (got - want).abs().max().item() < 1e-6, "\(name)")
    }
  }

  @Test(arguments: plans.dropFirst())
  func plansAgreeBitForBit(_ policies: [ActivationPolicy]) throws {
    let stack = try ToyStack(trained: [true, false, true, true])
    let first = try stack.plannedGradients(Self.plans[0], inputRequiresGrad: false)
    let other = try stack.plannedGradients(policies, inputRequiresGrad: false)
    #expect(first.loss == other.loss)
    #expect(Set(first.gradients.keys) == Set(other.gradients.keys))
    for (name, want) in first.gradients {
      #expect(try Tensor.isEqual(#require(other.gradients[name]), want), "\(name)")
    }
  }

  /// Blocks below the first trained one need no graph, and get none.
  @Test func untrainedBlocksAreNotDifferentiated() throws {
    let stack = try ToyStack(trained: [false, false, true, false])
    let planned = try stack.plannedGradients(
      [.keep, .keep, .keep, .keep], inputRequiresGrad: false)
    #expect(Set(planned.gradients.keys) == ["block2", "shared"])
    let only = try ToyStack(trained: [false, false, true, false], sharedRequiresGrad: false)
    #expect(
      Set(
        try only.plannedGradients([.recompute, .keep, .recompute, .keep], inputRequiresGrad: false)
          .gradients
          .keys)
        == ["block2"])
  }

  /// Recomputation keeps only the blocks' inputs, so additional blocks need little memory.
  @Test func recomputeHoldsLessMemory() async {
    // In a separate process, because other tests allocate tensors at the same time.
    await #expect(processExitsWith: .success) {
      func held(_ policy: ActivationPolicy) throws -> Int {
        let stack = try ToyStack(trained: [true, true, true, true], width: 256)
        let before = try Device.cpu.memory().liveBytes
        let pass = try stack.forward(Array(repeating: policy, count: 4))
        return try withExtendedLifetime(pass) { try Device.cpu.memory().liveBytes - before }
      }
      let (less, more) = (try held(.recompute), try held(.keep))
      #expect(less * 2 < more)
    }
  }

  /// Mixed precision follows the plan in both passes.
  @Test func autocastAlsoWhenRebuilt() throws {
    let stack = try ToyStack(trained: [true, true, true, true])
    let keep = try stack.plannedGradients(
      Self.plans[0], inputRequiresGrad: false, autocast: .bfloat16)
    let recompute = try stack.plannedGradients(
      Self.plans[1], inputRequiresGrad: false, autocast: .bfloat16)
    let full = try stack.plannedGradients(Self.plans[0], inputRequiresGrad: false)
    #expect(keep.loss == recompute.loss)
    #expect(keep.loss != full.loss)
    for (name, want) in keep.gradients {
      #expect(try Tensor.isEqual(#require(recompute.gradients[name]), want), "\(name)")
    }
  }
}

private struct Bundle: TensorBundle {
  let tensors: [Tensor]
  func replacing(_ tensors: [Tensor]) -> Bundle { Bundle(tensors: tensors) }
}

/// Two modalities that read each other, and a shared modulation: a small version of a transformer
/// block.
private struct ToyBlock: Block {
  let weight: WeightSlot
  let parameters: [Parameter]
  var weights: [WeightSlot] { [weight] }

  func callAsFunction(_ state: Bundle, _ shared: Bundle) throws -> Bundle {
    let weight = weight.tensor
    let (a, b) = (state.tensors[0], state.tensors[1])
    let tokens = try a.reshape([1, 1, a.size(0), a.size(1)])
    let attended = try KeptAttention.attention(tokens, tokens, tokens).reshape(a.shape)
    let mixed = try attended.matmul(weight).gelu(approximate: "tanh") * shared.tensors[0]
    return Bundle(tensors: [try a + mixed, try b + mixed.matmul(weight).tanh()])
  }
}

private struct ToyStack {
  private let stack: BlockStack<ToyBlock>
  private let input: [Tensor]
  private let shared: Tensor

  init(trained: [Bool], width: Int = 8, sharedRequiresGrad: Bool = true) throws {
    let generator = try Generator(seed: 7)
    stack = BlockStack(
      try trained.enumerated().map { index, isTrained in
        let weight = try generator.normal([width, width]) * (1 / Double(width).squareRoot())
        let leaf = isTrained ? try weight.asLeaf() : weight
        return ToyBlock(
          weight: WeightSlot(key: "block\(index)", tensor: leaf),
          parameters: isTrained ? [Parameter(key: "block\(index)", tensor: leaf)] : []
        )
      })
    input = try (0..<2).map { _ in try generator.normal([3, width]) }
    let modulation = try generator.normal([width])
    shared = sharedRequiresGrad ? try modulation.asLeaf() : modulation
  }

  func forward(
    _ policies: [ActivationPolicy], autocast: DType? = nil, _ leaves: [Tensor]? = nil
  ) throws -> StackPass<ToyBlock> {
    try stack.forward(
      Bundle(tensors: leaves ?? input), Bundle(tensors: [shared]),
      plan: ExecutionPlan(steps: policies.map { .init(activations: $0) }, autocast: autocast))
  }

  func plannedGradients(
    _ policies: [ActivationPolicy], inputRequiresGrad: Bool, autocast: DType? = nil
  ) throws -> (loss: Double, gradients: [String: Tensor]) {
    let leaves = try input.map { inputRequiresGrad ? try $0.asLeaf() : $0 }
    let pass = try forward(policies, autocast: autocast, leaves)
    let loss = try Self.loss(pass.output.tensors)
    let below = try pass.backward(grad(of: [loss], wrt: pass.output.tensors))
    var gradients = below.parameters
    if let gradient = below.shared[0] { gradients["shared"] = gradient }
    for (index, gradient) in below.state.enumerated() where inputRequiresGrad {
      gradients["input\(index)"] = gradient
    }
    return (try loss.item(), gradients)
  }

  /// The gradients of one graph over all blocks, differentiated at once.
  func plainGradients(inputRequiresGrad: Bool) throws -> (loss: Double, gradients: [String: Tensor])
  {
    let leaves = try input.map { inputRequiresGrad ? try $0.asLeaf() : $0 }
    let loss = try Self.loss(stack(Bundle(tensors: leaves), Bundle(tensors: [shared])).tensors)
    var named =
      stack.blocks.flatMap(\.parameters).map { ($0.key, $0.tensor) } + [("shared", shared)]
    if inputRequiresGrad { named += leaves.enumerated().map { ("input\($0)", $1) } }
    let found = try grad(of: [loss], wrt: named.map(\.1))
    return (
      try loss.item(),
      Dictionary(
        uniqueKeysWithValues: zip(named, found).compactMap { name, g in g.map { (name.0, $0) } })
    )
  }

  private static func loss(_ tensors: [Tensor]) throws -> Tensor {
    try (tensors[0].square().mean() + tensors[1].tanh().mean()) * 3
  }
}
