import BlockExecution
import LTX
import LoRAFiles
import NN
import Support
import Torch

extension ProbeInputs {
  /// Fixes the sizes that the transformer's configuration decides, if a model is given.
  func fitTransformer(_ options: Probe.Options) throws {
    guard let path = options.model else { return }
    let checkpoint = try Checkpoint(path: path)
    try checkpoint.require("transformer")
    let c = try TransformerConfiguration(checkpoint.config)
    fix("C", c.sizes.video.inputs)
    fix("W", c.captionChannels ?? c.sizes.video.contextWidth)
    fix("Ca", c.sizes.audio.inputs)
    fix("Wa", c.captionChannels ?? c.sizes.audio.contextWidth)
    blockCount = c.blocks
  }

  /// A list of blocks; nil if it is missing.
  func blocks(_ name: String, _ shape: String) throws -> Set<Int>? {
    guard let blocks = try optionalInt(name, shape)?.array(of: Int.self) else { return nil }
    if let wrong = blocks.first(where: { $0 < 0 || $0 >= blockCount ?? .max }) {
      throw Issue(
        [.name("\(name)")],
        "names block \(wrong); the model has blocks 0 to \((blockCount ?? 1) - 1)")
    }
    return Set(blocks)
  }

  /// The input of one modality to the transformer; nil if it is missing.
  ///
  /// - Parameters:
  ///   - dtype: the dtype of latents and contexts; timesteps, sigmas and positions stay float32.
  func modality(
    _ modality: Modality, latentDType: DType, contextDType: DType
  ) throws -> ModalityInput? {
    let isVideo = modality == .video
    let t = isVideo ? "T" : "Ta"
    guard has("\(modality).latent") else { return nil }
    let axes = isVideo ? 3 : 1
    let c = isVideo ? "C" : "Ca"
    return ModalityInput(
      latent: try float("\(modality).latent", "B \(t) \(c)").to(latentDType),
      timesteps: try float("\(modality).timesteps", "B \(t)"),
      sigma: try float("\(modality).sigma", "B"),
      positions: try float("\(modality).positions", "B \(axes) \(t) 2"),
      context: try float("\(modality).context", "B \(isVideo ? "S W" : "Sa Wa")").to(contextDType),
      contextMask: try optionalInt("\(modality).context_mask", "B \(isVideo ? "S" : "Sa")"),
      selfAttentionMask: try optionalFloat("\(modality).self_attention_mask", "B \(t) \(t)"),
      keyframesMask: try keyframesMask(modality),
      isEnabled: try integer("\(modality).enabled", default: 1) != 0)
  }

  /// [B, T]: the mask of the tokens that show a single pixel frame; nil if it is missing, and always
  /// for audio.
  func keyframesMask(_ modality: Modality) throws -> Tensor? {
    modality == .video ? try optionalInt("video.keyframes_mask", "B T") : nil
  }

  func modalities(latentDType: DType, contextDType: DType) throws -> PerModality<ModalityInput?> {
    let inputs = try PerModality {
      try modality($0, latentDType: latentDType, contextDType: contextDType)
    }
    guard !inputs.present().isEmpty else {
      throw Issue(
        "the inputs video.latent and audio.latent are both missing. "
          + "Give at least one of them")
    }
    return inputs
  }
}

extension Probe.Options {
  /// The adapters of all `--lora` options, in order.
  func adapters(dtype: DType?) throws -> AdapterSet {
    var adapters = AdapterSet()
    for lora in loras {
      guard lora.strength.isFinite else {
        throw Issue(
          ["loras", .file(lora.path)], "the strength must be finite (got \(lora.strength))")
      }
      try LoRAFile(path: lora.path).add(
        to: &adapters, strength: lora.strength, dtype: dtype, device: device)
    }
    return adapters
  }

}

extension ModalityInput {
  func to(_ device: Device) throws -> ModalityInput {
    var moved = self
    moved.latent = try latent.to(device)
    moved.timesteps = try timesteps.to(device)
    moved.sigma = try sigma.to(device)
    moved.positions = try positions.to(device)
    moved.context = try context.to(device)
    moved.contextMask = try contextMask?.to(device)
    moved.selfAttentionMask = try selfAttentionMask?.to(device)
    moved.keyframesMask = try keyframesMask?.to(device)
    return moved
  }
}

func probeTransformer(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  try inputs.fitTransformer(options)
  let given = try inputs.modalities(latentDType: options.dtype, contextDType: options.dtype)
  let rows = try inputs.optionalInt("skip.rows", "B").map {
    try $0.array(of: Int.self).map { $0 != 0 }
  }
  var perturbations = Perturbations()
  let kinds: [(String, Perturbations.Kind)] = [
    ("skip.video_self_attn", .selfAttention(.video)),
    ("skip.audio_self_attn", .selfAttention(.audio)),
    ("skip.a2v", .crossAttention(from: .audio)), ("skip.v2a", .crossAttention(from: .video)),
  ]
  for (number, (name, kind)) in kinds.enumerated() {
    if let blocks = try inputs.blocks(name, "n\(number)") {
      perturbations.add(kind, blocks: blocks, rows: rows)
    }
  }
  let checkpoint = try Checkpoint(path: options.requireModel())
  // Adapters may also target a modality that these inputs lack, so both are built.
  let transformer = try checkpoint.transformer(
    LoadPolicy(
      dtype: options.dtype, device: options.device, adapters: options.adapters(dtype: options.dtype)
    ), modalities: options.loras.isEmpty ? given.present() : .both)
  let velocity = try withInference {
    try transformer(
      given.map { try $0?.to(options.device) }, perturbations: perturbations)
  }
  return velocity.pairs.compactMap { modality, tensor in
    tensor.map { ("\(modality).velocity", $0) }
  }
}

func probeRope(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let positions = try inputs.float("positions", "B D T 2")
  let stream = try inputs.integer("stream")
  let checkpoint = try Checkpoint(path: options.requireModel())
  let configuration = try TransformerConfiguration(checkpoint.config)
  guard let attention = TransformerConfiguration.RotatedAttention(rawValue: stream) else {
    throw Issue(["stream"], "is \(stream) (expected 0 (video), 1 (audio) or 2 (cross-modal))")
  }
  let rope = try configuration.rotaryEmbedding(
    attention, positions: positions, dtype: options.dtype)
  return [("cos", rope.cos), ("sin", rope.sin)]
}
