// O outputs, I inputs of a linear layer.

import Support
import TensorFiles
import Torch

/// bitsandbytes' NF4 and FP4, as bitsandbytes, transformers and diffusers save them: two codes per
/// byte, the first in the upper bits, and a scale for each block of consecutive elements, in float32
/// or quantized once more to 8 bits.
struct BitsAndBytesFormat: WeightFormat {
  static let names: [String] = []
  static let companions =
    [
      "weight.absmax", "weight.quant_map", "weight.nested_absmax", "weight.nested_quant_map",
    ] + kinds.map { stateName($0) }

  private static let kinds = ["nf4", "fp4"]
  private static func stateName(_ kind: String) -> String {
    "weight.quant_state.bitsandbytes__\(kind)"
  }

  /// The scales of blocks that are quantized themselves.
  private struct Nested: Sendable {
    let scaleKey: String
    let mapKey: String
    let block: Int
    let offset: Double
  }

  private let key: String
  private let storedShape: [Int]
  private let scaleKey: String
  private let mapKey: String
  private let state: WeightTensor
  private let nested: Nested?
  private let block: Int
  let shape: [Int]
  let title: String
  let dtype: DType

  init?(_ header: WeightHeader) throws {
    guard let entry = header.entry,
      let (kind, stateKey) = Self.kinds.lazy.compactMap({ kind in
        header.companion(Self.stateName(kind)).map { (kind, $0) }
      }).first,
      let stateEntry = header.source.entries[stateKey]
    else { return nil }
    let state = try Self.state(stateKey, stateEntry, header)
    let type = try state.string("quant_type")
    guard type == kind else {
      throw state.error("quant_type", "must be \(kind), as the tensor's name says (got \(type))")
    }
    block = try state.int("blocksize", in: 1...Configuration.maxSize)
    let shape = try state.ints("shape", count: 2...2)
    self.shape = shape
    dtype = try Self.dtype(state, "dtype")
    let isNested = state.has("nested_offset")
    let known =
      ["quant_type", "blocksize", "dtype", "shape"]
      + (isNested ? ["nested_blocksize", "nested_dtype", "nested_offset"] : [])
    if let unknown = state.keys.first(where: { !known.contains($0) }) {
      throw state.error(
        unknown,
        "is not known, so the weight can't be dequantized with certainty. "
          + UnsupportedFormat.advice)
    }

    func companion(_ name: String, _ dtype: DType, count: Int) throws -> String {
      guard let key = header.companion(name), let entry = header.source.entries[key] else {
        throw header.error(
          "is \(kind) by bitsandbytes, but has no \(name) beside it. \(UnsupportedFormat.advice)")
      }
      guard entry.dtype == dtype, entry.byteCount == count * dtype.size else {
        throw header.error(
          "is \(entry.dtype) of shape \(entry.shape) (expected \(count) of \(dtype)). "
            + UnsupportedFormat.advice, key: key)
      }
      return key
    }
    func blocks(_ count: Int, of size: Int) -> Int { (count + size - 1) / size }
    let count = shape[0] * shape[1]
    guard entry.dtype == .uint8, entry.byteCount == blocks(count, of: 2) else {
      throw header.error(
        "is \(entry.dtype) of shape \(entry.shape) (expected uint8 with the \(kind) codes of a "
          + "matrix \(shape), two in each byte). \(UnsupportedFormat.advice)")
    }
    let scales = blocks(count, of: block)
    scaleKey = try companion("weight.absmax", isNested ? .uint8 : .float32, count: scales)
    mapKey = try companion("weight.quant_map", .float32, count: 16)
    if isNested {
      let size = try state.int("nested_blocksize", in: 1...Configuration.maxSize)
      guard try Self.dtype(state, "nested_dtype") == .float32 else {
        throw state.error("nested_dtype", "must be float32. \(UnsupportedFormat.advice)")
      }
      nested = Nested(
        scaleKey: try companion(
          "weight.nested_absmax", .float32, count: blocks(scales, of: size)),
        mapKey: try companion("weight.nested_quant_map", .float32, count: 256), block: size,
        offset: try state.double("nested_offset"))
    } else {
      nested = nil
    }
    (key, storedShape) = (header.key, entry.shape)
    self.state = WeightTensor(key: stateKey, dtype: stateEntry.dtype, shape: stateEntry.shape)
    title = "bitsandbytes \(kind)\(isNested ? " (double quantization)" : "")"
  }

  private static func state(_ key: String, _ entry: TensorEntry, _ header: WeightHeader) throws
    -> Configuration
  {
    guard entry.dtype == .uint8, entry.byteCount <= 1 << 16 else {
      throw header.error(
        "must be bytes that hold the state of the quantization as a JSON object (got "
          + "\(entry.dtype) of shape \(entry.shape)). \(UnsupportedFormat.advice)", key: key)
    }
    let json = try header.source.tensor(key).withUnsafeBytes {
      String(decoding: $0, as: UTF8.self)
    }
    return try Configuration(json: json, file: header.source.file(of: key), path: key)
  }

  private static func dtype(_ state: Configuration, _ key: String) throws -> DType {
    let name = try state.string(key)
    guard let dtype = DType(rawValue: name), [.float32, .bfloat16, .float16].contains(dtype) else {
      throw state.error(
        key,
        "must be float32, bfloat16 or float16 (got \"\(name.displayed(limit: 40))\"). "
          + UnsupportedFormat.advice)
    }
    return dtype
  }

  func load(dtype: DType?, from store: WeightStore) throws -> any StoredWeight {
    let values = try store.read(mapKey, dtype: .float32).array(of: Float.self)
    return PackedWeight(
      codes: WeightSlot(key: key, tensor: try store.read(key, dtype: nil)),
      scales: WeightSlot(key: scaleKey, tensor: try scales(store)),
      coding: .pairs(
        values: WeightSlot(
          key: mapKey, tensor: try CodeBook.pairs(of: values, on: store.device(of: key)))),
      shape: shape, group: block, dtype: dtype ?? self.dtype)
  }

  /// The scale of each block, float32. Those that are quantized are dequantized here, for an eighth
  /// of the weight's memory more, instead of each time the layer runs.
  private func scales(_ store: WeightStore) throws -> Tensor {
    let scales = try store.read(scaleKey, dtype: nil)
    guard let nested else { return scales }
    // Models that are only inspected read almost nothing.
    guard !store.policy.isInspected else { return try Tensor.empty(scales.shape) }
    let outer = try store.read(nested.scaleKey, dtype: .float32).reshape([-1, 1])
    let values = try store.read(nested.mapKey, dtype: .float32).flatten()
      .indexSelect(0, scales.flatten().to(.int32))
    let padded = try values.pad([0, outer.count * nested.block - values.count])
    let products = try padded.reshape([outer.count, nested.block]) * outer
    return try (products.flatten().narrow(0, 0, values.count) + nested.offset).contiguous()
  }

  var tensors: [WeightTensor] {
    let count = shape[0] * shape[1]
    let scales = (count + block - 1) / block
    var tensors = [
      WeightTensor(key: key, dtype: .uint8, shape: storedShape),
      WeightTensor(key: scaleKey, dtype: nested == nil ? .float32 : .uint8, shape: [scales]),
      WeightTensor(key: mapKey, dtype: .float32, shape: [16]), state,
    ]
    if let nested {
      tensors += [
        WeightTensor(
          key: nested.scaleKey, dtype: .float32,
          shape: [(scales + nested.block - 1) / nested.block]),
        WeightTensor(key: nested.mapKey, dtype: .float32, shape: [256]),
      ]
    }
    return tensors
  }

  var writingProblem: String? {
    "is \(title), which can be read but not written. Use the model's bfloat16 file, or write fp8."
  }

  func encode(_ values: Tensor) throws -> [String: Tensor] {
    throw WeightError(file: "", key: key, problem: writingProblem ?? "")
  }
}
