import LTX
import NN
import Torch

/// How a transformer is to be made from a checkpoint. Immutable: every method returns a modified
/// copy.
///
///     let builder = try TransformerBuilder(checkpoint).lora("style.safetensors", strength: 0.8).dtype(.bfloat16)
///     let transformer = try builder.adapters(.fused).build(device: .cuda(0))
///
/// Strengths can be tried without loading anything again, where the adapters are kept separate:
///
///     let loaded = builder.sharingWeights()
///     let strong = try loaded.build()
///     let weak = try loaded.strengths(0.3).build()
public struct TransformerBuilder: Sendable {
  public let checkpoint: Checkpoint
  /// In the order in which they are stacked.
  public private(set) var loras: [(file: LoRAFile, strength: Double)] = []
  private var contentNotes: [String] = []
  private var placement = AdapterSet.Placement.separate
  private var modalities = Set<Modality>.both
  private var dtype: DType?
  private var loaded: LoadedTensors?

  /// - Throws: `ConfigurationError` for a checkpoint without a transformer.
  public init(_ checkpoint: Checkpoint) throws {
    try checkpoint.require("transformer")
    self.checkpoint = checkpoint
  }

  private func with(_ change: (inout Self) throws -> Void) rethrows -> Self {
    var copy = self
    try change(&copy)
    return copy
  }

  /// Stacks one more LoRA. Reads its header only.
  ///
  /// - Parameter strength: what its effect is multiplied by; 0 is the same as leaving it out.
  /// - Throws: what `LoRAFile` throws; `WeightError` for adapters that don't fit the checkpoint,
  ///   and for a strength that is not finite.
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

  /// Gives the LoRAs other strengths, in the order in which they were added.
  ///
  /// - Precondition: one strength for each.
  /// - Throws: `WeightError` for one that is not finite.
  public func strengths(_ strengths: Double...) throws -> Self {
    precondition(
      strengths.count == loras.count, "\(strengths.count) strengths for \(loras.count) LoRAs")
    for (lora, strength) in zip(loras, strengths) {
      try lora.file.requireFinite(strength: strength)
    }
    return with { $0.loras = zip(loras, strengths).map { ($0.file, $1) } }
  }

  /// Whether the LoRAs become part of the weights or stay beside them, as they do unless told
  /// otherwise.
  public func adapters(_ placement: AdapterSet.Placement) -> Self {
    with { $0.placement = placement }
  }

  /// What to build of the transformer. Adapters of what is left out are left out too.
  public func modalities(_ modalities: Set<Modality>) -> Self {
    with { $0.modalities = modalities }
  }

  /// What weights are converted to; nil, as unless told otherwise, keeps each as the file has it.
  public func dtype(_ dtype: DType?) -> Self { with { $0.dtype = dtype } }

  /// From here on, copies of this builder build transformers that share their weights and the
  /// LoRAs' factors: each is loaded once, and held for as long as one of the builders is. Weights
  /// that LoRAs are fused into are not shared.
  public func sharingWeights() -> Self { with { $0.loaded = LoadedTensors() } }

  /// - Throws: what building throws.
  public func build(device: Device = .cpu) throws -> Transformer {
    try checkpoint.transformer(
      LoadPolicy(
        dtype: dtype, device: device, adapters: adapterSet(device: device), loaded: loaded),
      modalities: modalities)
  }

  /// The adapters of all LoRAs that the transformer has layers for.
  func adapterSet(device: Device = .cpu) throws -> AdapterSet {
    var adapters = AdapterSet()
    adapters.placement = placement
    // Fusing rounds to a dtype of its own, once.
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
  /// before them, which lie in the same checkpoint.
  var isOfTransformer: Bool {
    path.hasPrefix(ModuleNames.transformer) && !path.contains("_embeddings_connector.")
  }

  /// Why no transformer uses it; nil for one that does.
  var unusedReason: String? {
    isOfTransformer
      ? nil : "it changes the text connectors; as upstream, LoRAs act on the transformer alone"
  }

  func isBuilt(_ modalities: Set<Modality>) -> Bool {
    isOfTransformer && LoRAPart(path: path).isBuilt(modalities)
  }
}
