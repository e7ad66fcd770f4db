import LTX
import TensorFiles
import Torch

extension TinyTransformer {
  /// The tokens of the demo's prompts, more than twice those of a caption.
  public static let demoPromptTokens = 64

  /// The transformer of the demo's model, with the layers of LTX-2.3.
  ///
  /// - Parameters:
  ///   - videoChannels, audioChannels: The channels of the latents' tokens, from the VAEs' files.
  public static func demo(videoChannels: Int, audioChannels: Int) -> TinyTransformer {
    var sizes = TinyTransformer(generation: .ltx23)
    (sizes.blocks, sizes.heads, sizes.headWidth, sizes.audioHeadWidth) = (6, 5, 32, 16)
    (sizes.videoChannels, sizes.audioChannels) = (videoChannels, audioChannels)
    // Clips of a second and 4 x 4 latent pixels: angles that tell these positions apart.
    (sizes.maxPositions, sizes.rotaryTheta) = ((seconds: 2, rows: 256, columns: 256), 30)
    sizes.captionWidth = TinyGemma.demo.width
    sizes.connectorBlocks = 1
    sizes.registers = 16
    sizes.promptTokens = demoPromptTokens
    return sizes
  }
}

/// The weights that the demo's transformer is trained from, and its frozen text layers.
///
/// Blocks and output layer begin as the identity and zero (Peebles and Xie, "Scalable Diffusion
/// Models with Transformers", 2023, "adaLN-Zero"): their gates and the last projection are 0.
/// Connectors are not trained, neither here nor by the official trainer. They are random layers that
/// change their input by a small part, so that a context tells its token apart and knows a little of
/// the others.
public struct InitialTransformer {
  public let sizes: TinyTransformer
  /// The transformer with connectors and projections, by their keys in a checkpoint.
  public let tensors: [(key: String, tensor: Tensor)]

  /// The deviation of a connector's residual branches, relative to that of a trained layer.
  private static let connectorGain = 0.3

  /// - Parameter states: The number of the text encoder's states.
  public init(
    _ sizes: TinyTransformer, states: Int = TinyGemma.demo.layers + 1, seed: UInt64
  ) throws {
    self.sizes = sizes
    let drawn = RandomWeights.Drawn(
      try Generator(seed: RandomSeed.mix(seed, "transformer")), purpose: .training)
    let root = RandomWeights(into: drawn)
    try sizes.draw(root / "model" / "diffusion_model")
    try sizes.drawProjections(root / Checkpoint.Prefix.textProjection, states: states)
    tensors = try drawn.tensors.map { key, tensor in
      if Self.startsAtZero(key) { return (key, try .zeros(tensor.shape, dtype: tensor.dtype)) }
      return (key, Self.isConnectorOutput(key) ? try tensor * Self.connectorGain : tensor)
    }
  }

  private static func startsAtZero(_ key: String) -> Bool {
    key.contains("adaln_single.linear.") || key.contains("to_gate_logits.")
      || key.hasSuffix(".proj_out.weight") || key.hasSuffix(".audio_proj_out.weight")
  }

  private static func isConnectorOutput(_ key: String) -> Bool {
    key.contains("_embeddings_connector.")
      && (key.hasSuffix("to_out.0.weight") || key.hasSuffix("net.2.weight"))
  }
}
