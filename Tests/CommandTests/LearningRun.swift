import DemoData
import DemoJudges
import Foundation
import Media
import TestSupport
import Testing

/// The steps of a user of the trained tiny model: drawing clips, encoding them, training a LoRA with
/// the configuration of the demo, and generating with it.
struct LearningRun {
  static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path
  static let model = "\(repository)/Resources/tiny-ltx2/tiny-ltx2.safetensors"
  static let textEncoder = "\(repository)/Resources/tiny-ltx2/gemma"
  /// Whether all tests run, which take minutes.
  static let isNightly = ProcessInfo.processInfo.environment["LTX_LEARNING"] != nil

  /// The rows of a dataset and what their clips show.
  struct Clips {
    let folder: String
    let scenes: [DemoScene]
  }

  let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  @discardableResult
  func ltx(_ arguments: [String]) throws -> Program.Result {
    let result = try Program.run(arguments, in: scratch.path)
    try #require(
      result.status == 0, "ltx \(arguments.joined(separator: " "))\n\(result.errors)")
    return result
  }

  // MARK: Data

  /// Draws clips and writes their captions.
  ///
  /// - Parameters:
  ///   - heldOut: Whether the combinations are those that the model was not trained with.
  ///   - caption: The caption of a clip; nil for the scene's own.
  func draw(
    _ name: String, style: DemoScene.Style = .plain, count: Int, seed: Int, heldOut: Bool = false,
    caption: ((DemoScene) -> String)? = nil
  ) throws -> Clips {
    try ltx(
      ["demo-data", name, "--style", style.rawValue, "--clips", "\(count)", "--seed", "\(seed)"]
        + (heldOut ? ["--held-out"] : []))
    let folder = scratch.file(name)
    let scenes = try DemoDataset.readScenes(path: "\(folder)/scenes.json")
    if let caption {
      let rows = scenes.enumerated().map { index, scene in
        [
          "caption": caption(scene), "media_path": String(format: "clips/%04d.mp4", index),
        ]
      }
      try JSONEncoder().encode(rows)
        .write(to: URL(fileURLWithPath: "\(folder)/dataset.json"))
    }
    return Clips(folder: folder, scenes: scenes)
  }

  func preprocess(_ clips: Clips, _ options: [String] = []) throws {
    try ltx(
      [
        "preprocess", "\(clips.folder)/dataset.json", "--resolution-buckets", "128x128x25",
        "--with-audio", "--model-path", Self.model, "--text-encoder-path", Self.textEncoder,
        "--dtype", "float32", "--batch-size", "4",
      ] + options)
  }

  // MARK: Training

  struct Trained {
    /// The file of the LoRA.
    let lora: String
    /// The program's output and messages.
    let log: String
  }

  /// Trains a LoRA.
  ///
  /// - Parameters:
  ///   - settings: Values that differ from those of the demo, `key=value`.
  ///   - launcher: The arguments before `train`, for several ranks.
  func train(
    _ name: String, on clips: Clips, steps: Int = 200, _ settings: [String] = [],
    launcher: [String] = []
  ) throws -> Trained {
    let all =
      [
        "model.model_path=\(Self.model)", "model.text_encoder_path=\(Self.textEncoder)",
        "data.preprocessed_data_root=\(clips.folder)/.precomputed",
        "output_dir=\(scratch.file(name))", "optimization.steps=\(steps)",
        "checkpoints.interval=\(steps)", "validation.interval=\(steps)",
      ] + settings
    let result = try ltx(
      launcher + ["train", "\(Self.repository)/examples/style-lora.yaml"]
        + all.flatMap { ["--set", $0] })
    let file = String(format: "lora_weights_step_%05d.safetensors", steps)
    return Trained(
      lora: scratch.file("\(name)/checkpoints/\(file)"), log: result.output + result.errors)
  }

  // MARK: Generation

  /// Generates a clip for each prompt.
  func generate(
    _ name: String, _ prompts: [String], lora: String? = nil, _ options: [String] = []
  ) throws -> [JudgedClip] {
    try generateFiles(name, prompts, lora: lora, options).map { try JudgedClip(path: $0) }
  }

  func generateFiles(
    _ name: String, _ prompts: [String], lora: String? = nil, _ options: [String] = [],
    suffix: String = "mp4"
  ) throws -> [String] {
    let result = try ltx(
      [
        "generate", "--model-path", Self.model, "--text-encoder-path", Self.textEncoder,
        "--width", "128", "--height", "128", "--num-frames", "25", "--steps", "24",
        "--negative-prompt", "", "--video-cfg-scale", "3", "--audio-cfg-scale", "3",
        "--video-stg-guidance-scale", "0", "--audio-stg-guidance-scale", "0", "--a2v-scale", "1",
        "--v2a-scale", "1", "--output", "\(name).\(suffix)",
      ] + prompts.flatMap { ["--prompt", $0] } + (lora.map { ["--lora", $0] } ?? []) + options)
    return result.output.split(separator: "\n").map { line in
      line.hasPrefix("/") ? String(line) : scratch.file(String(line))
    }
  }
}

/// The share of clips for which something holds.
func share(_ count: Int, _ holds: (Int) throws -> Bool) rethrows -> Double {
  var right = 0
  for index in 0..<count where try holds(index) { right += 1 }
  return Double(right) / Double(max(1, count))
}
