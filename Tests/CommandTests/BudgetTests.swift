import Foundation
import LTX
import TensorFiles
import TestSupport
import Testing
import Torch

private let runsAll = ProcessInfo.processInfo.environment["LTX_ALL_BUDGETS"] == "1"
private let updates = ProcessInfo.processInfo.environment["LTX_UPDATE_BUDGETS"] == "1"

/// The memory and the work of commands with LTX-2.3 and Gemma 3 at their published sizes, counted on
/// a pretend GPU that computes nothing large, and compared with `Tests/Fixtures/budgets`.
///
/// `LTX_UPDATE_BUDGETS=1` writes new budgets. `LTX_ALL_BUDGETS=1` also runs the cases that are left
/// out by default because they take minutes.
@Suite(.serialized) struct BudgetTests {
  /// The counts of a run by phase.
  private typealias Budget = [String: [String: Int]]

  /// A relative change that fails a test.
  private static let tolerance = 0.01

  /// - Parameter name: the name of the file of the budget.
  private func compare(_ name: String, _ found: Budget) throws {
    let path = "\(Fixtures.root)/budgets/\(name).json"
    if updates {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      return try (encoder.encode(found) + Data("\n".utf8)).write(to: URL(fileURLWithPath: path))
    }
    let expected = try JSONDecoder().decode(
      Budget.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
    #expect(found.keys.sorted() == expected.keys.sorted(), "\(name)")
    for (phase, counts) in expected {
      let own = found[phase] ?? [:]
      #expect(own.keys.sorted() == counts.keys.sorted(), "\(name), \(phase)")
      for (key, count) in counts {
        let value = own[key] ?? 0
        #expect(
          Double(abs(value - count)) <= Self.tolerance * Double(count),
          """
          \(name), \(phase): \(key) is \(value), and was \(count). If that is intended, write the \
          new budgets with LTX_UPDATE_BUDGETS=1 and review the difference.
          """)
      }
    }
  }

  /// A run with null results.
  private func run(
    _ arguments: [String], in folder: String, until isDone: (() -> Bool)? = nil
  ) throws -> PretendGPU.Report {
    let (result, report) = try PretendGPU.run(
      arguments + ["--device", "cuda"], in: folder, bytes: 200_000_000_000,
      environment: ["PRETEND_GPU_NULL": "1"], until: isDone)
    try #require(result.status == (isDone == nil ? 0 : 130), "\(result.errors)")
    if isDone == nil {
      #expect(report.devices.allSatisfy { $0.liveBytes == 0 }, "memory is left on the device")
    }
    return report
  }

  // MARK: Training

  @Test(arguments: TrainingCase.all) fileprivate func training(_ example: TrainingCase) throws {
    let model = try FullSizeFiles.shared.get()
    let workshop = try Workshop()
    let cache = "\(workshop.path)/cache"
    try FullSizeCache.write(to: cache, size: example.size, samples: 3)
    try workshop.write(
      "run.yaml",
      """
      model: {model_path: \(try model.checkpoint())}
      lora: {rank: 32, alpha: 32, target_modules: [to_q, to_k, to_v, to_out.0, to_gate_logits,
        net.0.proj, net.2]}
      training_strategy: {name: text_to_video, with_audio: true, first_frame_conditioning_p: 0.0}
      optimization: {steps: 100, batch_size: 1, optimizer_type: adamw,
        enable_gradient_checkpointing: true}
      acceleration: {mixed_precision_mode: bf16, weight_placement: resident}
      checkpoints: {save_training_state: "off"}
      tensorboard: {enabled: false}
      report: {enabled: false}
      data: {preprocessed_data_root: \(cache)}
      output_dir: \(workshop.path)/out
      """)
    // A run that ends by itself reads all base weights once more, to measure how far it has moved
    // them, which would take most of the time here.
    let report = try run(
      ["train", "run.yaml"] + example.settings.flatMap { ["--set", $0] }, in: workshop.path
    ) {
      let steps = try? String(contentsOfFile: "\(workshop.path)/out/metrics.jsonl", encoding: .utf8)
      return (steps ?? "").split(separator: "\n").count >= 2
    }
    // The program resets the peak before the first step, and reads the memory after each step.
    let resets = report.marks.indices.filter { report.marks[$0].resetsPeak }
    let start = try #require(resets.last)
    try #require(report.marks.count > start + 2)
    let loading = report.marks[...start].map(\.peakBytes).max()
    let (first, second) = (report.marks[start + 1], report.marks[start + 2])
    try compare(
      example.name,
      [
        "loading": ["peak_bytes": loading ?? 0, "live_bytes": report.marks[start].liveBytes],
        "step": second.counts(since: first).merging(["peak_bytes": second.peakBytes]) { $1 },
      ])
  }

  // MARK: Other commands

  /// Generates two steps of 960x544x49 with guidance.
  private func generate(_ options: [String], prompt: String = "a red boat") throws
    -> PretendGPU
    .Report
  {
    let model = try FullSizeFiles.shared.get()
    let workshop = try Workshop()
    return try run(
      [
        "generate", "--model-path", try model.checkpoint(), "--text-encoder-path",
        try model.textEncoder(), "--prompt", prompt, "--negative-prompt", "noise",
        "--cfg-scale", "3", "--stg-scale", "1", "--width", "960", "--height", "544",
        "--num-frames", "49", "--steps", "2", "--output", "out.mp4",
      ] + options, in: workshop.path)
  }

  @Test(.enabled(if: runsAll)) func generation() throws {
    try compare("generate-video-bf16", ["whole": generate(["--no-audio"]).budget])
  }

  @Test(.enabled(if: runsAll)) func generationWithAudio() throws {
    let report = try generate(["--audio-cfg-scale", "7", "--audio-stg-scale", "1"])
    try compare("generate-audio-video-bf16", ["whole": report.budget])
  }

  /// Weights that don't fit are streamed. The prompt has all tokens that the text encoder reads.
  @Test(.enabled(if: runsAll), arguments: [16, 12]) func generationIn(gigabytes: Int) throws {
    let report = try generate(
      ["--no-audio", "--memory", "\(gigabytes)GB"],
      prompt: String(repeating: "a red boat ", count: 1000))
    let peak = try #require(report.devices.first).peakBytes
    #expect(peak <= gigabytes * 1_000_000_000, "the peak is \(peak) bytes")
    // The host's memory decides whether streamed weights wait there or in the file, and so the
    // kinds of their copies and what waits for them.
    let counts = report.budget.filter { !$0.key.hasPrefix("upload") && $0.key != "syncs" }
    let uploaded = ["uploaded_bytes": report.pinnedBytes + report.pageableBytes]
    try compare("generate-video-\(gigabytes)gb", ["whole": counts.merging(uploaded) { $1 }])
  }

  @Test(.enabled(if: runsAll)) func preprocessing() throws {
    let model = try FullSizeFiles.shared.get()
    let workshop = try Workshop()
    let clip = try #require(Clips.all().first)
    try workshop.write(
      "dataset.json", #"[{"caption": "a red boat", "media_path": "\#(clip)"}]"#)
    let report = try run(
      [
        "preprocess", "dataset.json", "--output-dir", "cache", "--resolution-buckets",
        "960x544x49", "--model-path", try model.checkpoint(), "--text-encoder-path",
        try model.textEncoder(), "--skip-audio",
      ], in: workshop.path)
    try compare("preprocess-bf16", ["whole": report.budget])
  }

  /// The elements of tensors.
  private func millions(_ entries: [TensorEntry]) -> Int {
    var total = 0
    for entry in entries { total += entry.shape.reduce(1, *) }
    return total / 1_000_000
  }

  /// The files have the sizes of the published ones.
  @Test func theFullSizeModelHasThePublishedSizes() throws {
    let model = try FullSizeFiles.shared.get()
    let file = try SafetensorsFile(path: model.checkpoint())
    #expect(file.entries.count == 5950)
    #expect(millions(Array(file.entries.values)) == 23_069)
    let folder = try model.textEncoder()
    let gemma = try SafetensorsFile(path: "\(folder)/model.safetensors")
    let language = gemma.entries.filter { $0.key.hasPrefix("language_model.") }
    #expect(millions(Array(language.values)) == 11_766)
  }
}

/// A training run whose work is counted.
private struct TrainingCase: Sendable, CustomTestStringConvertible {
  let name: String
  var size = FullSizeCache.Size.small
  var settings: [String] = []
  var testDescription: String { name }

  static let all = runsAll ? quick + others : quick
  private static let quick = [TrainingCase(name: "train-lora-bf16")]
  private static let others = [
    TrainingCase(
      name: "train-lora-int8-adamw8bit",
      settings: [
        "acceleration.quantization=int8-quanto", "optimization.optimizer_type=adamw8bit",
      ]),
    TrainingCase(
      name: "train-lora-bf16-adamw8bit", settings: ["optimization.optimizer_type=adamw8bit"]),
    TrainingCase(
      name: "train-lora-bf16-keep", settings: ["optimization.enable_gradient_checkpointing=false"]),
  ]
}

/// The full-size model of all tests of a process, sparse files that are written at their first use.
private final class FullSizeFiles: Sendable {
  static let shared = Result { try FullSizeFiles() }

  private let workshop: Workshop
  private let written: Result<Void, any Error>

  private init() throws {
    let workshop = try Workshop()
    self.workshop = workshop
    written = Result {
      try FullSizeModel.writeCheckpoint(to: workshop.path)
      try FullSizeModel.writeTextEncoder(to: workshop.path)
    }
  }

  func checkpoint() throws -> String {
    try written.get()
    return "\(workshop.path)/\(FullSizeModel.checkpointName)"
  }

  func textEncoder() throws -> String {
    try written.get()
    return "\(workshop.path)/\(FullSizeModel.textEncoderName)"
  }
}
