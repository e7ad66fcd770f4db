// S text tokens.

import Foundation
import LTX
import TensorFiles
import Torch
import Tracking

/// `ltx train` and upstream's training script on one dataset, as whole processes, and the parts of
/// a step's time.
struct TrainingCase {
  static let samples = 16
  static let steps = 50
  static let checkpointInterval = 5
  /// The steps of a run of which only the time of a step counts.
  static let fewSteps = 20

  enum Precision: String, CaseIterable {
    case float32, bfloat16

    var dtype: DType { self == .float32 ? .float32 : .bfloat16 }
    /// `acceleration.mixed_precision_mode`.
    var mode: String { self == .float32 ? "no" : "bf16" }
    var words: String {
      switch self {
      case .float32: "all in float32 on both sides"
      case .bfloat16:
        "frozen weights in bfloat16, adapters in float32, autocast to bfloat16, on both sides"
      }
    }
  }

  let ltx: String
  let threads: Int
  private let folder: URL
  private let checkpoint: String
  private let textEncoder: String

  /// Writes the model of `StepCase` as a whole checkpoint, and caches in `.pt` files that both
  /// sides load.
  init(ltx: String, threads: Int, writingTo folder: URL) throws {
    (self.ltx, self.threads) = (ltx, threads)
    self.folder = folder.appendingPathComponent("train")
    checkpoint = self.folder.appendingPathComponent("model.safetensors").path
    let encoder = self.folder.appendingPathComponent("gemma")
    textEncoder = encoder.path
    try FileManager.default.createDirectory(at: encoder, withIntermediateDirectories: true)
    var gemma = TinyGemma()
    gemma.width = StepCase.model.captionWidth
    try gemma.write(to: encoder, seed: 1)
    try writeCheckpoint(states: gemma.layers + 1)
    for precision in Precision.allCases { try writeCache(precision) }
  }

  /// The transformer, the text projection, and the tiny model's VAEs in the configuration.
  private func writeCheckpoint(states: Int) throws {
    let part = folder.appendingPathComponent("transformer.safetensors").path
    try StepCase.model.write(to: part, seed: 1)
    let tiny = folder.appendingPathComponent("tiny").path
    let whole = try SafetensorsFile(path: TinyModel.write(to: tiny).checkpoint)
    func config(_ file: SafetensorsFile) throws -> [String: Any] {
      let text = file.metadata["config"] ?? ""
      guard let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
      else {
        throw BenchmarkError("a checkpoint has no configuration")
      }
      return object
    }
    let transformer = try SafetensorsFile(path: part)
    let merged = try config(whole).merging(config(transformer)) { $1 }
    let width = StepCase.model.captionWidth
    let projection = try Generator(seed: 3).normal([width, states * width]).to(.bfloat16)
    try writeSafetensors(
      transformer.entries.keys.sorted().map { (key: $0, tensor: try transformer.tensor($0)) }
        + [(key: "text_embedding_projection.aggregate_embed.weight", tensor: projection)],
      metadata: [
        "config": String(
          decoding: try JSONSerialization.data(withJSONObject: merged), as: UTF8.self)
      ],
      to: checkpoint, isDurable: false)
  }

  private func cache(_ precision: Precision) -> URL {
    folder.appendingPathComponent("cache-\(precision)")
  }

  /// Writes as many tokens as in `StepCase`: latents of 8 frames of 8x8, 64 steps of audio, 128
  /// text tokens.
  private func writeCache(_ precision: Precision) throws {
    let generator = try Generator(seed: 2)
    let (channels, width) = (StepCase.model.videoChannels, StepCase.model.captionWidth)
    func random(_ shape: [Int]) throws -> PickleValue {
      .tensor(try generator.normal(shape).to(precision.dtype))
    }
    let mask = try Tensor.ones([StepCase.textTokens], dtype: .int64)
    let audioChannels = StepCase.model.audioChannels / 16
    for index in 0..<Self.samples {
      let files: [(String, [(key: String, value: PickleValue)])] = [
        (
          "latents",
          [
            ("latents", try random([channels, 8, 8, 8])), ("num_frames", .int(8)),
            ("height", .int(8)),
            ("width", .int(8)), ("fps", .float(24)),
          ]
        ),
        (
          "audio_latents",
          [
            ("latents", try random([audioChannels, StepCase.audioTokens, 16])),
            ("num_time_steps", .int(StepCase.audioTokens)), ("frequency_bins", .int(16)),
            ("duration", .float(Double(StepCase.audioTokens) / 25)),
          ]
        ),
        (
          "conditions",
          [
            ("video_prompt_embeds", try random([StepCase.textTokens, width])),
            ("audio_prompt_embeds", try random([StepCase.textTokens, width])),
            ("prompt_attention_mask", .tensor(mask)),
          ]
        ),
      ]
      for (name, values) in files {
        let place = cache(precision).appendingPathComponent(name)
        try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
        try writeTorchFile(
          values, to: place.appendingPathComponent("clip\(index).pt").path, isDurable: false)
      }
    }
  }

  /// A configuration for both sides.
  private func configuration(_ precision: Precision, _ output: URL, recomputing: Bool) throws
    -> String
  {
    let yaml = """
      model:
        model_path: \(checkpoint)
        text_encoder_path: \(textEncoder)
      lora:
        rank: \(StepCase.rank)
        alpha: \(StepCase.rank)
        target_modules: [\(StepCase.targets.joined(separator: ", "))]
      training_strategy:
        name: text_to_video
        with_audio: true
      optimization:
        steps: \(Self.steps)
        batch_size: 1
        learning_rate: 1e-4
        enable_gradient_checkpointing: \(recomputing)
      acceleration:
        mixed_precision_mode: "\(precision.mode)"
      data:
        preprocessed_data_root: \(cache(precision).path)
        num_dataloader_workers: 2
      checkpoints:
        interval: \(Self.checkpointInterval)
        keep_last_n: 2
        precision: \(precision == .float32 ? "float32" : "bfloat16")
        save_training_state: full
      validation:
        interval: null
        samples: []
      wandb:
        enabled: false
      output_dir: \(output.path)
      """
    let path = output.path + ".yaml"
    try Data(yaml.utf8).write(to: URL(fileURLWithPath: path))
    return path
  }

  /// Runs both sides in turn, each into an empty folder.
  ///
  /// - Parameter recomputing: whether activations are recomputed in the backward pass.
  func compare(
    _ precision: Precision, recomputing: Bool, _ reference: Reference?, rounds: Int,
    report: (String) -> Void
  ) throws {
    let ourFolder = folder.appendingPathComponent("ours")
    let theirFolder = folder.appendingPathComponent("theirs")
    var ours: [WatchedRun] = []
    var theirs: [WatchedRun] = []
    var times: [StepTimes] = []
    for _ in 0..<rounds {
      try remove(ourFolder)
      let config = try configuration(precision, ourFolder, recomputing: recomputing)
      ours.append(try WatchedRun.of(ltx, ["train", config, "--threads", String(threads)]))
      times.append(try StepTimes(metrics: ourFolder.appendingPathComponent("metrics.jsonl").path))
      guard let reference else { continue }
      try remove(theirFolder)
      let theirConfig = try configuration(precision, theirFolder, recomputing: recomputing)
      theirs.append(
        try WatchedRun.of(
          reference.python,
          [
            "\(reference.scripts)/reference_train.py", reference.trainer, String(threads),
            precision.rawValue, theirConfig,
          ]))
    }
    report(
      "training \(Self.steps) steps, start to end, \(threads) threads: \(precision.words); activations "
        + (recomputing ? "recomputed" : "kept"))
    report(line("ours", ours))
    times.min { $0.total < $1.total }?.lines.forEach(report)
    guard !theirs.isEmpty else {
      return report(
        "upstream's packages/ltx-trainer is missing; set LTX_TRAINER and PYTHON to compare with it")
    }
    report(line("upstream", theirs))
    func least(_ runs: [WatchedRun]) -> Double { runs.map(\.seconds).min() ?? .nan }
    func most(_ runs: [WatchedRun], _ peak: KeyPath<WatchedRun, Int>) -> Double {
      Double(runs.map { $0[keyPath: peak] }.max() ?? 0)
    }
    report(
      String(
        format:
          "ratio: time %.3f of the medians, %.3f of the shortest (at most 0.6); CPU time %.3f; "
          + "peak memory %.3f (at most 0.6), of all processes %.3f",
        ours.map(\.seconds).median / theirs.map(\.seconds).median, least(ours) / least(theirs),
        ours.map(\.cpu).median / theirs.map(\.cpu).median,
        most(ours, \.peak) / most(theirs, \.peak),
        most(ours, \.peakOfAll) / most(theirs, \.peakOfAll)))
  }

  /// A setting whose cost is measured against the same run without it.
  struct Variant {
    let name: String
    let precision: Precision
    /// Whether both runs recompute activations. Weights from the file need it, because they are
    /// loaded again for the backward pass.
    var isRecomputed = false
    let setting: String

    static let all = [
      Variant(
        name: "float32: recomputed", precision: .float32,
        setting: "optimization.enable_gradient_checkpointing=true"),
      Variant(
        name: "bfloat16: recomputed", precision: .bfloat16,
        setting: "optimization.enable_gradient_checkpointing=true"),
      Variant(
        name: "bfloat16: int8-quanto", precision: .bfloat16,
        setting: "acceleration.quantization=int8-quanto"),
      Variant(
        name: "float32: weights from the file", precision: .float32, isRecomputed: true,
        setting: "acceleration.weight_placement=file"),
      Variant(
        name: "bfloat16: weights from the file", precision: .bfloat16, isRecomputed: true,
        setting: "acceleration.weight_placement=file"),
    ]
  }

  /// Runs `ltx train` with and without a setting in turn, and reports the ratio of the times of a
  /// step.
  func compare(_ variant: Variant, rounds: Int, report: (String) -> Void) throws {
    var (with, without): ([Double], [Double]) = ([], [])
    for _ in 0..<rounds {
      for isSet in [false, true] {
        let output = folder.appendingPathComponent("variant")
        try remove(output)
        let config = try configuration(
          variant.precision, output, recomputing: variant.isRecomputed)
        let words = [
          "train", config, "--threads", String(threads), "--set",
          "optimization.steps=\(Self.fewSteps)",
        ]
        _ = try WatchedRun.of(ltx, words + (isSet ? ["--set", variant.setting] : []))
        let times = try StepTimes(metrics: output.appendingPathComponent("metrics.jsonl").path)
        if isSet { with.append(times.step) } else { without.append(times.step) }
      }
    }
    report(
      String(
        format:
          "\(variant.name): a step %.1f ms, without %.1f ms, ratio %.3f of the medians, %.3f of the shortest",
        with.median * 1e3, without.median * 1e3, with.median / without.median,
        (with.min() ?? .nan) / (without.min() ?? .nan)))
  }

  private func line(_ name: String, _ runs: [WatchedRun]) -> String {
    name.padding(toLength: 10, withPad: " ", startingAt: 0)
      + String(
        format:
          "%7.2f s (shortest %7.2f), CPU %7.2f s, peak memory %5d MB, of all its processes %5d MB",
        runs.map(\.seconds).median, runs.map(\.seconds).min() ?? .nan, runs.map(\.cpu).median,
        (runs.map(\.peak).max() ?? 0) >> 20, (runs.map(\.peakOfAll).max() ?? 0) >> 20)
  }

  private func remove(_ folder: URL) throws {
    if FileManager.default.fileExists(atPath: folder.path) {
      try FileManager.default.removeItem(at: folder)
    }
  }
}

/// The parts of the time of a run's steps, from its `metrics.jsonl`. The first step, which waits
/// for the first batch and creates the optimizer's state, is not counted.
struct StepTimes {
  private let steps: [StepRecord]

  init(metrics path: String) throws {
    steps = Array(try RecordedMetrics(path: path).steps.dropFirst())
  }

  private func sum(_ part: (StepRecord) -> Double?) -> Double {
    steps.compactMap(part).reduce(0, +)
  }
  private func median(_ part: (StepRecord) -> Double?) -> Double { steps.compactMap(part).median }
  private var computing: Double {
    sum(\.forwardSeconds) + sum(\.backwardSeconds) + sum(\.optimizerSeconds)
  }

  /// The median time of a step.
  var step: Double { median(\.seconds) }

  /// The time of the steps and between them.
  var total: Double { sum(\.seconds) + sum(\.betweenSeconds) }

  var lines: [String] {
    let longest = steps.compactMap(\.savingSeconds).max() ?? 0
    return [
      String(
        format:
          "          a step %.1f ms: forward %.1f, backward %.1f, optimizer %.1f; waiting for data %.2f; "
          + "between steps %.2f, of it saving %.2f",
        median(\.seconds) * 1e3, median(\.forwardSeconds) * 1e3, median(\.backwardSeconds) * 1e3,
        median(\.optimizerSeconds) * 1e3, median(\.dataSeconds) * 1e3,
        median(\.betweenSeconds) * 1e3,
        median(\.savingSeconds) * 1e3),
      String(
        format:
          "          outside of forward, backward and optimizer %.2f %% (at most 2); the longest stall by saving "
          + "%.1f ms, %.2f steps (at most 1)",
        (total - computing) / total * 100, longest * 1e3, longest / median(\.seconds)),
    ]
  }
}
