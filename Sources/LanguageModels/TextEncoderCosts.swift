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
  let configuration = try GemmaConfiguration(files.config())
  let layers = configuration.layers.count
  let entries = try files.weights().entries
  // Other parts of a multimodal file and the assets of a packed one are not loaded.
  let prefix = GemmaModel.layout(of: entries).map { $0 + "." } ?? ""
  var bytes: [Substring: Int] = [:]
  var (elements, others) = (0, 0)
  for (key, entry) in entries where key.hasPrefix(prefix) {
    let path = key.dropFirst(prefix.count)
    // The embedding stays on the host.
    guard !path.hasPrefix("embed_tokens."),
      !GemmaModel.otherParts.contains(where: { path.hasPrefix("\($0).") })
    else { continue }
    guard path.hasPrefix("layers.") else {
      others += entry.shape.reduce(1, *) * dtype.size
      continue
    }
    elements += entry.shape.reduce(1, *)
    let layer = key.hasSuffix(".weight") ? String(key.dropLast(".weight".count)) : key
    bytes[path.dropFirst("layers.".count).prefix { $0 != "." }, default: 0] +=
      entry.shape.count == 2
      ? storage.byteCount(path: layer, shape: entry.shape, stored: entry.dtype, dtype: dtype)
      : entry.shape.reduce(1, *) * dtype.size
  }
  let tokens = 1024
  // All hidden states, as they are and in float32 while they are normalized.
  let states = (layers + 1) * tokens * configuration.width
  // Global layers of Gemma 4 are larger than sliding ones, and any layer may be streamed.
  return StackCosts(
    blocks: layers, weightBytes: bytes.values.max() ?? 0,
    workBytes: states * 2 * (dtype.size + DType.float32.size), fixedBytes: others,
    forwardOperations: 2 * Double(elements / layers) * Double(tokens))
}
