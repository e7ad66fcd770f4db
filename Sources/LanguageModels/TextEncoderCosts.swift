import BlockExecution
import NN
import Support
import Torch

/// The memory and the operations of a text encoder that encodes one prompt of 1024 tokens, from the
/// headers of its files.
///
/// The parameters are those of `openTextEncoder`.
///
/// - Throws: `Issue`, `TensorFileError`, which name the file.
public func textEncoderCosts(
  at path: String, dtype: DType, storage: WeightStorage
) throws -> StackCosts {
  let files = try TextEncoderFiles(path: path)
  let configuration = try Gemma3Configuration(files.config())
  let layers = configuration.layers.count
  var (inLayers, elements, others) = (0, 0, 0)
  for (key, entry) in try files.weights().entries {
    // The embedding stays on the host.
    guard !key.contains("embed_tokens"),
      !Gemma3Model.otherParts.contains(where: { key.contains($0) })
    else { continue }
    guard key.contains(".layers.") else {
      others += entry.shape.reduce(1, *) * dtype.size
      continue
    }
    elements += entry.shape.reduce(1, *)
    let layer = key.hasSuffix(".weight") ? String(key.dropLast(".weight".count)) : key
    inLayers +=
      entry.shape.count == 2
      ? storage.byteCount(path: layer, shape: entry.shape, stored: entry.dtype, dtype: dtype)
      : entry.shape.reduce(1, *) * dtype.size
  }
  let tokens = 1024
  // All hidden states, as they are and in float32 while they are normalized.
  let states = (layers + 1) * tokens * configuration.width
  return StackCosts(
    blocks: layers, weightBytes: inLayers / max(layers, 1),
    workBytes: states * 2 * (dtype.size + DType.float32.size), fixedBytes: others,
    forwardOperations: 2 * Double(elements / max(layers, 1)) * Double(tokens))
}
