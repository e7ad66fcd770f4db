// O outputs, I inputs of a linear layer, G elements of a group, N groups, R rows of bytes.

import TensorFiles
import Torch

/// Weights as optimum-quanto saves them: `qint8` and `qfloat8` with a scale for each row, `qint4`
/// and `qint2` with a scale and a shift for each group of a row's elements.
///
/// quanto stores the elements as `weight._data` or, packed, as `weight._data._data`;
/// `QuantoNames` gives them the name `weight`. Files don't contain the shape of a packed matrix: its
/// number of rows is that of the layer's bias.
struct QuantoFormat: WeightFormat {
  static let names: [String] = []
  static let companions = [scaleName, shiftName] + activationScales

  private static let scaleName = "weight._scale"
  private static let shiftName = "weight._shift"
  /// The scales of quantized activations; they are 1 if activations are not quantized. They are not
  /// used, because activations are never quantized here.
  private static let activationScales = ["input_scale", "output_scale"]

  private enum Elements: Sendable {
    case scaled
    case packed(bits: Int, group: Int, shiftKey: String)
  }

  private let key: String
  private let scaleKey: String
  private let elements: Elements
  let shape: [Int]
  let title: String
  let dtype: DType
  let tensors: [WeightTensor]

  init?(_ header: WeightHeader) throws {
    let entries = header.source.entries
    guard let entry = header.entry, let scaleKey = header.companion(Self.scaleName),
      let scale = entries[scaleKey]
    else { return nil }
    guard scale.dtype.isFloatingPoint, !scale.dtype.isEightBitFloat else {
      throw header.error(
        "has dtype \(scale.dtype) (expected float32, bfloat16 or float16). "
          + UnsupportedFormat.advice, key: scaleKey)
    }
    let shift = header.companion(Self.shiftName).flatMap { key in entries[key].map { (key, $0) } }
    if let (shiftKey, shift) = shift {
      let packing = try Self.packing(header, entry, scaleKey, scale, shiftKey, shift)
      elements = .packed(bits: packing.bits, group: packing.group, shiftKey: shiftKey)
      shape = packing.shape
      title = "optimum-quanto qint\(packing.bits)"
    } else {
      guard entry.dtype == .int8 || entry.dtype.isEightBitFloat else {
        throw header.error(
          "is \(entry.dtype) with \(Self.scaleName), but without \(Self.shiftName) (expected int8 "
            + "or float8, as optimum-quanto saves it). \(UnsupportedFormat.advice)")
      }
      let count = scale.shape.reduce(1, *)
      guard let rows = entry.shape.first, count == rows || count == 1 else {
        throw header.error(
          "has shape \(scale.shape) (expected one scale for each row of \(entry.shape)). "
            + UnsupportedFormat.advice, key: scaleKey)
      }
      elements = .scaled
      shape = entry.shape
      title = "optimum-quanto \(entry.dtype == .int8 ? "qint8" : "q\(entry.dtype)")"
    }
    (key, self.scaleKey, dtype) = (header.key, scaleKey, scale.dtype)
    tensors = ([header.key, scaleKey] + Self.others(header)).compactMap { key in
      entries[key].map { WeightTensor(key: key, dtype: $0.dtype, shape: $0.shape) }
    }
  }

  private static func others(_ header: WeightHeader) -> [String] {
    ([shiftName] + activationScales).compactMap(header.companion)
  }

  /// The shape of a packed matrix, from the shapes of its tensors and of the layer's bias.
  private static func packing(
    _ header: WeightHeader, _ entry: TensorEntry, _ scaleKey: String, _ scale: TensorEntry,
    _ shiftKey: String, _ shift: TensorEntry
  ) throws -> (shape: [Int], bits: Int, group: Int) {
    let count = scale.shape.reduce(1, *)
    guard entry.dtype == .uint8, entry.shape.count == 2, entry.shape[1] > 0 else {
      throw header.error(
        "is \(entry.dtype) of shape \(entry.shape) (expected uint8 with the packed codes of "
          + "groups, as optimum-quanto saves them). \(UnsupportedFormat.advice)")
    }
    guard shift.dtype == scale.dtype, shift.shape == scale.shape, scale.shape == [count, 1] else {
      throw header.error(
        "is \(shift.dtype) of shape \(shift.shape), and \(scaleKey) is \(scale.dtype) of shape "
          + "\(scale.shape) (expected the same dtype, and one of each for every group). "
          + UnsupportedFormat.advice, key: shiftKey)
    }
    let fitting = [4, 2].filter { bits in
      let perByte = 8 / bits
      return entry.shape[0] == (count + perByte - 1) / perByte
    }
    guard fitting.count == 1, let bits = fitting.first else {
      throw header.error(
        "has shape \(entry.shape), which does not fit the \(count) groups of \(scaleKey) in 4 or "
          + "2 bits. \(UnsupportedFormat.advice)")
    }
    guard let biasKey = header.companion("bias"), let bias = header.source.entries[biasKey],
      bias.shape.count == 1, let rows = bias.shape.first, rows > 0
    else {
      throw header.error(
        "is packed by optimum-quanto, which does not store the shape of the matrix, and the layer "
          + "has no bias that shows it. \(UnsupportedFormat.advice)")
    }
    guard count.isMultiple(of: rows) else {
      throw header.error(
        "has \(count) groups, which can't be shared evenly by the \(rows) rows that \(biasKey) "
          + "shows; the file is damaged")
    }
    let group = entry.shape[1]
    return ([rows, count / rows * group], bits, group)
  }

  func load(dtype: DType?, from store: WeightStore) throws -> any StoredWeight {
    let codes = WeightSlot(key: key, tensor: try store.read(key, dtype: nil))
    switch elements {
    case .scaled:
      let scale = try store.read(scaleKey, dtype: .float32)
      return ScaledWeight(
        elements: codes,
        scale: WeightSlot(
          key: scaleKey, tensor: try scale.reshape(scale.count == 1 ? [1] : [-1, 1])),
        dtype: dtype ?? self.dtype)
    case .packed(let bits, let group, let shiftKey):
      return PackedWeight(
        codes: codes,
        scales: WeightSlot(key: scaleKey, tensor: try store.read(scaleKey, dtype: nil)),
        coding: .planar(
          bits: bits,
          shifts: WeightSlot(key: shiftKey, tensor: try store.read(shiftKey, dtype: nil))),
        shape: shape, group: group, dtype: dtype ?? self.dtype)
    }
  }

  var writingProblem: String? {
    "is \(title), which can be read but not written. Use the model's bfloat16 file, or write fp8."
  }

  func encode(_ values: Tensor) throws -> [String: Tensor] {
    throw WeightError(file: "", key: key, problem: writingProblem ?? "")
  }
}

/// The names of weights in optimum-quanto's files.
package enum QuantoNames {
  /// The names of the elements, below the path of the layer.
  private static let elements = ["weight._data._data", "weight._data"]

  /// Returns a file's tensors with the elements of quanto's weights under the name `weight`; the
  /// source itself if it has none.
  package static func unified(_ source: any TensorSource) -> any TensorSource {
    let entries = source.entries
    let renamed = Dictionary(
      entries.keys.compactMap { key -> (String, String)? in
        let weight = weightKey(key)
        return weight == key || entries[weight] != nil ? nil : (key, weight)
      }
    ) { first, _ in first }
    guard !renamed.isEmpty else { return source }
    return CombinedTensors(
      name: source.name, metadata: source.metadata,
      parts: [CombinedTensors.Part(source) { renamed[$0] ?? $0 }])
  }

  /// Returns the usual key of a weight, given that of its elements; other keys are unchanged.
  package static func weightKey(_ key: String) -> String {
    guard let name = elements.first(where: { key.hasSuffix(".\($0)") }) else { return key }
    return key.dropLast(name.count) + "weight"
  }
}
