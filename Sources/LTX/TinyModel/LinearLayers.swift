import NN
import TensorFiles
import Torch

extension TinyModel.Generation {
  /// The checkpoint paths of every linear layer of a generation's transformer, text connectors and
  /// projection.
  ///
  /// - Throws: The errors of building.
  public func linearLayers() throws -> [String] {
    try TinyTransformer(generation: self).linearLayers()
  }
}

extension TinyTransformer {
  /// The checkpoint paths of every linear layer of the transformer, the text connectors and the
  /// projection before them: `model.diffusion_model.transformer_blocks.0.attn1.to_q`.
  ///
  /// The layers are recorded while a tiny model of one block is built in memory, so a new layer
  /// needs no list of names.
  ///
  /// - Throws: The errors of building.
  public func linearLayers() throws -> [String] {
    var tiny = self
    (tiny.blocks, tiny.connectorBlocks) = (1, 1)
    let drawn = RandomWeights.Drawn(try Generator(seed: 0))
    let place = RandomWeights(into: drawn)
    try tiny.draw(place / "model" / "diffusion_model")
    try tiny.drawProjections(place / Checkpoint.Prefix.textProjection, states: 1)
    let source = DrawnTensors(drawn.tensors)
    let config = try Configuration(
      json: "{\"transformer\": \(tiny.config)}", file: source.name, path: "config")
    let root = Weights(source, LoadPolicy(isInspected: true))
    _ = try Transformer(
      root / Checkpoint.Prefix.transformer, configuration: TransformerConfiguration(config))
    let text = try TextConfiguration(config)
    _ = try TextConnectors(root / Checkpoint.Prefix.transformer, configuration: text)
    try FeatureExtractor.read(root, configuration: text)
    return root.linearLayers
  }
}

/// Random tensors as a checkpoint in memory.
private final class DrawnTensors: TensorSource {
  let name = "a tiny model in memory"
  let metadata: [String: String] = [:]
  let entries: [String: TensorEntry]
  private let tensors: [String: Tensor]

  init(_ drawn: [(key: String, tensor: Tensor)]) {
    tensors = Dictionary(drawn.map { ($0.key, $0.tensor) }) { first, _ in first }
    entries = tensors.mapValues {
      TensorEntry(dtype: $0.dtype, shape: $0.shape, range: 0..<$0.byteCount)
    }
  }

  func tensor(_ key: String) throws -> Tensor {
    guard let tensor = tensors[key] else {
      throw TensorFileError(.missingTensor, path: name, key: key, "is missing")
    }
    return tensor
  }
}
