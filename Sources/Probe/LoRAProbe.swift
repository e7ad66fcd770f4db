import BlockExecution
import LTX
import LoRAFiles
import NN
import Support
import Torch
import Training

func probeLoRAGradients(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  // The trainer's mixed precision: the frozen part and the contexts in bfloat16, everything else in
  // float32.
  try inputs.fitTransformer(options)
  let given = try inputs.modalities(latentDType: .float32, contextDType: options.dtype)
  func example(_ name: String, _ modality: ModalityInput?) throws -> ModalityExample? {
    guard let modality else { return nil }
    let (t, c) = name == "video" ? ("T", "C") : ("Ta", "Ca")
    let target = try inputs.float("\(name).target", "B \(t)' \(c)")
    guard target.size(1) <= modality.latent.size(1) else {
      throw Issue(
        [.name("\(name).target")],
        "has \(target.size(1)) tokens, more than the latent's \(modality.latent.size(1))")
    }
    return try ModalityExample(
      input: modality.to(options.device), target: target.to(options.device),
      lossMask: inputs.int("\(name).loss_mask", "B \(t)").to(options.device))
  }
  let example = TrainingExample(
    video: try example("video", given.video), audio: try example("audio", given.audio))
  guard options.loras.count == 1, let lora = options.loras.first else {
    throw Issue(["loras"], "must be exactly one for lora-gradients")
  }
  guard lora.strength.isFinite else {
    throw Issue(
      ["loras", .file(lora.path)], "the strength must be finite (got \(lora.strength))")
  }
  var adapters = AdapterSet()
  let file = try LoRAFile(path: lora.path)
  try file.add(
    to: &adapters, strength: lora.strength, dtype: .float32, device: options.device, isTrained: true
  )
  // All adapters of the file are built, including those of a modality that these inputs lack.
  let transformer = try Checkpoint(path: options.requireModel()).transformer(
    LoadPolicy(dtype: options.dtype, device: options.device, adapters: adapters))
  let step = TrainingStep(
    transformer: transformer,
    plan: ExecutionPlan(
      blocks: transformer.configuration.blocks, activations: .keep,
      autocast: options.dtype == .float32 ? nil : options.dtype))
  let result = try step(example)
  return [("loss", result.loss)]
    + (try transformer.parameters.map { parameter in
      // A factor that nothing depends on has a gradient of zero.
      (
        "grad.\(LoRAFile.filePath(parameter.key))",
        try result.gradients[parameter.key] ?? .zeros(like: parameter.tensor)
      )
    })
}

/// `fuse-loras`: every weight that the LoRAs change, under its key in the checkpoint.
func probeFuseLoRAs(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let checkpoint = try Checkpoint(path: options.requireModel())
  guard !options.loras.isEmpty else {
    throw Issue(["loras"], "are missing, but fuse-loras needs them")
  }
  for lora in options.loras { try LoRAFile(path: lora.path).requireFit(checkpoint) }
  var adapters = try options.adapters(dtype: nil)
  adapters.placement = .fused
  let weights = checkpoint.weights(
    LoadPolicy(dtype: options.dtype, device: options.device, adapters: adapters))
  return try adapters.paths.map { ("\($0).weight", try (weights / $0).tensor("weight")) }
}
