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
  /// The most trained elements of a block.
  public let trainedBlockElements: Int
  /// Whether weights are trained themselves, not adapters.
  let trainsWeights: Bool
  /// The inputs that a block's graph saves because layers that read them are trained or adapted.
  let savedInputs: Set<SavedInput>
  /// The elements of the largest quantized matrix, which is dequantized when it is used.
  public let largestQuantized: Int

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
    var largestQuantized = 0
    var savedInputs: Set<SavedInput> = []
    func save(_ layer: String, inputs: Int) {
      let blocks = "\(Prefix.transformer).transformer_blocks."
      guard layer.hasPrefix(blocks) else { return }
      let path = layer.dropFirst(blocks.count).drop { $0 != "." }.dropFirst()
      savedInputs.insert(SavedInput(ofLayer: String(path), width: inputs))
    }
    /// The bytes of a frozen tensor. A trained one is listed instead.
    func bytes(_ key: String, _ shape: [Int], _ stored: DType) throws -> Int {
      let count = shape.reduce(1, *)
      let path = key.hasSuffix(".weight") ? String(key.dropLast(".weight".count)) : ""
      let isLinear = linears.contains(path)
      guard policy.trained?.matches(key) != true else {
        trained.append(shape)
        if isLinear, shape.count == 2 { save(path, inputs: shape[1]) }
        return 0
      }
      // The tensors beside a quantized weight stay in their own dtypes.
      guard !WeightFormats.isCompanion(key) else { return count * stored.size }
      guard isLinear else { return count * (policy.dtype ?? stored).size }
      // Several elements of a packed weight share a byte.
      let values = try (root / path).shape(of: "weight")
      let adapter =
        policy.freshAdapters?.shapes(for: path, inputs: values[1], outputs: values[0]) ?? []
      trained += adapter
      if !adapter.isEmpty { save(path, inputs: values[1]) }
      let size = policy.storage.byteCount(
        path: path, shape: values, stored: stored, storedBytes: count * stored.size,
        dtype: policy.dtype)
      let valueCount = values.reduce(1, *)
      let dense = valueCount * (policy.dtype ?? (stored.size == 1 ? .bfloat16 : stored)).size
      if size < dense { largestQuantized = max(largestQuantized, valueCount) }
      return size
    }
    var inBlocks: Set<String> = []
    var trainedBlockElements = 0
    let blockBytes = try transformer.blocks.blocks.map { block in
      let before = trained.count
      let size = try block.weights.reduce(0) { sum, slot in
        inBlocks.insert(slot.key)
        return try sum + bytes(slot.key, slot.tensor.shape, slot.tensor.dtype)
      }
      trainedBlockElements = max(
        trainedBlockElements, trained[before...].reduce(0) { $0 + $1.reduce(1, *) })
      return size
    }
    let unused = Set(scope.unusedKeys)
    let otherBytes = try source.entries.reduce(0) { sum, entry in
      guard entry.key.hasPrefix("\(Prefix.transformer)."), !unused.contains(entry.key),
        !inBlocks.contains(entry.key)
      else { return sum }
      return try sum + bytes(entry.key, entry.value.shape, entry.value.dtype)
    }
    return TransformerSizes(
      blockBytes: blockBytes, otherBytes: otherBytes, trained: trained,
      trainedBlockElements: trainedBlockElements, trainsWeights: policy.trained != nil,
      savedInputs: savedInputs,
      largestQuantized: largestQuantized)
  }
}
