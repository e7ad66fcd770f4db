import Foundation
import TensorFiles
import TestSupport
import Torch

/// A small cache, written file by file, in the layout of `ltx preprocess`.
struct CachedFiles {
  let scratch: ScratchFolder
  var root: String { scratch.file(".precomputed") }

  init() throws { scratch = try ScratchFolder() }

  func write(
    _ name: String, _ tensors: [(String, Tensor)], _ metadata: [String: String] = [:]
  ) throws {
    let path = "\(root)/\(name).safetensors"
    try FileManager.default.createDirectory(
      atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try writeSafetensors(
      tensors.map { (key: $0, tensor: $1) }, metadata: metadata, to: path, isDurable: false)
  }

  func latents(
    _ name: String, folder: String = "latents", shape: [Int] = [4, 2, 2, 3], fps: Double = 25,
    dtype: DType = .bfloat16, _ metadata: [String: String] = [:]
  ) throws {
    try write(
      "\(folder)/\(name)",
      [
        ("latents", try Tensor.ones(shape, dtype: dtype)), ("num_frames", Tensor([shape[1]])),
        ("height", Tensor([shape[2]])), ("width", Tensor([shape[3]])), ("fps", Tensor([fps])),
      ], metadata)
  }

  func conditions(
    _ name: String, width: Int = 6, tokens: Int = 5, _ metadata: [String: String] = [:]
  ) throws {
    let features = try Tensor.ones([8, width], dtype: .bfloat16)
    try write(
      "conditions/\(name)",
      [
        ("video_prompt_embeds", features), ("audio_prompt_embeds", features),
        ("prompt_attention_mask", Tensor((0..<8).map { $0 < 8 - tokens ? 0 : 1 })),
      ], metadata)
  }

  /// The default fits nine frames at 25 per second.
  func audio(
    _ name: String, folder: String = "audio_latents", steps: Int = 10, duration: Double = 0.36,
    _ metadata: [String: String] = [:]
  ) throws {
    try write(
      "\(folder)/\(name)",
      [
        ("latents", try Tensor.ones([2, steps, 4])), ("num_time_steps", Tensor([steps])),
        ("frequency_bins", Tensor([4])), ("duration", Tensor([duration])),
      ], metadata)
  }

  func mask(
    _ name: String, folder: String = "video_masks", _ shape: [Int],
    _ metadata: [String: String] = [:]
  ) throws {
    try write("\(folder)/\(name)", [("mask", try Tensor.zeros(shape))], metadata)
  }

  func dataset(_ rows: [(video: String, caption: String)]) throws {
    let lines = try rows.map { row in
      String(
        decoding: try JSONEncoder().encode(["video": row.video, "caption": row.caption]),
        as: UTF8.self)
    }
    try scratch.write(lines.joined(separator: "\n"), to: "dataset.jsonl")
  }
}
