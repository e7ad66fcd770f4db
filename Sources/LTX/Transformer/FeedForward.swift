import NN
import Torch

/// A linear layer to four times the width, GELU, and a linear layer back.
public struct FeedForward: Sendable {
  let project: Linear
  let output: Linear

  public init(_ w: Weights, width: Int, bias: Bool = true) throws {
    project = try Linear(w / "net" / 0 / "proj", inputs: width, outputs: 4 * width, bias: bias)
    output = try Linear(w / "net" / 2, inputs: 4 * width, outputs: width, bias: bias)
  }

  public func callAsFunction(_ x: Tensor) throws -> Tensor {
    try output(project(x).gelu(approximate: "tanh"))
  }
}
