import Foundation
import LTX
import NN
import Support
import TensorFiles
import Torch

/// A checkpoint with LoRAs fused into its weights, or with its weights quantized, written tensor by
/// tensor, so that the model is never in memory as a whole.
///
/// The result has the effect of the checkpoint with separate LoRAs: adapters that
/// `TransformerBuilder` skips are skipped here too.
public struct CheckpointFusion: Sendable {
  /// The dtype that matrices are written in.
  public enum Form: String, Sendable, CaseIterable {
    /// The checkpoint's own dtypes: a quantized weight is quantized again, in its own format.
    case asStored
    /// float8_e4m3fn with a scale for the matrices of the transformer's blocks, and for all that
    /// are quantized.
    case float8
    /// int8 with a scale for each row of the same matrices.
    case int8

    /// Whether a weight is in this form already.
    fileprivate func isForm(of format: any WeightFormat) -> Bool {
      switch self {
      case .asStored: true
      case .float8: (format as? ScaledFloatFormat)?.isScaledE4M3 == true
      case .int8: format is Int8Format
      }
    }

    fileprivate func format(of key: String, shape: [Int]) -> (any WeightFormat)? {
      switch self {
      case .asStored: nil
      case .float8: ScaledFloatFormat(newWeight: key, shape: shape)
      case .int8: Int8Format(newWeight: key, shape: shape)
      }
    }
  }

  private let checkpoint: Checkpoint
  private let adapters: AdapterSet
  private let form: Form
  /// The file without the tensors that come from its metadata.
  private let source: any TensorSource
  /// The formats of the weights that are quantized in the output, by key. The others are written
  /// unchanged, or in the dtype of the file.
  private let quantized: [String: any WeightFormat]
  /// The keys of these weights' tensors that are in the checkpoint but not in the output.
  private let removedKeys: Set<String>
  /// Notes about skipped adapters, with reasons.
  public let notes: [String]

  /// The number of weights that the LoRAs have adapters for.
  public var adaptedCount: Int { adapters.paths.count }

  /// The number of weights that are quantized.
  public var quantizedCount: Int { quantized.count }

  /// - Throws: `WeightError` for a LoRA that doesn't fit, for a strength that isn't finite, and for
  ///   a weight that is stored in a format that can't be read.
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
    let weights = checkpoint.weights(LoadPolicy(isInspected: true))
    for path in adapters.paths { try (weights / path).requireReadable("weight") }
    let index = WeightIndex(checkpoint.source)
    var quantized: [String: any WeightFormat] = [:]
    var removedKeys: Set<String> = []
    for (key, entry) in checkpoint.source.entries where key.hasSuffix(".weight") {
      guard let stored = try index.format(of: key) else { continue }
      // A tensor without a scale can hold other values unchanged.
      let isScaled = stored.isQuantized && stored.tensors.count > 1
      if form.isForm(of: stored) {
        guard isScaled, changed.contains(key) else { continue }
        if let problem = stored.writingProblem {
          throw WeightError(file: checkpoint.source.file(of: key), key: key, problem: problem)
        }
        quantized[key] = stored
      } else if isScaled || Self.isEligible(key, entry) {
        quantized[key] = form.format(of: key, shape: stored.shape)
        // The scale of the inputs is valid for any format.
        removedKeys.formUnion(stored.tensors.map(\.key))
        removedKeys.insert(Self.descriptionKey(of: key))
      }
    }
    self.quantized = quantized
    self.removedKeys = removedKeys
  }

  private static func descriptionKey(of weight: String) -> String {
    weight.dropLast("weight".count) + QuantizationDescription.tensorName
  }

  /// Whether a matrix is quantized in LTX-2's fp8 files: those of attention and feed-forward layers of
  /// the transformer's blocks, except for the gates of attention heads, which are small and
  /// sensitive.
  private static func isEligible(_ key: String, _ entry: TensorEntry) -> Bool {
    key.hasPrefix("\(Checkpoint.Prefix.transformer).transformer_blocks.") && entry.shape.count == 2
      && entry.dtype.isFloatingPoint && !key.hasSuffix(".to_gate_logits.weight")
  }

  /// Writes all tensors of the checkpoint under their own names, by default in their own dtypes,
  /// and its metadata.
  ///
  /// - Parameter report: Called after each tensor.
  /// - Returns: The number of adapted weights that differ from the checkpoint's: a small change may
  ///   be lost in their dtype.
  /// - Throws: `WeightError` for a weight that isn't finite with the LoRAs, or is too large for its
  ///   dtype.
  @discardableResult
  public func write(
    to path: String, report: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws -> Int {
    let weights = checkpoint.weights(LoadPolicy(adapters: adapters))
    let wide = checkpoint.weights(LoadPolicy(dtype: .float32, adapters: adapters))
    let changed = Set(adapters.paths.map { "\($0).weight" })
    let plan = try entries()
    // Tensors that have another name in their own file keep that name.
    let names = Dictionary(
      plan.entries.map { (storedKey($0.key), $0.key) }, uniquingKeysWith: { first, _ in first })
    let entries = plan.entries.map { (key: storedKey($0.key), dtype: $0.dtype, shape: $0.shape) }
    var done = 0
    var changedCount = 0
    // The tensors of the weight that was quantized last: they are neighbors in the file.
    var encoded: (key: String, tensors: [String: Tensor])?
    // The file's pages are released as soon as they have been copied; otherwise the complete file
    // would seem to be in memory.
    var written: String?
    try writeSafetensors(entries, metadata: plan.metadata, to: path) { stored in
      let key = names[stored] ?? stored
      if let written { source.release(written) }
      written = key
      let tensor: Tensor
      if let owner = plan.owners[key], let format = quantized[owner] {
        if encoded?.key != owner {
          encoded = nil
          encoded = (owner, try encode(owner, in: format, wide))
        }
        guard let part = encoded?.tensors[key] else {
          throw WeightError(
            file: source.name, key: key, problem: "is not a tensor of the format \(format.title)")
        }
        tensor = part
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
              "is not finite in \(entry.dtype) with the LoRAs added. Check the LoRAs with `ltx "
              + "lora inspect`, or lower their strength."
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

  /// The tensors of a weight with the LoRAs added.
  ///
  /// - Parameter weights: The weights with the LoRAs, in float32.
  private func encode(_ key: String, in format: any WeightFormat, _ weights: Weights) throws
    -> [String: Tensor]
  {
    let values = try (weights / String(key.dropLast(".weight".count))).tensor("weight")
    guard try values.isAllFinite() else {
      throw WeightError(
        file: source.name, key: key,
        problem: adapters.paths.isEmpty
          ? "holds NaN or infinite values; the file is damaged"
          : "is not finite with the LoRAs added. Check the LoRAs with `ltx lora inspect`, or "
            + "lower their strength.")
    }
    return try format.encode(values)
  }

  /// The name that a tensor has, or would have, in the checkpoint's own file beside the weight of
  /// its layer.
  private func storedKey(_ key: String) -> String {
    guard let combined = source as? CombinedTensors, let end = key.lastIndex(of: ".") else {
      return key
    }
    let weight = key[..<end] + ".weight"
    // A weight in another format than the file's is not stored under its format's name.
    let isConverted = form != .asStored && quantized[String(weight)] != nil
    if combined.entries[key] != nil, !isConverted { return combined.storedKey(key) }
    let stored = QuantoNames.weightKey(combined.storedKey(String(weight)))
    return String(stored.dropLast(".weight".count) + key[end...])
  }

  /// The entries to write.
  private struct Plan {
    var entries: [(key: String, dtype: DType, shape: [Int])] = []
    var metadata: [String: String]
    /// The weight that each tensor of a quantized weight belongs to, by their keys.
    var owners: [String: String] = [:]
    /// The JSON of `comfy_quant` tensors that the file itself doesn't have.
    var descriptions: [String: [UInt8]] = [:]
  }

  private func entries() throws -> Plan {
    var plan = Plan(metadata: source.metadata)
    for (key, format) in quantized {
      for tensor in format.tensors {
        plan.owners[tensor.key] = key
        plan.entries.append((tensor.key, tensor.dtype, tensor.shape))
      }
    }
    if form != .asStored,
      plan.metadata.removeValue(forKey: QuantizationDescription.metadataKey) != nil
    {
      // The metadata would override the descriptions beside the layers.
      for key in checkpoint.source.entries.keys
      where source.entries[key] == nil && plan.owners[key] == nil && !removedKeys.contains(key) {
        plan.descriptions[key] = try checkpoint.source.tensor(key).withUnsafeBytes { Array($0) }
      }
    }
    for (key, entry) in source.entries where plan.owners[key] == nil && !removedKeys.contains(key) {
      plan.entries.append((key, entry.dtype, entry.shape))
    }
    plan.entries += plan.descriptions.map { ($0.key, .uint8, [$0.value.count]) }
    return plan
  }
}

extension Tensor {
  /// Whether two tensors on the CPU have the same dtype and bits.
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
