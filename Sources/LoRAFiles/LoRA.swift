import LTX
import NN
import Support
import TensorFiles
import Torch

/// The adapters of a LoRA file as values that can be modified and written: merged, scaled, resized.
public struct LoRA: Sendable {
  public struct Layer: Sendable {
    /// The layer in ComfyUI's format, `diffusion_model.transformer_blocks.0.attn1.to_q`.
    public let path: String
    /// The adapter with strength 1.
    public internal(set) var adapter: any Adapter
    /// The dtype to write the adapter in. Modified tensors are float32 until then, so that they are
    /// rounded only once.
    var dtype: DType

    public var kind: AdapterKind { type(of: adapter).kind }
    public var rank: Int? { adapter.rank }
    public var part: LoRAPart { LoRAPart(path: path) }

    /// The layer with its effect multiplied by a factor.
    func scaled(by factor: Double) throws -> Layer {
      var layer = self
      layer.adapter = try adapter.absorbing(factor)
      return layer
    }

    /// The adapter as a LoRA with scale 1; nil for one that has no such form.
    func lowRank() throws -> LoRAAdapter? {
      try adapter.lowRank().map { try $0.rescaled(to: 1) }
    }
  }

  /// The file or files of the LoRA, for messages.
  public let name: String
  /// The layers, sorted by path.
  public internal(set) var layers: [Layer]
  public internal(set) var metadata: [String: String]
  /// Warnings about its origin, such as parts that were trained on different models.
  public internal(set) var warnings: [String] = []
  /// The base model; nil if the file doesn't name it.
  let base: LoRABase?

  /// - Throws: `WeightError` for tensors that aren't finite.
  public init(_ file: LoRAFile) throws {
    try file.requireFinite()
    name = file.path
    layers = file.modules.map {
      Layer(path: $0.path, adapter: $0.adapter, dtype: $0.adapter.dtype)
    }
    metadata = file.metadata
    let base = try file.base
    self.base = base.generation == nil ? file.declaredBase : base
    // Statements about alpha that are no longer true.
    metadata[PEFTConfigurations.metadataKey] = nil
    if layers.contains(where: { $0.adapter.scale != 1 && $0.kind.type.absorbsScale }) {
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

  /// The LoRA with its effect multiplied by a factor.
  ///
  /// - Parameter parts: The modalities to scale; the others stay unchanged.
  /// - Throws: `Issue` for a factor that isn't finite, and for layers whose effect depends on
  ///   the weight.
  public func scaled(by factor: Double, parts: Set<LoRAPart> = Set(LoRAPart.allCases)) throws
    -> LoRA
  {
    guard factor.isFinite else {
      throw problem("can't be scaled by \(factor) (expected a finite factor)")
    }
    var result = self
    if factor != 1 { try requireIndependent(layers.filter { parts.contains($0.part) }, "scaled") }
    result.layers = try layers.map { parts.contains($0.part) ? try $0.scaled(by: factor) : $0 }
    return result
  }

  /// - Throws: `Issue` for layers whose effect depends on the weight.
  func requireIndependent(_ layers: [Layer], _ what: String) throws {
    guard let layer = layers.first(where: { $0.kind.type.dependsOnWeight }) else { return }
    throw problem(
      "can't be \(what): \(layer.path) is \(layer.kind.title), whose effect depends on the weight "
        + "that it changes",
      "Generate with it at a strength instead, or fuse it into the checkpoint.")
  }

  /// The layer as a LoRA.
  ///
  /// - Throws: `Issue` for a layer that has no such form.
  func lowRank(_ layer: Layer, _ what: String) throws -> LoRAAdapter {
    try requireIndependent([layer], what)
    guard let lowRank = try layer.lowRank() else {
      throw problem(
        "can't be \(what): \(layer.path) is \(layer.kind.title) of so high a rank that two factors "
          + "would be larger than the weight", "Fuse it into the checkpoint instead.")
    }
    return lowRank
  }

  /// The LoRA without the adapters of some modalities.
  ///
  /// - Throws: `Issue` if none would be left, or none belongs to these modalities.
  public func stripped(of parts: Set<LoRAPart>) throws -> LoRA {
    var result = self
    result.layers = layers.filter { !parts.contains($0.part) }
    let names = LoRAPart.allCases.filter(parts.contains).map(\.rawValue).joined(separator: " or ")
    guard result.layers.count < layers.count else {
      throw problem("has no \(names) adapters to remove")
    }
    guard !result.layers.isEmpty else {
      throw problem("has \(names) adapters only, so nothing would be left")
    }
    return result
  }

  /// One LoRA with the effect of several. Their factors are concatenated, so their ranks add up; a
  /// layer that only one of them changes keeps its adapter, regardless of its kind.
  ///
  /// Metadata is kept unless the files disagree about it.
  ///
  /// - Throws: `Issue` for a strength that isn't finite, for layers of different shapes, for
  ///   adapters that can't be written as two factors, and for LoRAs that were trained on references
  ///   of different sizes.
  public static func merged(_ loras: [(lora: LoRA, strength: Double)]) throws -> LoRA {
    var layers: [String: [Layer]] = [:]
    var metadata: [String: String] = [:]
    var conflicts: Set<String> = []
    for (lora, strength) in loras {
      guard strength.isFinite else {
        throw lora.problem("strength must be finite (got \(strength))")
      }
      for layer in try lora.scaled(by: strength).layers {
        if let first = layers[layer.path]?.first,
          first.adapter.weightShape != layer.adapter.weightShape
        {
          throw lora.problem(
            "has \(layer.path) with \(layer.adapter.shapes), but a file before it has "
              + "\(first.adapter.shapes); they were made for different models")
        }
        layers[layer.path, default: []].append(layer)
        if let same = layers[layer.path], same.count > 1 {
          try lora.requireIndependent(same, "merged")
        }
      }
      for (key, value) in lora.metadata {
        guard let other = metadata.updateValue(value, forKey: key), other != value else { continue }
        guard !key.hasPrefix("reference_") else {
          throw lora.problem(
            "says \(key) \(value), but a file before it says \(other); LoRAs of different references "
              + "can't be merged")
        }
        conflicts.insert(key)
      }
    }
    for key in conflicts { metadata[key] = nil }
    if loras.count > 1 { for key in scaleKeys { metadata[key] = nil } }
    // Sums are LoRAs, regardless of their parts' kinds.
    let changesKind = layers.values.contains { parts in
      parts.count > 1 && parts.contains { $0.kind != LoRAAdapter.kind }
    }
    if changesKind { for key in kindKeys { metadata[key] = nil } }
    let name = loras.map(\.lora.name).joined(separator: " + ")
    let whole = LoRA(name: name, layers: [], metadata: [:], base: nil)
    let merged = try layers.sorted { $0.key < $1.key }.map { path, parts in
      guard parts.count > 1 else { return parts[0] }
      let dtypes = Set(parts.map(\.dtype))
      let stored = dtypes.count == 1 ? parts[0].dtype : .float32
      let common: DType = stored == .float64 ? .float64 : .float32
      let factors = try parts.map { try whole.lowRank($0, "merged") }
      let sum = LoRAAdapter(
        down: try .cat(factors.map { try $0.down.to(common) }, 0),
        up: try .cat(factors.map { try $0.up.to(common) }, 1), scale: 1)
      return Layer(path: path, adapter: sum, dtype: stored)
    }
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

  /// - Throws: `Issue` for the first layer that a format has no name for.
  public func requireNames(_ format: LoRAFormat) throws {
    let names = try ModuleNames.ltx2
    for layer in layers { _ = try tensors(layer, format, names) }
  }

  private func tensors(
    _ layer: Layer, _ format: LoRAFormat, _ names: ModuleNames
  ) throws -> [(key: String, tensor: Tensor)] {
    guard let name = format.name(of: layer.path, names) else {
      throw problem("has \(layer.path), a layer that the \(format.title) format has no name for")
    }
    do {
      return try layer.adapter.fileTensors(format.naming).map { ("\(name).\($0.name)", $0.tensor) }
    } catch let issue as Issue {
      throw problem(
        "can't be written in the \(format.title) format: \(layer.path) \(issue.problem)")
    }
  }

  /// Writes the adapters. A LoRA has no alpha except the one that kohya's readers expect, which
  /// equals the rank and stands for a scale of 1.
  ///
  /// - Parameter dtype: The dtype of the tensors; nil keeps each layer's own.
  /// - Throws: `Issue` for a layer that the format has no name for, and for values beyond the
  ///   range of the dtype; `TensorFileError` if writing fails.
  public func write(to path: String, format: LoRAFormat = .comfyUI, dtype: DType? = nil) throws {
    var tensors: [(key: String, tensor: Tensor)] = []
    let names = try ModuleNames.ltx2
    for layer in layers {
      for (key, tensor) in try self.tensors(layer, format, names) {
        let isAlpha = key.hasSuffix(".\(AdapterRole.alpha.name)")
        tensors.append(
          (key, try tensor.to(isAlpha ? .float32 : dtype ?? layer.dtype).contiguous()))
      }
    }
    for (key, tensor) in tensors where try !tensor.isAllFinite() {
      throw problem(
        "can't be written: \(key.displayed()) would not be finite in \(tensor.dtype)",
        "Use a smaller strength or factor, or float32.")
    }
    try writeSafetensors(tensors, metadata: writtenMetadata, to: path)
  }

  func problem(_ problem: String, _ suggestion: String? = nil) -> Issue {
    Issue([.file(name)], problem, suggestion: suggestion)
  }
}
