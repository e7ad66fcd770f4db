import NN
import Torch

/// The memory of a transformer's weights, from the headers of its files: nothing is loaded.
public struct TransformerSizes: Sendable {
  /// The bytes of the frozen weights of each block.
  public let blockBytes: [Int]
  /// The bytes of the frozen weights outside the blocks.
  public let otherBytes: Int
  /// The shapes of the trained tensors: adapters, or weights.
  public let trained: [[Int]]

  /// The bytes of the trained tensors, which are float32.
  public var trainedBytes: Int {
    trained.reduce(0) { $0 + $1.reduce(1, *) * DType.float32.size }
  }
}

extension Checkpoint {
  /// The sizes of the transformer as it would be loaded.
  ///
  /// The parameters and errors are those of `transformer(_:modalities:training:generating:)`.
  public func transformerSizes(
    _ policy: LoadPolicy, modalities: Set<Modality> = .both, training: Set<Modality>? = nil,
    generating: Set<Modality>? = nil
  ) throws -> TransformerSizes {
    try require("transformer")
    let configuration = try TransformerConfiguration(config)
    let policy = excludingUnused(
      policy, modalities, training: training, generating: generating, blocks: configuration.blocks)
    let root = weights(LoadPolicy(isInspected: true))
    let scope = root / Prefix.transformer
    let transformer = try Transformer(scope, configuration: configuration, modalities: modalities)
    let linears = Set(root.linearLayers)
    var trained: [[Int]] = []
    /// The bytes of a frozen tensor. A trained one is listed instead.
    func bytes(_ key: String, _ shape: [Int], _ stored: DType) -> Int {
      guard policy.trained?.matches(key) != true else {
        trained.append(shape)
        return 0
      }
      let path = key.hasSuffix(".weight") ? String(key.dropLast(".weight".count)) : ""
      guard linears.contains(path) else {
        return shape.reduce(1, *) * (policy.dtype ?? stored).size
      }
      trained += policy.freshAdapters?.shapes(for: path, inputs: shape[1], outputs: shape[0]) ?? []
      return policy.storage.byteCount(
        path: path, shape: shape, stored: stored, dtype: policy.dtype)
    }
    var inBlocks: Set<String> = []
    let blockBytes = transformer.blocks.blocks.map { block in
      block.weights.reduce(0) { sum, slot in
        inBlocks.insert(slot.key)
        return sum + bytes(slot.key, slot.tensor.shape, slot.tensor.dtype)
      }
    }
    let unused = Set(scope.unusedKeys)
    let otherBytes = source.entries.reduce(0) { sum, entry in
      guard entry.key.hasPrefix("\(Prefix.transformer)."), !unused.contains(entry.key),
        !inBlocks.contains(entry.key)
      else { return sum }
      return sum + bytes(entry.key, entry.value.shape, entry.value.dtype)
    }
    return TransformerSizes(blockBytes: blockBytes, otherBytes: otherBytes, trained: trained)
  }
}
