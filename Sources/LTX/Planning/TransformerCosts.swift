// T tokens, D width, S text tokens of one sample.

import BlockExecution
import NN
import Torch

/// The size of one pass through the transformer.
public struct PassSize: Sendable, Hashable {
  /// The tokens of a sample of each modality; nil for one that the pass lacks.
  public var tokens: PerModality<Int?>
  /// The tokens of a sample's text.
  public var textTokens: Int
  public var batchSize: Int
  /// The modalities in which tokens have timesteps of their own, because some are given. The
  /// modulation is then computed for each token.
  public var conditioned: Set<Modality>

  public init(
    tokens: PerModality<Int?>, textTokens: Int = 1024, batchSize: Int = 1,
    conditioned: Set<Modality> = []
  ) {
    self.tokens = tokens
    self.textTokens = textTokens
    self.batchSize = batchSize
    self.conditioned = conditioned
  }
}

extension TransformerConfiguration {
  /// The floating-point operations of a block's forward pass, 2 for a multiplication and an
  /// addition.
  ///
  /// The linear layers that a token passes have about 16 D² weights: 4 D² in each of two
  /// self- and cross-modal attentions, 2 D² in the attention to the text, 8 D² in the feed-forward
  /// layer, with some that only one modality has.
  public func forwardOperations(_ pass: PassSize) -> Double {
    pass.tokens.pairs.reduce(0) { sum, pair in
      guard let tokens = pair.1 else { return sum }
      let width = Double(sizes[pair.0].width)
      let (t, s) = (Double(tokens), Double(pass.textTokens))
      let linear = 2 * 16 * width * width * t + 2 * 2 * width * width * s
      let attention = 4 * t * t * width + 4 * t * s * width
      return sum + (linear + attention) * Double(pass.batchSize)
    }
  }

  /// The operations of the self-attention in a block's forward pass.
  public func attentionOperations(_ pass: PassSize) -> Double {
    pass.tokens.pairs.reduce(0) { sum, pair in
      guard let tokens = pair.1 else { return sum }
      let (t, width) = (Double(tokens), Double(sizes[pair.0].width))
      return sum + 4 * t * t * width * Double(pass.batchSize)
    }
  }

  /// The bytes of the self-attention's results in a block, and of the sum of each row of scores,
  /// which its backward pass needs.
  public func attentionBytes(_ pass: PassSize, elementBytes: Int) -> Int {
    pass.tokens.pairs.reduce(0) { sum, pair in
      let sizes = sizes[pair.0]
      let perToken = sizes.width * elementBytes + sizes.heads * DType.float32.size
      return sum + (pair.1 ?? 0) * perToken * pass.batchSize
    }
  }

  /// The bytes that a block's graph keeps between its forward and its backward pass, its input
  /// included.
  ///
  /// The numbers of elements here and below are those of runs at real sizes on the pretend GPU
  /// (`Tests/PretendGPU`): they follow from the operations of a block, not from its sizes. Inputs of
  /// trained and adapted layers are kept besides.
  public func keptBytes(_ pass: PassSize, _ sizes: TransformerSizes, elementBytes: Int) -> Int {
    let saved = sizes.savedInputs.reduce(0) { $0 + $1.count(pass) * $1.width }
    // Trained tables of modulation are float32, and so are the products with them.
    let isMixed = sizes.trainsWeights && elementBytes < DType.float32.size
    return bytes(
      pass, elementBytes, perToken: isMixed ? (36, 50) : (alone: 16.3, joint: 20.55),
      perTextToken: (1.9, 1.75), perConditionedToken: (13.65, 15.5))
      + saved * elementBytes * pass.batchSize
  }

  /// The bytes that a block's backward pass needs besides what its graph keeps, with what all blocks
  /// read.
  public func workBytes(_ pass: PassSize, elementBytes: Int) -> Int {
    bytes(
      pass, elementBytes, perToken: (alone: 9.9, joint: 11.3), perConditionedToken: (8.4, 12.3))
  }

  /// The bytes that a block needs while it runs without a backward pass, with what all blocks read.
  public func inferenceBytes(_ pass: PassSize, elementBytes: Int) -> Int {
    bytes(
      pass, elementBytes, perToken: (alone: 12.5, joint: 13.5), perTextToken: (2.8, 2.8),
      perConditionedToken: (18, 26))
  }

  /// - Parameters:
  ///   - perToken: Elements per token and unit of its width, in a pass of one modality and of both.
  ///   - perTextToken: The same for the text that a modality attends to.
  ///   - perConditionedToken: More for each token of conditioned modalities.
  private func bytes(
    _ pass: PassSize, _ elementBytes: Int, perToken: (alone: Double, joint: Double),
    perTextToken: (alone: Double, joint: Double) = (0, 0),
    perConditionedToken: (alone: Double, joint: Double)
  ) -> Int {
    let isJoint = pass.tokens.present() == .both
    func choose(_ numbers: (alone: Double, joint: Double)) -> Double {
      isJoint ? numbers.joint : numbers.alone
    }
    let text = choose(perTextToken)
    let elements = pass.tokens.pairs.reduce(0.0) { sum, pair in
      guard let tokens = pair.1 else { return sum }
      let token =
        choose(perToken) + (pass.conditioned.contains(pair.0) ? choose(perConditionedToken) : 0)
      let perWidth = token * Double(tokens) + text * Double(pass.textTokens)
      return sum + perWidth * Double(sizes[pair.0].width)
    }
    return Int(elements) * elementBytes * pass.batchSize
  }

  /// The bytes of a block's input.
  ///
  /// - Parameter elementBytes: The size of an element of the states.
  public func inputBytes(_ pass: PassSize, elementBytes: Int) -> Int {
    pass.tokens.pairs.reduce(0) { sum, pair in
      sum + (pair.1 ?? 0) * sizes[pair.0].width * elementBytes * pass.batchSize
    }
  }
}
