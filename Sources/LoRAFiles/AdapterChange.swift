// O outputs, I inputs of a layer.

import Foundation
import LTX
import NN
import Torch

/// The size of adapters' changes: the norm of the change relative to |W|, both Frobenius norms, for
/// each layer, each modality and each block.
///
///     // From a file, alone or beside the checkpoint it is meant for:
///     let change = try AdapterChange(LoRAFile(path: path), checkpoint: checkpoint)
///
///     // From the adapters of a run, as `Trainer.parameters` has them, on any device:
///     let change = try AdapterChange(parameters, scale: adapterScale, checkpoint: checkpoint)
///
///     // Layer by layer, with tensors that are in memory:
///     let layer = try AdapterChange.Layer(
///       path: "diffusion_model.transformer_blocks.0.attn1.to_q", adapter, weight: w)
///     let change = AdapterChange([layer])
///
///     change.total.relative       // 0.0123: the change is 1.23 % of |W|; nil without base weights
///     change.parts                // video, audio, cross: the groups that have adapters
///     change.blocks               // transformer blocks in order
public struct AdapterChange: Codable, Sendable {
  /// The change of one layer.
  public struct Layer: Codable, Sendable {
    /// The path in ComfyUI's format, `diffusion_model.transformer_blocks.0.attn1.to_q`.
    public let path: String
    public let part: LoRAPart
    /// The number of the transformer block; nil for a layer outside of the blocks.
    public let block: Int?
    /// The norm of the change at strength 1; NaN if a tensor is not finite.
    public let norm: Double
    /// |W|; nil without base weights.
    public let baseNorm: Double?
    /// The norm of a weight with the typical spread 1 / sqrt(I): sqrt(O).
    public let typicalNorm: Double

    public var isFinite: Bool { norm.isFinite }
    public var isZero: Bool { norm == 0 }
    /// The norm relative to |W|.
    public var relative: Double? { baseNorm.map { $0 > 0 ? norm / $0 : norm == 0 ? 0 : .infinity } }
  }

  /// A group of layers: its norms are those of all its weights together.
  public struct Group: Codable, Sendable {
    /// `video`, `audio`, `cross`, `block 3`, `all`.
    public let name: String
    public let layers: Int
    /// The number of layers whose adapter is exactly zero.
    public let zeroLayers: Int
    /// The number of layers whose adapter is not finite.
    public let nonFiniteLayers: Int
    /// The norm of the finite layers.
    public let norm: Double
    /// The norm of the base weights; nil if a layer has none.
    public let baseNorm: Double?
    /// The norm of weights with the typical spread.
    public let typicalNorm: Double

    init(_ name: String, _ layers: [Layer]) {
      let finite = layers.filter(\.isFinite)
      func root(_ values: [Double]) -> Double { values.reduce(0) { $0 + $1 * $1 }.squareRoot() }
      self.name = name
      self.layers = layers.count
      zeroLayers = layers.count(where: \.isZero)
      nonFiniteLayers = layers.count - finite.count
      norm = root(finite.map(\.norm))
      let bases = finite.compactMap(\.baseNorm)
      baseNorm = bases.count == finite.count && !finite.isEmpty ? root(bases) : nil
      typicalNorm = root(finite.map(\.typicalNorm))
    }

    /// The norm relative to |W|; nil without base weights.
    public var relative: Double? { baseNorm.map { $0 > 0 ? norm / $0 : norm == 0 ? 0 : .infinity } }
    /// `relative` or, without base weights, an estimate: the norm relative to weights with the
    /// typical spread, which is accurate to a factor of a few.
    public var share: Double { relative ?? (typicalNorm > 0 ? norm / typicalNorm : 0) }
    /// Whether the change is too small to matter: below `AdapterChange.barelyMoved` relative to the
    /// base weights, or below a hundredth of that if the base weights are only estimated.
    public var barelyMoves: Bool {
      share < (relative == nil ? AdapterChange.barelyMoved / 100 : AdapterChange.barelyMoved)
    }
  }

  /// The relative change below which adapters count as barely moved: 0.05 %. LoRAs with a visible
  /// effect are at 0.3 % to 10 %.
  public static let barelyMoved = 5e-4

  /// The layers in the given order.
  public let layers: [Layer]
  public let total: Group
  /// The modalities that have adapters.
  public let parts: [Group]
  /// The transformer blocks that have adapters, in order.
  public let blocks: [Group]

  public init(_ layers: [Layer]) {
    self.layers = layers
    total = Group("all", layers)
    parts = LoRAPart.allCases.compactMap { part in
      let own = layers.filter { $0.part == part }
      return own.isEmpty ? nil : Group(part.rawValue, own)
    }
    blocks = Dictionary(grouping: layers.filter { $0.block != nil }) { $0.block ?? 0 }
      .sorted { $0.key < $1.key }.map { Group("block \($0.key)", $0.value) }
  }

  /// The change that a file makes at strength 1.
  ///
  /// - Parameters:
  ///   - checkpoint: The source of base norms for the layers that it has.
  ///   - report: Called after each layer.
  /// - Throws: The errors of reading the files.
  public init(
    _ file: LoRAFile, checkpoint: Checkpoint? = nil,
    report: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws {
    let base = checkpoint.map(BaseWeights.init)
    var layers: [Layer] = []
    for module in file.modules {
      layers.append(
        try Layer(
          path: module.path, module.adapter, weight: base?.weight(of: module.path)))
      base?.release(module.path)
      try report(layers.count, file.modules.count)
    }
    self.init(layers)
  }

  /// The change that the adapters of a training run make.
  ///
  /// - Parameters:
  ///   - parameters: The parameters by their keys in the unified layout,
  ///     `model.diffusion_model.<module>.lora_A.weight`; others are skipped.
  ///   - scale: `FreshAdapters.scale`.
  ///   - checkpoint: The source of base norms.
  /// - Throws: The errors of reading the checkpoint; `Issue`; `TorchError`.
  public init(_ parameters: [Parameter], scale: Double, checkpoint: Checkpoint? = nil) throws {
    let base = checkpoint.map(BaseWeights.init)
    var layers: [Layer] = []
    for (module, adapter) in try AdapterKinds.adapters(of: parameters, scale: scale) {
      let path = LoRAFile.filePath(module)
      layers.append(
        try Layer(
          path: path, adapter.mapTensors { try $1.detach().to(.cpu) },
          weight: base?.weight(of: path)))
      base?.release(path)
    }
    self.init(layers)
  }

  /// The blocks in a few groups of neighbors, in order.
  public func depth(groups: Int = 4) -> [Group] {
    let numbers = Set(layers.compactMap(\.block)).sorted()
    guard numbers.count > 1 else { return [] }
    let size = (numbers.count + groups - 1) / max(groups, 1)
    return stride(from: 0, to: numbers.count, by: max(size, 1)).map { start in
      let own = numbers[start..<min(start + size, numbers.count)]
      let range =
        own.count == 1 ? "block \(own[start])" : "blocks \(own[start]) to \(own[own.endIndex - 1])"
      return Group(range, layers.filter { $0.block.map(own.contains) ?? false })
    }
  }

  // MARK: In words

  /// Findings for the user, most important first: adapters that are not finite, zero, or barely
  /// moved, by modality; otherwise the size of the change.
  public var sentences: [String] {
    guard !layers.isEmpty else { return [] }
    var result: [String] = []
    if total.nonFiniteLayers > 0 {
      result.append(
        "\(total.nonFiniteLayers) of \(total.layers) adapters are not finite; the LoRA can't be used"
      )
    }
    if total.zeroLayers == total.layers {
      return result + ["all \(total.layers) adapters are zero; the LoRA changes nothing"]
    }
    for part in parts where part.nonFiniteLayers < part.layers {
      result.append(part.sentence)
    }
    return result
  }

  /// Whether adapters of a modality, or all, have no noticeable effect, or are not finite.
  public var isSuspicious: Bool {
    total.nonFiniteLayers > 0 || parts.contains { $0.barelyMoves }
  }

  /// 1.2 %, 0.02 %, 3e-07 %.
  package static func percent(_ share: Double) -> String {
    if share == 0 { return "0 %" }
    let format = share >= 1 ? "%.0f %%" : share < 1e-6 ? "%.1e %%" : "%.2g %%"
    return String(format: format, share * 100)
  }
}

extension AdapterChange.Group {
  /// `audio adapters barely moved: 0.02 % of the base weights`.
  public var sentence: String {
    if zeroLayers == layers { return "all \(layers) \(name) adapters are zero" }
    let base =
      relative == nil
      ? "about \(AdapterChange.percent(share)) of typical base weights"
      : "\(AdapterChange.percent(share)) of the base weights"
    let zero = zeroLayers == 0 ? "" : "; \(zeroLayers) of \(layers) are zero"
    return "\(name) adapters \(barelyMoves ? "barely moved" : "moved"): \(base)\(zero)"
  }
}

extension AdapterChange.Layer {
  /// - Parameters:
  ///   - path: The layer's path in ComfyUI's format.
  ///   - adapter: The adapter, on the CPU.
  ///   - weight: W, [O, I].
  /// - Throws: `TorchError` for shapes that don't fit together.
  public init(path: String, _ adapter: any Adapter, weight: Tensor? = nil) throws {
    let square = try adapter.squaredNorm(onto: weight)
    self.path = path
    part = LoRAPart(path: path)
    block = Self.block(path)
    // Rounding may push a sum of zeros below 0, and must not hide a NaN.
    norm = square < 0 ? 0 : square.squareRoot()
    baseNorm = try weight.map {
      let sum: Double = try $0.to(.float32).square().sum([1], dtype: .float64).sum().item()
      return sum.squareRoot()
    }
    typicalNorm = Double(adapter.weightShape?.first ?? 1).squareRoot()
  }

  static func block(_ path: String) -> Int? {
    let names = path.split(separator: ".")
    return names.firstIndex(of: "transformer_blocks").flatMap { index in
      index + 1 < names.count ? Int(names[index + 1]) : nil
    }
  }
}

/// The weights of a checkpoint's layers, one at a time.
private struct BaseWeights {
  let checkpoint: Checkpoint
  let weights: Weights

  init(_ checkpoint: Checkpoint) {
    self.checkpoint = checkpoint
    weights = checkpoint.weights(LoadPolicy(storage: .dequantized))
  }

  /// Nil for a layer that the checkpoint doesn't have.
  func weight(of path: String) throws -> Tensor? {
    let layer = LoRAFile.checkpointPath(path)
    guard checkpoint.source.entries["\(layer).weight"] != nil else { return nil }
    return try (weights / layer).tensor("weight")
  }

  /// Releases the file's pages; otherwise the complete file would seem to be in memory.
  func release(_ path: String) {
    checkpoint.source.release("\(LoRAFile.checkpointPath(path)).weight")
  }
}
