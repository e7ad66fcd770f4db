import Foundation
import Torch

/// Writes a safetensors file in which some tensors are holes: they take no space on the disk, and
/// their elements read as zeros. A model of any size can so be described by a small file.
///
/// - Parameters:
///   - tensors: the tensors with elements.
///   - holes: the tensors without.
/// - Throws: `TensorFileError` for keys that the format can't store; `CocoaError` if the file can't
///   be written.
package func writeSparseSafetensors(
  _ tensors: [(key: String, tensor: Tensor)],
  holes: [(key: String, dtype: DType, shape: [Int])], metadata: [String: String] = [:],
  to path: String
) throws {
  let byKey = Dictionary(tensors.map { ($0.key, $0.tensor) }) { first, _ in first }
  let entries = tensors.map { ($0.key, $0.tensor.dtype, $0.tensor.shape) } + holes
  let ordered = entries.sorted { ($1.1.size, $0.0) < ($0.1.size, $1.0) }
  let header = try safetensorsHeader(ordered, metadata, path)
  try Data(header).write(to: URL(fileURLWithPath: path))
  let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
  var offset = UInt64(header.count)
  for (key, dtype, shape) in ordered {
    if let tensor = byKey[key], tensor.count > 0 {
      try file.seek(toOffset: offset)
      try tensor.to(.cpu).contiguous().withUnsafeBytes { try file.write(contentsOf: Data($0)) }
    }
    offset += UInt64(shape.reduce(dtype.size, *))
  }
  try file.truncate(atOffset: offset)
  try file.close()
}
