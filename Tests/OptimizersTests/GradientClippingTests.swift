import NN
import Optimizers
import Testing
import Torch

@Suite struct GradientClippingTests {
  private func gradients(_ values: [[Float]]) throws -> [Tensor] {
    try values.map { try Tensor($0) }
  }

  @Test func theNormIsThatOfAllGradientsTogetherAndClippingScalesThemToIt() throws {
    let gradients = try gradients([[3, 0], [0, 0, -4], [12]])
    #expect(try GradientClipping.norm(gradients).item() == 13)
    #expect(try GradientClipping.clip(gradients, to: 26) == 13)
    #expect(try gradients[2].item() == 12)
    #expect(try GradientClipping.clip(gradients, to: 0) == 13)
    #expect(try gradients[2].item() == 12)
    #expect(try GradientClipping.clip(gradients, to: 6.5) == 13)
    // Like PyTorch, this adds 1e-6 to the denominator.
    #expect(abs(try gradients[2].item() - 6) < 1e-5)
    #expect(abs(try GradientClipping.norm(gradients).item() - 6.5) < 1e-5)
    #expect(try GradientClipping.clip([], to: 1) == 0)
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity])
  func oneNumberThatIsNotFiniteIsSeenInTheNorm(_ value: Float) throws {
    let gradients = try gradients([[1, 2], [3, value, 4]])
    #expect(try !GradientClipping.norm(gradients).item().isFinite)
    #expect(try !GradientClipping.clip(gradients, to: 1).isFinite)
  }
}
