import BlockExecution
import NN
import TensorFiles
import Torch

/// The places of an omni model's weights, so that they fit in a limit of memory.
struct QwenOmniMemory {
  /// The places of the language model's layers.
  let placements: WeightPlacements
  /// The max bytes of the experts in memory; nil for no limit.
  let expertLimit: Int?

  /// The prompt and the answer that memory is set aside for, in tokens.
  private static let plannedTokens = 8192
  /// Memory set aside for activations. They stay below it at real sizes, because logits are computed
  /// for the last position only.
  private static let activationBytes = 1 << 30

  /// - Parameter limit: The bytes for weights, cache and activations; nil for no limit.
  init(
    _ source: any TensorSource, _ c: QwenOmniConfiguration, dtype: DType, storage: WeightStorage,
    limit: Int?
  ) {
    guard let limit else {
      (placements, expertLimit) = (.resident, nil)
      return
    }
    let sizes = Sizes(source, dtype: dtype, storage: storage)
    let text = c.text
    let cache = 2 * text.layers.count * text.keyHeads * text.headWidth * dtype.size
    let available =
      limit - sizes.others - cache * Self.plannedTokens - Self.activationBytes
    let layers = text.layers.count
    if sizes.experts > 0 {
      // Attention is small beside the experts.
      placements = .resident
      let remaining = available - sizes.layers
      expertLimit = remaining >= sizes.experts ? nil : max(remaining, 0)
    } else {
      let layer = max(sizes.layers / layers, 1)
      let buffers = MemoryPlanner.buffers
      let resident = min(max(available / layer - buffers, 0), layers)
      placements =
        available >= sizes.layers
        ? .resident : WeightPlacements(.file, count: layers - resident, of: layers)
      expertLimit = nil
    }
  }

  /// The bytes of weights in memory.
  private struct Sizes {
    /// The language model's layers without experts.
    var layers = 0
    var experts = 0
    /// The towers and the last layer. The table of embeddings stays in the file.
    var others = 0

    init(_ source: any TensorSource, dtype: DType, storage: WeightStorage) {
      for (key, entry) in source.entries where key.hasPrefix("\(QwenOmniModel.scope).") {
        let path = key.hasSuffix(".weight") ? String(key.dropLast(".weight".count)) : key
        let bytes =
          entry.shape.count == 2
          ? storage.byteCount(path: path, shape: entry.shape, stored: entry.dtype, dtype: dtype)
          : entry.shape.reduce(dtype.size, *)
        if key.contains(".mlp.experts.") {
          experts += bytes
        } else if key.hasPrefix("\(QwenOmniModel.scope).model.layers.") {
          layers += bytes
        } else if !key.contains("embed_tokens") {
          others += bytes
        }
      }
    }
  }
}
