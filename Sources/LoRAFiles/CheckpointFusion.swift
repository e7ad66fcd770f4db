import Foundation
import LTX
import NN
import TensorFiles
import Torch

/// A checkpoint with LoRAs added to its weights, to be written tensor by tensor: never the whole
/// model in memory.
///
/// It does what the checkpoint does with the LoRAs beside it: what `TransformerBuilder` leaves out
/// is left out here.
public struct CheckpointFusion: Sendable {
  /// The dtype that matrices are written in.
  public enum Form: String, Sendable, CaseIterable {
    /// Each as the checkpoint has it: a quantized one is quantized again, in its own format.
    case asStored
    /// The matrices of the transformer's blocks, and all that are quantized, in float8_e4m3fn with
    /// a scale.
    case float8
  }

  private let checkpoint: Checkpoint
  private let adapters: AdapterSet
  private let form: Form
  /// The file without the tensors that its metadata stands for.
  private let source: any TensorSource
  /// How matrices are quantized in the output, by the key of the weight; others are written as they
  /// are.
  private let matrices: [String: RequantizedMatrix]
  /// What of the LoRAs is left out, and why.
  public let notes: [String]

  /// How many weights the LoRAs have adapters for.
  public var adaptedCount: Int { adapters.paths.count }

  /// The number of matrices that are quantized again.
  public var quantizedCount: Int { matrices.count }

  /// - Throws: `WeightError` for a LoRA that does not fit, for a strength that is not finite, and
  ///   for a weight that is stored in a format that can't be read.
  public init(
    _ checkpoint: Checkpoint, loras: [(file: LoRAFile, strength: Double)], form: Form = .asStored
  ) throws {
    let builder = try loras.reduce(TransformerBuilder(checkpoint).adapters(.fused)) {
      try $0.lora($1.file, strength: $1.strength)
    }
    adapters = try builder.adapterSet()
    notes = builder.notes
    self.checkpoint = checkpoint
    self.form = form
    source = (checkpoint.source as? DescribedTensors)?.base ?? checkpoint.source
    let changed = Set(adapters.paths.map { "\($0).weight" })
    let weights = checkpoint.weights(isInspected: true)
    for path in adapters.paths {
      if let error = checkpoint.source.packedFormatError("\(path).") { throw error }
      try (weights / path).requireReadable("weight")
    }
    var matrices: [String: RequantizedMatrix] = [:]
    for (key, entry) in checkpoint.source.entries where key.hasSuffix(".weight") {
      guard let stored = try RequantizedMatrix(stored: key, entry, in: checkpoint.source) else {
        if form == .float8, Self.isEligible(key, entry) {
          matrices[key] = RequantizedMatrix(float8: key)
        }
        continue
      }
      switch form {
      case .asStored: if changed.contains(key) { matrices[key] = stored }
      case .float8:
        if stored.format == .float8E4M3 {
          if changed.contains(key) { matrices[key] = stored }
        } else {
          matrices[key] = RequantizedMatrix(float8: key)
        }
      }
    }
    self.matrices = matrices
  }

  /// Whether a matrix is one that fp8 files of LTX-2 have in fp8: those of attention and
  /// feed-forward layers of the transformer's blocks, but for the gates of attention heads, which
  /// are small and sensitive.
  private static func isEligible(_ key: String, _ entry: TensorEntry) -> Bool {
    key.hasPrefix("\(Checkpoint.Prefix.transformer).transformer_blocks.") && entry.shape.count == 2
      && entry.dtype.isFloatingPoint && !key.hasSuffix(".to_gate_logits.weight")
  }

  /// Writes all tensors of the checkpoint under their own names, in their own dtypes unless `form`
  /// says otherwise, and its metadata.
  ///
  /// - Parameter report: called after each tensor.
  /// - Returns: how many of the adapted weights differ from the checkpoint's: a small change may be
  ///   lost in their dtype.
  /// - Throws: `WeightError` for a weight that is no longer finite with the LoRAs, or is too large
  ///   for its dtype.
  @discardableResult
  public func write(
    to path: String, report: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws -> Int {
    let weights = checkpoint.weights(adapters: adapters)
    let wide = checkpoint.weights(dtype: .float32, adapters: adapters)
    let changed = Set(adapters.paths.map { "\($0).weight" })
    let plan = try entries()
    // What is called otherwise in its own file is so again.
    let names = Dictionary(
      plan.entries.map { (storedKey($0.key), $0.key) }, uniquingKeysWith: { first, _ in first })
    let entries = plan.entries.map { (key: storedKey($0.key), dtype: $0.dtype, shape: $0.shape) }
    var done = 0
    var changedCount = 0
    // The file's pages are let go as soon as they have been copied, or the whole file would seem to
    // be in memory.
    var written: String?
    try writeSafetensors(entries, metadata: plan.metadata, to: path) { stored in
      let key = names[stored] ?? stored
      if let written { source.release(written) }
      written = key
      let tensor: Tensor
      if let matrix = plan.owners[key].flatMap({ matrices[$0] }), key != matrix.descriptionKey {
        let layer = wide / String(matrix.key.dropLast(".weight".count))
        let (elements, scale) = try matrix.quantized(layer.tensor("weight"), of: source.name)
        tensor = key == matrix.key ? elements : scale
        if changed.contains(key), try !tensor.hasSameBytes(as: source.tensor(key)) {
          changedCount += 1
        }
      } else if let bytes = plan.descriptions[key] {
        tensor = try Tensor(bytes, shape: [bytes.count])
      } else if changed.contains(key), let entry = source.entries[key] {
        let layer = weights / String(key.dropLast(".weight".count))
        tensor = try layer.tensor("weight").to(entry.dtype)
        guard try tensor.isAllFinite() else {
          throw WeightError(
            file: source.name, key: key,
            problem:
              "is not finite in \(entry.dtype) with the LoRAs added. Check the LoRAs with `ltx lora inspect`, or lower their strength."
          )
        }
        if try !tensor.hasSameBytes(as: source.tensor(key)) { changedCount += 1 }
      } else {
        tensor = try source.tensor(key)
      }
      done += 1
      try report(done, plan.entries.count)
      return tensor
    }
    return changedCount
  }

  /// The name that a tensor has, or would have, in the checkpoint's own file beside the weight of
  /// its layer.
  private func storedKey(_ key: String) -> String {
    guard let combined = source as? CombinedTensors, let end = key.lastIndex(of: ".") else {
      return key
    }
    if combined.entries[key] != nil { return combined.storedKey(key) }
    let weight = key[..<end] + ".weight"
    return String(combined.storedKey(String(weight)).dropLast(".weight".count) + key[end...])
  }

  /// The entries to write.
  private struct Plan {
    var entries: [(key: String, dtype: DType, shape: [Int])] = []
    var metadata: [String: String]
    /// The weight that a matrix's scale or elements belong to, by their keys.
    var owners: [String: String] = [:]
    /// The JSON of `comfy_quant` tensors that the checkpoint does not have as they are written.
    var descriptions: [String: [UInt8]] = [:]
  }

  private func entries() throws -> Plan {
    var plan = Plan(metadata: source.metadata)
    var removed: Set<String> = []
    for (key, matrix) in matrices {
      plan.owners[key] = key
      plan.owners[matrix.scaleKey] = key
      guard form == .float8 else { continue }
      let prefix = key.dropLast("weight".count)
      // What described the matrix before; the scale of the inputs goes with any format.
      removed.formUnion(["weight_scale", "scale_weight", "comfy_quant"].map { prefix + $0 })
      removed.remove(matrix.scaleKey)
      if let description = matrix.description {
        plan.descriptions[matrix.descriptionKey] = Array(description.utf8)
      }
    }
    if form == .float8,
      plan.metadata.removeValue(forKey: QuantizationDescription.metadataKey) != nil
    {
      // The metadata would override the descriptions beside the layers.
      for key in checkpoint.source.entries.keys
      where source.entries[key] == nil && plan.descriptions[key] == nil {
        let prefix = String(key.dropLast(QuantizationDescription.tensorName.count))
        let description = try checkpoint.source.quantizationDescription(prefix)
        plan.descriptions[key] = description.map { Array($0.json().utf8) }
      }
    }
    for (key, entry) in source.entries where plan.descriptions[key] == nil && !removed.contains(key)
    {
      if let matrix = matrices[key] {
        plan.entries.append((key, matrix.format.dtype, entry.shape))
      } else if plan.owners[key] == nil {
        plan.entries.append((key, entry.dtype, entry.shape))
      }
    }
    plan.entries += matrices.values.map { ($0.scaleKey, $0.scaleDType, $0.scaleShape) }
    plan.entries += plan.descriptions.map { ($0.key, .uint8, [$0.value.count]) }
    return plan
  }
}

/// How a matrix is quantized when it is written.
private struct RequantizedMatrix {
  /// The key of the weight.
  let key: String
  let format: QuantizationDescription.Format
  let scaleKey: String
  let scaleDType: DType
  /// [], [1], [1, 1], [rows] or [rows, 1].
  let scaleShape: [Int]
  private let rotationGroup: Int?
  /// The JSON of a new description; nil where the checkpoint's own stays, or none is needed.
  let description: String?

  var descriptionKey: String { key.dropLast("weight".count) + QuantizationDescription.tensorName }

  /// Reads how the checkpoint stores a matrix; nil for a matrix without a scale.
  init?(stored key: String, _ entry: TensorEntry, in source: any TensorSource) throws {
    let prefix = String(key.dropLast("weight".count))
    guard
      let scaleKey = ["weight_scale", "scale_weight"].map({ prefix + $0 }).first(where: {
        source.entries[$0] != nil
      }), let scale = source.entries[scaleKey],
      let format = QuantizationDescription.Format.allCases.first(where: { $0.dtype == entry.dtype })
    else { return nil }
    self.key = key
    self.format = format
    self.scaleKey = scaleKey
    (scaleDType, scaleShape) = (scale.dtype, scale.shape)
    rotationGroup = try source.quantizationDescription(prefix)?.rotationGroup
    description = nil
  }

  /// In float8_e4m3fn with one scale, as ComfyUI reads it. There is no scale of the layer's inputs,
  /// so that programs that multiply in 8 bits are told not to.
  init(float8 key: String) {
    self.key = key
    format = .float8E4M3
    scaleKey = key + "_scale"
    (scaleDType, scaleShape) = (.float32, [])
    rotationGroup = nil
    description = QuantizationDescription(format: .float8E4M3).json(isMultipliedInFull: true)
  }

  /// - Parameter weight: [rows, columns], float32, not rotated.
  /// - Returns: the elements and the scale as they are written.
  /// - Throws: `WeightError` for a weight that is not finite.
  func quantized(_ weight: Tensor, of file: String) throws -> (elements: Tensor, scale: Tensor) {
    guard try weight.isAllFinite() else {
      throw WeightError(
        file: file, key: key,
        problem:
          "is not finite with the LoRAs added. Check the LoRAs with `ltx lora inspect`, or lower their strength."
      )
    }
    let rows = weight.size(0)
    let isPerRow = rows > 1 && scaleShape.reduce(1, *) == rows
    let values = try rotationGroup.map { try weight.rotatedForQuantization(group: $0) } ?? weight
    let end = format == .int8 ? 127 : format.dtype.largestFinite
    let largest = try isPerRow ? values.abs().amax([1], keepdim: true) : values.abs().amax()
    // The smallest keeps rows of zeros from dividing by 0. The scale is rounded before it is used.
    let smallest = max(scaleDType.smallestNormal, 1e-30)
    let scale = try (largest / end).clamped(min: Scalar(smallest)).to(scaleDType)
    let quotients = try values / scale.to(.float32)
    let rounded = try format == .int8 ? quotients.round() : quotients
    let elements = try rounded.clamped(min: Scalar(-end), max: Scalar(end)).to(format.dtype)
    return (elements, try scale.reshape(scaleShape))
  }
}

extension Tensor {
  /// Whether two tensors on the CPU have one dtype and hold the same bits.
  fileprivate func hasSameBytes(as other: Tensor) throws -> Bool {
    guard dtype == other.dtype else { return false }
    return try contiguous().withUnsafeBytes { own in
      try other.contiguous().withUnsafeBytes { others in
        guard own.count == others.count, let a = own.baseAddress, let b = others.baseAddress else {
          return own.count == others.count
        }
        return memcmp(a, b, own.count) == 0
      }
    }
  }
}
