import Foundation
import TensorFiles
import Torch

/// A preprocessed cache of random samples for the full-size model.
enum FullSizeCache {
  /// A resolution with its latents.
  struct Size: Sendable {
    /// In pixels and pixel frames.
    let name: String
    let frames, rows, columns, audioSteps: Int

    static let small = Size("960x544x49", frames: 7, rows: 17, columns: 30, audioSteps: 51)
    static let all = [
      Size("512x320x25", frames: 4, rows: 10, columns: 16, audioSteps: 26), small,
      Size("768x512x121", frames: 16, rows: 16, columns: 24, audioSteps: 126),
      Size("1280x704x49", frames: 7, rows: 22, columns: 40, audioSteps: 51),
    ]

    private init(_ name: String, frames: Int, rows: Int, columns: Int, audioSteps: Int) {
      self.name = name
      (self.frames, self.rows, self.columns) = (frames, rows, columns)
      self.audioSteps = audioSteps
    }
  }

  static func write(to folder: String, size: Size, samples: Int) throws {
    let generator = try Generator(seed: 1)
    func random(_ shape: [Int]) throws -> Tensor { try generator.normal(shape).to(.bfloat16) }
    func number(_ value: Int) throws -> Tensor { try Tensor([value], shape: [1]) }
    for index in 0..<samples {
      let tensors: [(folder: String, tensors: [(key: String, tensor: Tensor)])] = try [
        (
          "latents",
          [
            ("latents", random([128, size.frames, size.rows, size.columns])),
            ("num_frames", number(size.frames)), ("height", number(size.rows)),
            ("width", number(size.columns)), ("fps", Tensor([24.0], shape: [1])),
          ]
        ),
        (
          "audio_latents",
          [
            ("latents", random([8, size.audioSteps, 16])),
            ("num_time_steps", number(size.audioSteps)), ("frequency_bins", number(16)),
            ("duration", Tensor([Double(size.audioSteps) / 25], shape: [1])),
          ]
        ),
        (
          "conditions",
          [
            ("video_prompt_embeds", random([1024, 4096])),
            ("audio_prompt_embeds", random([1024, 2048])),
            ("prompt_attention_mask", Tensor.ones([1024], dtype: .int64)),
          ]
        ),
      ]
      for (name, tensors) in tensors {
        try FileManager.default.createDirectory(
          atPath: "\(folder)/\(name)", withIntermediateDirectories: true)
        try writeSafetensors(tensors, to: "\(folder)/\(name)/c\(index).safetensors")
      }
    }
  }
}
