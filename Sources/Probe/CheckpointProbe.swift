import Generation
import LTX
import Torch

/// The properties that follow from a checkpoint's metadata alone.
func probeCheckpoint(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let checkpoint = try Checkpoint(path: options.requireModel())
  // The published models have 48 blocks.
  let defaults = GenerationDefaults(
    version: checkpoint.version, videoVAEVersion: checkpoint.version(of: .videoVAE), blocks: 48,
    method: .euler, isTwoStage: false, isDistilled: false)
  let factors = try checkpoint.videoCompression()
  var facts: [(String, [Int])] = [
    ("version", checkpoint.version?.parts ?? []), ("image_crf", [defaults.imageCRF]),
    ("steps", [defaults.steps]), ("stg_blocks", defaults.guidance.video.stgBlocks?.sorted() ?? []),
    ("compression", [factors.time, factors.height, factors.width]),
    ("ancestral", [defaults.isAncestral ? 1 : 0]),
    ("split_transformer", [checkpoint.isTransformerAlone ? 1 : 0]),
    ("generated_keyframes", [try checkpoint.supportsGeneratedKeyframes ? 1 : 0]),
  ]
  if let isDiffusion = try checkpoint.hasDiffusionDecoder {
    facts.append(("diffusion_decoder", [isDiffusion ? 1 : 0]))
  }
  if let textEncoder = options.textEncoder {
    facts.append(
      ("gemma_matches", [try checkpoint.textEncoderMismatch(at: textEncoder) == nil ? 1 : 0]))
  }
  return try facts.map { (key: $0, tensor: try Tensor($1, shape: [$1.count])) }
}
