import Testing
import Torch

@testable import LTX

@Suite struct PerturbationTests {
  private let x: Tensor
  private var perturbations = Perturbations()

  init() throws {
    x = try .ones([3, 2, 4])
    perturbations.add(.selfAttention(.video), blocks: [1, 2], rows: [false, false, true])
    perturbations.add(.crossAttention(from: .audio), rows: [false, true, false])
  }

  private func factor(
    _ perturbations: Perturbations, _ kind: Perturbations.Kind, block: Int, like x: Tensor
  ) throws -> Tensor? {
    guard case .samples(let keep) = try perturbations.bypass(kind, block: block, like: x) else {
      return nil
    }
    return keep
  }

  @Test func factorsArePlacedOnceForAllBlocks() throws {
    let placed = try perturbations.placed(like: x, blocks: 4)
    let own = try #require(try factor(placed, .selfAttention(.video), block: 1, like: x))
    #expect(try own.array(of: Float.self) == [1, 1, 0])
    let next = try #require(try factor(placed, .selfAttention(.video), block: 2, like: x))
    #expect(own.sharesStorage(with: next))
    let cross = try #require(try factor(placed, .crossAttention(from: .audio), block: 3, like: x))
    #expect(try cross.array(of: Float.self) == [1, 0, 1])
    #expect(try factor(placed, .selfAttention(.video), block: 0, like: x) == nil)
    #expect(try factor(placed, .selfAttention(.audio), block: 1, like: x) == nil)
  }

  @Test func factorsHaveTheDTypeOfTheStates() throws {
    let placed = try perturbations.placed(like: x, blocks: 4)
    let states = try x.to(.bfloat16)
    for perturbations in [placed, perturbations] {
      let keep = try #require(
        try factor(perturbations, .selfAttention(.video), block: 1, like: states))
      #expect(keep.dtype == .bfloat16 && keep.shape == [3, 1, 1])
    }
  }
}
