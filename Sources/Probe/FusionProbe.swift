import LTX
import LoRAFiles
import NN
import Support
import Torch

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
