import Support
import Torch

/// Writes a safetensors file: to a temporary file in the same folder, tensor by tensor, flushed,
/// then renamed. Readers see either the old file or the new one. If writing fails, the old file
/// remains and the temporary one is removed.
///
/// The layout is that of the `safetensors` crate: dtypes with larger alignment first, then by key,
/// so that every tensor is aligned and equal content makes equal files. At most one tensor at a
/// time is copied, and only if it is not contiguous or not on the CPU.
///
/// - Parameter isDurable: Waits until the file is on disk. Without this, the file still appears
///   whole or not at all if the process ends, and only a power failure can lose it.
/// - Throws: `TensorFileError`: `.notWritten` if writing to the disk fails, `.duplicateKey` and
///   `.badEntry` for keys that the format can't store; `TorchError` if a tensor can't be copied to
///   the CPU.
public func writeSafetensors(
  _ tensors: [(key: String, tensor: Tensor)], metadata: [String: String] = [:], to path: String,
  isDurable: Bool = true
) throws {
  let byKey = Dictionary(tensors.map { ($0.key, $0.tensor) }) { first, _ in first }
  try writeSafetensors(
    tensors.map { ($0.key, $0.tensor.dtype, $0.tensor.shape) }, metadata: metadata, to: path,
    isDurable: isDurable
  ) { key in
    guard let tensor = byKey[key] else { preconditionFailure("a key that was not listed") }
    return tensor
  }
}

/// Writes tensors that are created one at a time, when they are needed, so that a file may be
/// larger than memory.
///
/// - Parameter tensor: Returns the tensor of a key, with the dtype and shape that were announced
///   for it.
/// - Throws: The errors above and those of `tensor`; the file at `path` is then unchanged.
public func writeSafetensors(
  _ entries: [(key: String, dtype: DType, shape: [Int])], metadata: [String: String] = [:],
  to path: String,
  isDurable: Bool = true, tensor: (_ key: String) throws -> Tensor
) throws {
  let ordered = entries.sorted { ($1.dtype.size, $0.key) < ($0.dtype.size, $1.key) }
  let header = try safetensorsHeader(ordered, metadata, path)
  let file = try AtomicFile(path: path, failing: TensorFileError.init(_:))
  try header.withUnsafeBytes { try file.write($0) }
  for entry in ordered {
    let tensor = try tensor(entry.key)
    guard tensor.dtype == entry.dtype, tensor.shape == entry.shape else {
      throw TensorFileError(
        .badEntry, path: path, key: entry.key,
        "is \(tensor.dtype) of shape \(tensor.shape), but \(entry.dtype) of shape \(entry.shape) was announced"
      )
    }
    if tensor.count > 0 { try tensor.to(.cpu).contiguous().withUnsafeBytes { try file.write($0) } }
  }
  try file.commit(isDurable: isDurable)
}

func safetensorsHeader(
  _ ordered: [(key: String, dtype: DType, shape: [Int])], _ metadata: [String: String],
  _ path: String
) throws(TensorFileError) -> [UInt8] {
  var members: [String] = []
  if !metadata.isEmpty {
    members.append("\"__metadata__\":\(jsonObject(metadata))")
  }
  var keys: Set<String> = []
  var offset = 0
  for (key, dtype, size) in ordered {
    guard key != "__metadata__" else {
      throw TensorFileError(
        .badEntry, path: path, key: key, "the name is reserved; rename the tensor")
    }
    guard keys.insert(key).inserted else {
      throw TensorFileError(
        .duplicateKey, path: path, key: key, "two tensors of this name can't be written")
    }
    let end = offset + size.reduce(dtype.size, *)
    let shape = size.map(String.init).joined(separator: ",")
    members.append(
      "\(jsonString(key)):{\"dtype\":\"\(dtype.safetensorsName)\",\"shape\":[\(shape)],"
        + "\"data_offsets\":[\(offset),\(end)]}")
    offset = end
  }
  var json = Array("{\(members.joined(separator: ","))}".utf8)
  // Spaces align the tensors.
  json += repeatElement(UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
  guard json.count <= SafetensorsHeader.maximumSize else {
    throw TensorFileError(
      .oversizedHeader, path: path,
      "the header would take \(json.count) bytes, the format allows \(SafetensorsHeader.maximumSize)"
    )
  }
  return withUnsafeBytes(of: UInt64(json.count).littleEndian, Array.init) + json
}

/// A JSON object of strings, sorted by key.
func jsonObject(_ members: [String: String]) -> String {
  let pairs = members.sorted { $0.key < $1.key }.map {
    "\(jsonString($0.key)):\(jsonString($0.value))"
  }
  return "{\(pairs.joined(separator: ","))}"
}

private func jsonString(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\r": result += "\\r"
    case "\t": result += "\\t"
    case _ where scalar.value < 0x20:
      let digits = String(scalar.value, radix: 16)
      result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}
