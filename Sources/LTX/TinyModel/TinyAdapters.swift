import Torch

/// A small random LoRA for the tiny model, in place of the published one that turns a model into
/// its distilled variant; it changes attention and feed-forward layers of every block by a few
/// percent.
enum TinyAdapters {
  static let rank = 4
  /// The size of B A relative to the layer's own weights.
  private static let share = 0.05
  private static let targets = ["to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2"]

  /// - Parameter checkpoint: All tensors of the model that the adapters are for.
  /// - Returns: The LoRA with ComfyUI's keys, in bfloat16.
  static func draw(
    for checkpoint: [(key: String, tensor: Tensor)], _ generator: Generator
  ) throws -> [(key: String, tensor: Tensor)] {
    let drawn = RandomWeights.Drawn(generator)
    let blocks = "\(Checkpoint.Prefix.transformer).transformer_blocks."
    for (key, weight) in checkpoint where key.hasPrefix(blocks) && key.hasSuffix(".weight") {
      let module = String(key.dropLast(".weight".count))
      guard targets.contains(where: { module.hasSuffix(".\($0)") }) else { continue }
      let place = RandomWeights(into: drawn) / String(module.trimmingPrefix("model."))
      let (outputs, inputs) = (weight.size(0), weight.size(1))
      try (place / "lora_A").normal(
        "weight", [rank, inputs], deviation: 1 / Double(inputs).squareRoot())
      try (place / "lora_B").normal(
        "weight", [outputs, rank], deviation: share / Double(rank).squareRoot())
    }
    return drawn.tensors
  }
}
