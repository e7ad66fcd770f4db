import Torch

/// Writes a dictionary in the format of `torch.save`, so that `torch.load` can load it, also with
/// `weights_only`. The file appears whole or not at all.
///
/// - Parameters:
///   - values: Tensors, integers, numbers and strings, in this order.
///   - metadata: Stored in an entry of its own next to the pickle, which `torch.load` ignores and
///     `TorchFile.metadata` reads.
/// - Throws: `TensorFileError`: `.notWritten` if writing to the disk fails, `.wrongType` for values
///   of other kinds, `.limit` above 4 GiB; `TorchError` if a tensor can't be copied to the CPU.
public func writeTorchFile(
  _ values: [(key: String, value: PickleValue)], metadata: [String: String] = [:], to path: String,
  isDurable: Bool = true
) throws {
  var pickler = Pickler()
  let storages = try pickler.dictionary(values, path: path)
  var archive = try ZipWriter(path: path)
  try archive.add("archive/data.pkl", pickler.bytes)
  try archive.add("archive/byteorder", Array("little".utf8))
  for (index, tensor) in storages.enumerated() {
    try tensor.withUnsafeBytes { try archive.add("archive/data/\(index)", $0) }
  }
  try archive.add("archive/version", Array("3\n".utf8))
  if !metadata.isEmpty {
    try archive.add(TorchFile.metadataEntry, Array(jsonObject(metadata).utf8))
  }
  try archive.finish(isDurable: isDurable)
}

/// Writes Python's pickle format, protocol 2, to the extent that a dictionary of tensors needs it.
private struct Pickler {
  private(set) var bytes: [UInt8] = [0x80, 2]

  /// - Returns: the tensors in the order of their storages, contiguous and on the CPU.
  mutating func dictionary(_ values: [(key: String, value: PickleValue)], path: String) throws
    -> [Tensor]
  {
    var storages: [Tensor] = []
    put("}")
    put("(")
    for (key, value) in values {
      text(key)
      switch value {
      case .int(let number): integer(number)
      case .float(let number):
        put("G")
        bytes += withUnsafeBytes(of: number.bitPattern.bigEndian, Array.init)
      case .string(let string): text(string)
      case .tensor(let tensor):
        let stored = try tensor.to(.cpu).contiguous()
        guard let storage = stored.dtype.torchStorage else {
          throw TensorFileError(
            .wrongType, path: path, key: key, "\(stored.dtype) can't be written to a .pt file")
        }
        rebuilt(stored, storage, index: storages.count)
        storages.append(stored)
      default:
        throw TensorFileError(
          .wrongType, path: path, key: key, "\(value.kind) can't be written to a .pt file")
      }
    }
    put("u.")
    return storages
  }

  /// Writes a call of `torch._utils._rebuild_tensor_v2` on a storage of the archive.
  private mutating func rebuilt(_ tensor: Tensor, _ storage: String, index: Int) {
    put("ctorch._utils\n_rebuild_tensor_v2\n")
    put("((")
    text("storage")
    put("ctorch\n\(storage)\n")
    text(String(index))
    text("cpu")
    integer(tensor.count)
    put("tQ")
    integer(0)
    var strides = [Int](repeating: 1, count: tensor.shape.count)
    for axis in strides.indices.dropLast().reversed() {
      strides[axis] = strides[axis + 1] * max(1, tensor.shape[axis + 1])
    }
    for numbers in [tensor.shape, strides] {
      put("(")
      for number in numbers { integer(number) }
      put("t")
    }
    bytes.append(0x89)  // requires_grad: False
    put("ccollections\nOrderedDict\n)RtR")
  }

  private mutating func put(_ opcodes: String) { bytes += Array(opcodes.utf8) }

  private mutating func text(_ string: String) {
    put("X")
    bytes +=
      withUnsafeBytes(of: UInt32(string.utf8.count).littleEndian, Array.init) + Array(string.utf8)
  }

  private mutating func integer(_ number: Int) {
    if let small = Int32(exactly: number) {
      put("J")
      bytes += withUnsafeBytes(of: small.littleEndian, Array.init)
    } else {
      bytes += [0x8A, 8] + withUnsafeBytes(of: Int64(number).littleEndian, Array.init)
    }
  }
}

extension DType {
  /// The `torch` class that a pickle names for storages of this dtype; nil if there isn't one.
  fileprivate var torchStorage: String? {
    switch self {
    case .float32: "FloatStorage"
    case .float64: "DoubleStorage"
    case .float16: "HalfStorage"
    case .bfloat16: "BFloat16Storage"
    case .int8: "CharStorage"
    case .int16: "ShortStorage"
    case .int32: "IntStorage"
    case .int64: "LongStorage"
    case .uint8: "ByteStorage"
    case .bool: "BoolStorage"
    case .float8E4M3, .float8E5M2: nil
    }
  }
}
