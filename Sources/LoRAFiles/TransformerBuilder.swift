import LTX
import NN
import Torch

/// The settings for building a transformer from a checkpoint. Immutable: every method returns a
/// modified copy.
///
///     let builder = try TransformerBuilder(checkpoint)
///       .lora("style.safetensors", strength: 0.8).dtype(.bfloat16)
///     let transformer = try builder.adapters(.fused).build(device: .cuda(0))
///
/// With separate adapters, strengths can be changed without loading anything again:
///
///     let loaded = builder.sharingWeights()
///     let strong = try loaded.build()
///     let weak = try loaded.strengths(0.3).build()
public struct TransformerBuilder: Sendable {
  public let checkpoint: Checkpoint
  /// The LoRAs in the order in which they are stacked.
  public private(set) var loras: [(file: LoRAFile, strength: Double)] = []
  private var contentNotes: [String] = []
  private var placement = AdapterSet.Placement.separate
  private var modalities = Set<Modality>.both
  private var dtype: DType?
  private var storage = WeightStorage.asStored
  private var loaded: LoadedTensors?
  private var placements = WeightPlacements.resident

  /// - Throws: `Issue` for a checkpoint without a transformer.
  public init(_ checkpoint: Checkpoint) throws {
    try checkpoint.require("transformer")
    self.checkpoint = checkpoint
  }

  private func with(_ change: (inout Self) throws -> Void) rethrows -> Self {
    var copy = self
    try change(&copy)
    return copy
  }

  /// Stacks one more LoRA. Reads only its header.
  ///
  /// - Parameter strength: The factor of its effect; 0 is the same as no LoRA.
  /// - Throws: The errors of `LoRAFile`; `WeightError` for adapters that don't fit the checkpoint,
  ///   and for a strength that isn't finite.
  public func lora(_ path: String, strength: Double = 1) throws -> Self {
    try lora(LoRAFile(path: path), strength: strength)
  }

  public func lora(_ file: LoRAFile, strength: Double = 1) throws -> Self {
    try file.requireFinite(strength: strength)
    try file.requireFit(checkpoint)
    try file.requireFinite()
    let found = [try file.baseWarning(checkpoint), file.otherModulesNote, try file.zeroNote]
      .compactMap { $0 }
    return with {
      $0.loras.append((file, strength))
      $0.contentNotes += found
    }
  }

  /// Sets the strengths of the LoRAs, in the order in which they were added.
  ///
  /// - Precondition: There is one strength for each LoRA.
  /// - Throws: `WeightError` for a strength that isn't finite.
  public func strengths(_ strengths: Double...) throws -> Self {
    precondition(
      strengths.count == loras.count, "\(strengths.count) strengths for \(loras.count) LoRAs")
    for (lora, strength) in zip(loras, strengths) {
      try lora.file.requireFinite(strength: strength)
    }
    return with { $0.loras = zip(loras, strengths).map { ($0.file, $1) } }
  }

  /// Sets whether the LoRAs are fused into the weights or, by default, kept separate.
  public func adapters(_ placement: AdapterSet.Placement) -> Self {
    with { $0.placement = placement }
  }

  /// Sets the modalities to build. Adapters of the others are skipped.
  public func modalities(_ modalities: Set<Modality>) -> Self {
    with { $0.modalities = modalities }
  }

  /// Sets the dtype of the weights; nil, the default, keeps that of the file.
  public func dtype(_ dtype: DType?) -> Self { with { $0.dtype = dtype } }

  /// Sets the storage of the linear layers' weights in memory. LoRAs that are fused are added before
  /// a weight is quantized.
  public func storage(_ storage: WeightStorage) -> Self { with { $0.storage = storage } }

  /// Sets the locations of the weights of the transformer's blocks.
  public func placements(_ placements: WeightPlacements) -> Self {
    with { $0.placements = placements }
  }

  /// Makes copies of this builder build transformers that share their weights and the LoRAs'
  /// factors: each is loaded once, and kept as long as one of the builders exists. Weights that
  /// LoRAs are fused into, or that are quantized while they are loaded, are not shared.
  public func sharingWeights() -> Self { with { $0.loaded = LoadedTensors() } }

  /// - Throws: The errors of building.
  public func build(device: Device = .cpu) throws -> Transformer {
    try checkpoint.transformer(
      LoadPolicy(
        dtype: dtype, device: device, adapters: adapterSet(device: device), storage: storage,
        loaded: loaded, placements: placements),
      modalities: modalities)
  }

  /// The adapters of all LoRAs that the transformer has layers for.
  func adapterSet(device: Device = .cpu) throws -> AdapterSet {
    var adapters = AdapterSet()
    adapters.placement = placement
    // Fusing uses its own dtype, and rounds once.
    let dtype = placement == .fused ? nil : dtype
    for (file, strength) in loras where strength != 0 {
      for module in file.modules where module.isBuilt(modalities) {
        let adapter = try module.adapter.mapTensors { role, tensor in
          guard let loaded else { return try tensor.to(device, dtype) }
          return try loaded.tensor(
            "\(module.path).\(role)", of: file.path, dtype: dtype, device: device
          ) {
            try tensor.to(device, dtype)
          }
        }
        adapters.add(
          adapter.with(strength: strength), to: LoRAFile.checkpointPath(module.path))
      }
    }
    return adapters
  }

  /// Notes for the user that are not errors, such as skipped adapters.
  public var notes: [String] {
    contentNotes
      + loras.flatMap { file, _ in
        func note(_ count: Int, _ what: String, _ why: String) -> String? {
          count == 0
            ? nil : "\(file.path): \(count) \(what)\(count == 1 ? " is" : "s are") left out; \(why)"
        }
        let transformer = file.modules.filter(\.isOfTransformer)
        let skipped = transformer.filter { !$0.isBuilt(modalities) }.count
        let (name, other) = modalities == .video ? ("video", "audio") : ("audio", "video")
        return [
          note(skipped, "\(other) adapter", "only \(name) is generated"),
          note(
            file.modules.count - transformer.count, "text connector adapter",
            "as upstream, a LoRA acts on the transformer alone"
              + (transformer.isEmpty ? ", so this one has no effect" : "")),
          note(
            file.ignoredKeys.count, "bias change",
            "as upstream, only the factors A and B are used"),
        ].compactMap { $0 }
      }
  }
}

extension LoRAFile.Module {
  /// Whether it belongs to the transformer, and not to the text connectors and the projection
  /// before them, which are in the same checkpoint.
  var isOfTransformer: Bool {
    path.hasPrefix(ModuleNames.transformer) && !path.contains("_embeddings_connector.")
  }

  /// The reason why no transformer uses it; nil if one does.
  var unusedReason: String? {
    isOfTransformer
      ? nil : "it changes the text connectors; as upstream, LoRAs act on the transformer alone"
  }

  func isBuilt(_ modalities: Set<Modality>) -> Bool {
    isOfTransformer && LoRAPart(path: path).isBuilt(modalities)
  }
}
