import Foundation
import LTX
import TensorFiles
import Torch

/// The time until the program does something.
enum Start {
  /// `ltx --help`: the median of 20 runs, in seconds.
  static func help(_ ltx: String) throws -> Double {
    try run(ltx, ["--help"])
    return try (0..<20).map { _ in try seconds { try run(ltx, ["--help"]) } }.median
  }

  /// `ltx train` with one step of the tiny model, from the start of the process to its end: the
  /// median of 5 runs, in seconds.
  static func firstStep(_ ltx: String, in folder: URL) throws -> Double {
    let model = folder.appendingPathComponent("tiny").path
    try run(ltx, ["tiny-model", model])
    let cache = folder.appendingPathComponent("data/.precomputed")
    let generator = try Generator(seed: 1)
    let width = TinyTransformer().captionWidth
    for (name, tensors) in [
      (
        "latents",
        [
          ("latents", try generator.normal([TinyTransformer().videoChannels, 2, 2, 2])),
          ("fps", try Tensor([Float(24)])),
        ]
      ),
      (
        "conditions",
        [
          ("video_prompt_embeds", try generator.normal([128, width])),
          ("prompt_attention_mask", try .ones([128], dtype: .int64)),
        ]
      ),
    ] {
      let sub = cache.appendingPathComponent(name)
      try FileManager.default.createDirectory(at: sub, withIntermediateDirectories: true)
      try writeSafetensors(
        tensors.map { (key: $0.0, tensor: $0.1) },
        to: sub.appendingPathComponent("clip.safetensors").path)
    }
    let times = try (0..<6).map { attempt in
      let config = """
        model:
          model_path: \(model)/\(TinyModel.checkpointName)
        lora:
          rank: 16
          alpha: 16
          target_modules: [to_k, to_q, to_v, to_out.0]
        training_strategy:
          name: text_to_video
        optimization:
          steps: 1
          batch_size: 1
        acceleration:
          mixed_precision_mode: bf16
        data:
          preprocessed_data_root: \(cache.path)
        output_dir: \(folder.path)/run\(attempt)
        """
      let path = folder.appendingPathComponent("run\(attempt).yaml").path
      try Data(config.utf8).write(to: URL(fileURLWithPath: path))
      return try seconds { try run(ltx, ["train", path]) }
    }
    return times.dropFirst().map { $0 }.median
  }
}
