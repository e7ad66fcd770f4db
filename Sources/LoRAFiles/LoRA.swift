import LTX
import NN
import TensorFiles
import Torch

/// The adapters of a LoRA file as values that can be changed and written: merged, scaled, resized.
///
/// What was alpha / rank is part of B here, so that the effect at strength 1 is B A.
public struct LoRA: Sendable {
  public struct Layer: Sendable {
    /// In ComfyUI's format, `diffusion_model.transformer_blocks.0.attn1.to_q`.
    public let path: String
    /// A: [rank, inputs].
    public var down: Tensor
    /// B: [outputs, rank].
    public var up: Tensor
    /// [outputs]; of DoRA, which can be stripped and renamed, but not scaled, resized or merged:
    /// its effect is no B A.
    var magnitude: Tensor?
    /// What the factors are written in. Changed ones are float32 until then, and so rounded once.
    var dtype: DType

    public var rank: Int { down.size(0) }
    public var part: LoRAPart { LoRAPart(path: path) }

    /// B, and with it the effect, times a factor.
    func scaled(by factor: Double) throws -> Layer {
      guard factor != 1 else { return self }
      var layer = self
      layer.up = try up.to(up.dtype == .float64 ? .float64 : .float32) * factor
      return layer
    }
  }

  /// The file or files that it comes from, for messages.
  public let name: String
  /// Sorted by path.
  public internal(set) var layers: [Layer]
  public internal(set) var metadata: [String: String]
  /// Notes about how it was made: parts that were trained on different models.
  public internal(set) var warnings: [String] = []
  /// Nil where the file does not tell.
  let base: LoRABase?

  /// - Throws: `WeightError` for factors that are not finite.
  public init(_ file: LoRAFile) throws {
    try file.requireFinite()
    name = file.path
    layers = try file.modules.map { module in
      let dtype = module.up.dtype == module.down.dtype ? module.up.dtype : .float32
      // The magnitude belongs to the layer with scale * B A, whichever of its parts the scale is
      // in.
      var layer = try Layer(path: module.path, down: module.down, up: module.up, dtype: dtype)
        .scaled(by: module.scale)
      layer.magnitude = module.magnitude
      return layer
    }
    metadata = file.metadata
    let base = file.base
    self.base = base.generation == nil ? file.declaredBase : base
    // What they say of alpha is no longer true.
    metadata[PEFTConfigurations.metadataKey] = nil
    if file.modules.contains(where: { $0.scale != 1 }) {
      for key in ["ss_network_alpha", "lora_alpha"] { metadata[key] = nil }
    }
    for key in Self.contentKeys { metadata[key] = nil }
  }

  init(name: String, layers: [Layer], metadata: [String: String], base: LoRABase?) {
    self.name = name
    self.base = base
    self.layers = layers
    self.metadata = metadata
  }

  // MARK: Changing

  /// The effect times a factor.
  ///
  /// - Parameter parts: whose effect; the others stay as they are.
  public func scaled(by factor: Double, parts: Set<LoRAPart> = Set(LoRAPart.allCases)) throws
    -> LoRA
  {
    guard factor.isFinite else {
      throw problem("can't be scaled by \(factor), which is no number to multiply by")
    }
    var result = self
    if factor != 1 { try requirePlain(layers.filter { parts.contains($0.part) }, "scaled") }
    result.layers = try layers.map { parts.contains($0.part) ? try $0.scaled(by: factor) : $0 }
    return result
  }

  /// - Throws: `LoRAError` for layers with a magnitude.
  func requirePlain(_ layers: [Layer], _ what: String) throws {
    guard let layer = layers.first(where: { $0.magnitude != nil }) else { return }
    throw problem(
      "can't be \(what): \(layer.path) is DoRA, whose effect depends on the weight that it changes; "
        + "generate with it at a strength instead, or fuse it into the checkpoint")
  }

  /// Without the adapters of some parts.
  ///
  /// - Throws: `LoRAError` when none would be left, or none is of these parts.
  public func stripped(of parts: Set<LoRAPart>) throws -> LoRA {
    var result = self
    result.layers = layers.filter { !parts.contains($0.part) }
    let names = LoRAPart.allCases.filter(parts.contains).map(\.rawValue).joined(separator: " or ")
    guard result.layers.count < layers.count else {
      throw problem("has no \(names) adapters to leave out")
    }
    guard !result.layers.isEmpty else {
      throw problem("has \(names) adapters only; nothing would be left")
    }
    return result
  }

  /// One LoRA with the effect of several: their factors one after another, so its ranks are the
  /// sums of theirs.
  ///
  /// Metadata on which the files agree is kept, and what only some of them say.
  ///
  /// - Throws: `LoRAError` for a strength that is not finite, for layers of different sizes, and
  ///   for LoRAs that were trained on references of different kinds.
  public static func merged(_ loras: [(lora: LoRA, strength: Double)]) throws -> LoRA {
    var layers: [String: [Layer]] = [:]
    var metadata: [String: String] = [:]
    var conflicts: Set<String> = []
    for (lora, strength) in loras {
      guard strength.isFinite else {
        throw lora.problem("has a strength of \(strength), which is no number to multiply by")
      }
      for layer in try lora.scaled(by: strength).layers {
        if let first = layers[layer.path]?.first,
          (first.up.size(0), first.down.size(1)) != (layer.up.size(0), layer.down.size(1))
        {
          throw lora.problem(
            "has \(layer.path) with A of \(layer.down.shape) and B of \(layer.up.shape), but in a file before it A is "
              + "\(first.down.shape) and B \(first.up.shape); they were made for different models")
        }
        layers[layer.path, default: []].append(layer)
        if let same = layers[layer.path], same.count > 1 { try lora.requirePlain(same, "merged") }
      }
      for (key, value) in lora.metadata {
        guard let other = metadata.updateValue(value, forKey: key), other != value else { continue }
        guard !key.hasPrefix("reference_") else {
          throw lora.problem(
            "says \(key) \(value), but a file before it \(other); LoRAs of different references can't be merged"
          )
        }
        conflicts.insert(key)
      }
    }
    for key in conflicts { metadata[key] = nil }
    if loras.count > 1 { for key in scaleKeys { metadata[key] = nil } }
    let merged = try layers.sorted { $0.key < $1.key }.map { path, parts in
      guard parts.count > 1 else { return parts[0] }
      let dtypes = Set(parts.map(\.dtype))
      let stored = dtypes.count == 1 ? parts[0].dtype : .float32
      let common: DType = stored == .float64 ? .float64 : .float32
      return Layer(
        path: path, down: try .cat(parts.map { try $0.down.to(common) }, 0),
        up: try .cat(parts.map { try $0.up.to(common) }, 1), dtype: stored)
    }
    let name = loras.map(\.lora.name).joined(separator: " + ")
    let bases = loras.compactMap { lora, _ in lora.base.map { (lora.name, $0) } }
    var result = LoRA(
      name: name, layers: merged, metadata: metadata,
      base: bases.count == loras.count ? bases[0].1 : nil)
    if let (first, base) = bases.first,
      let (other, otherBase) = bases.first(where: { $0.1.name != base.name })
    {
      result.warnings.append(
        "\(first) was made for \(base.name) (\(base.reason)), but \(other) for \(otherBase.name) "
          + "(\(otherBase.reason)). The merged LoRA may work on neither")
    }
    return result
  }

  // MARK: Writing

  /// - Throws: `LoRAError` for the first layer that a format has no name for.
  public func requireNames(_ format: LoRAFormat) throws {
    for layer in layers { _ = try keys(layer, format) }
  }

  private func keys(_ layer: Layer, _ format: LoRAFormat) throws -> LoRAFormat.Keys {
    guard let keys = format.keys(layer.path) else {
      throw problem("has \(layer.path), a layer that the \(format.title) format has no name for")
    }
    return keys
  }

  /// Writes the factors: no alpha but the one that kohya's readers expect, which is the rank, a
  /// scale of 1.
  ///
  /// - Parameter dtype: of the factors; nil keeps what the layers came in.
  /// - Throws: `LoRAError` for a layer that the format has no name for, and for values beyond the
  ///   range of the dtype; `TensorFileError` when the disk refuses.
  public func write(to path: String, format: LoRAFormat = .comfyUI, dtype: DType? = nil) throws {
    var tensors: [(key: String, tensor: Tensor)] = []
    for layer in layers {
      let keys = try keys(layer, format)
      let stored = dtype ?? layer.dtype
      tensors.append((keys.down, try layer.down.to(stored).contiguous()))
      tensors.append((keys.up, try layer.up.to(stored).contiguous()))
      if let magnitude = layer.magnitude {
        tensors.append((keys.magnitude, try keys.magnitude(magnitude).to(stored).contiguous()))
      }
      if let alpha = keys.alpha {
        tensors.append((alpha, try .full([], Scalar(layer.rank), dtype: .float32)))
      }
    }
    for (key, tensor) in tensors where try !tensor.isAllFinite() {
      throw problem(
        "can't be written: \(key.displayed()) would not be finite in \(tensor.dtype). "
          + "Use a smaller strength or factor, or --dtype float32")
    }
    try writeSafetensors(tensors, metadata: writtenMetadata, to: path)
  }

  func problem(_ what: String) -> LoRAError { LoRAError(description: "\(name) \(what)") }
}

/// Something that can't be done with a LoRA.
public struct LoRAError: Error, Equatable, CustomStringConvertible, Sendable {
  public let description: String

  public init(description: String) { self.description = description }
}
