import Foundation
import TensorFiles
import TestSupport
import Testing
import Torch
import Tracking

/// Invalid datasets and failures during a run: an error names the cause, and no partial files
/// remain.
@Suite(.serialized) struct TrainingBadInputTests {
  private let prepared: PreparedTraining

  init() throws { prepared = try PreparedTraining.shared.get() }

  /// Trains on a modified copy of the cache.
  private func train(
    _ name: String, steps: Int = 4, _ options: [String] = [], environment: [String: String] = [:],
    change: (String) throws -> Void = { _ in }
  ) throws -> Program.Result {
    let cache = "\(prepared.path)/cache-\(name)"
    try FileManager.default.copyItem(atPath: "\(prepared.path)/.precomputed", toPath: cache)
    try change(cache)
    let settings = ["data.preprocessed_data_root=\(cache)"] + options
    return try Program.run(
      ["train", prepared.configure(name, steps: steps)] + settings.flatMap { ["--set", $0] },
      in: cache, environment: environment)
  }

  private func files(_ cache: String, _ folder: String) throws -> [String] {
    (FileManager.default.enumerator(atPath: "\(cache)/\(folder)")?.compactMap { $0 as? String }
      ?? [])
      // The features of the empty prompt belong to no sample.
      .filter { $0.hasSuffix(".safetensors") && !$0.hasPrefix(".") }.sorted()
      .map { "\(cache)/\(folder)/\($0)" }
  }

  private func rewrite(_ path: String, _ change: (String, Tensor) throws -> Tensor) throws {
    let file = try SafetensorsFile(path: path)
    let tensors = try file.entries.keys.sorted().map { key in
      (key: key, tensor: try change(key, file.tensor(key)).clone())
    }
    try writeSafetensors(tensors, metadata: file.metadata, to: path)
  }

  @Test(arguments: [
    ("latents", "latents"), ("conditions", "video_prompt_embeds"),
    ("conditions", "audio_prompt_embeds"),
  ])
  func numbersThatAreNone(folder: String, key: String) throws {
    var damaged = ""
    let result = try train("nan-\(key)") { cache in
      damaged = try #require(files(cache, folder).first)
      try rewrite(damaged) { name, tensor in name == key ? try tensor * Double.nan : tensor }
    }
    #expect(result.status == 1)
    #expect(
      result.errors.contains("\(damaged): holds ") && result.errors.contains("not finite numbers"),
      "\(result.errors)")
  }

  @Test(arguments: [Double.nan, 0, -24])
  func ratesThatAreNone(fps: Double) throws {
    let result = try train("fps-\(fps)") { cache in
      try rewrite(#require(files(cache, "latents").first)) { name, tensor in
        name == "fps" ? try tensor * 0 + fps : tensor
      }
    }
    #expect(result.status == 2)
    #expect(result.errors.contains("has an invalid fps"), "\(result.errors)")
  }

  @Test func latentsWithoutRows() throws {
    let result = try train("empty") { cache in
      try rewrite(#require(files(cache, "latents").first)) { name, tensor in
        name == "latents" ? try tensor.slice(2, from: 0, to: 0) : tensor
      }
    }
    #expect(result.status == 2)
    #expect(result.errors.contains("which is empty"), "\(result.errors)")
  }

  /// Samples without all parts are counted and skipped.
  @Test func mismatchedPairs() throws {
    let result = try train("pairs") { cache in
      try FileManager.default.removeItem(atPath: #require(files(cache, "conditions").first))
    }
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output.contains("3 samples"))
    #expect(result.output.contains("1 without a match skipped"))
  }

  @Test func masksOfAnotherSize() throws {
    let result = try train(
      "masks",
      [
        "training_strategy={name: flexible, video: {is_generated: true, latents_dir: latents, conditions: [{type: mask, mask_dir: video_masks}]}}"
      ]
    ) { cache in
      for path in try files(cache, "latents") {
        let mask = path.replacingOccurrences(of: "/latents/", with: "/video_masks/")
        try FileManager.default.createDirectory(
          atPath: (mask as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try writeSafetensors([(key: "mask", tensor: .ones([1, 2, 2]))], to: mask)
      }
    }
    #expect(result.status == 2)
    #expect(
      result.errors.contains("holds a mask of shape [1, 2, 2] for video latents"),
      "\(result.errors)")
  }

  @Test func noSamples() throws {
    let result = try train("none") { cache in
      for path in try files(cache, "latents") { try FileManager.default.removeItem(atPath: path) }
    }
    #expect(result.status == 2)
    #expect(
      result.errors.contains("there are no .safetensors or .pt files in latents/"),
      "\(result.errors)")
  }

  @Test func latentsOfOtherChannels() throws {
    let result = try train("channels") { cache in
      for path in try files(cache, "latents") {
        try rewrite(path) { name, tensor in
          name == "latents" ? try tensor.slice(0, from: 1) : tensor
        }
      }
    }
    #expect(result.status == 2)
    #expect(result.errors.contains("channels, but the model"), "\(result.errors)")
  }

  @Test func batchLargerThanTheSet() throws {
    let result = try train("batch", ["optimization.batch_size=5"])
    #expect(result.status == 2)
    #expect(
      result.errors.contains(
        "--set optimization.batch_size=5: optimization.batch_size is 5, but there are 4 samples"),
      "\(result.errors)")
  }

  /// An upload that can't succeed is reported before the first step.
  @Test func noTokenForTheHub() throws {
    let result = try train(
      "token", ["hub.push_to_hub=true", "hub.hub_model_id=somebody/something"],
      environment: ["HF_TOKEN": "", "HUGGING_FACE_HUB_TOKEN": "", "HF_HOME": prepared.path])
    #expect(result.status == 2)
    #expect(result.errors.contains("HF_TOKEN"), "\(result.errors)")
    #expect(!FileManager.default.fileExists(atPath: "\(prepared.path)/token/metrics.jsonl"))
  }

  @Test func noKeyForWeightsAndBiases() throws {
    let result = try train(
      "key", ["wandb.enabled=true", "wandb.mode=online"],
      environment: [
        "WANDB_API_KEY": "", "HOME": prepared.path, "NETRC": "\(prepared.path)/no-netrc",
      ])
    #expect(result.status == 2)
    #expect(result.errors.contains("WANDB_API_KEY"), "\(result.errors)")
    let metrics = "\(prepared.path)/key/metrics.jsonl"
    #expect(FileManager.default.contents(atPath: metrics)?.isEmpty ?? true)
  }

  /// A dry run shows the plan, checks the samples, and writes nothing.
  @Test func dryRuns() throws {
    let config = try prepared.configure("dry", steps: 3)
    func dry(_ dims: String) throws -> Program.Result {
      let options = [
        "model.text_encoder_path=\(prepared.textEncoder)", "validation.samples=[{prompt: a boat}]",
        "validation.video_dims=\(dims)", "validation.stg_blocks=null",
      ]
      return try Program.run(
        ["train", config, "--dry-run"] + options.flatMap { ["--set", $0] },
        in: prepared.path + "/.precomputed")
    }
    let result = try dry("[64, 64, 9]")
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output.contains("diffusion_model.transformer_blocks.0.attn1.to_q.lora_A.weight"))
    #expect(result.output.contains("memory: total"))
    #expect(!FileManager.default.fileExists(atPath: "\(prepared.path)/dry"))
    let wrong = try dry("[60, 64, 9]")
    #expect(wrong.status == 2)
    #expect(wrong.errors.contains("validation.video_dims"), "\(wrong.errors)")
  }

  /// Frozen weights in fewer bits take less memory, by the plan that a dry run prints.
  @Test func dryRunsCountQuantizedWeights() throws {
    let config = try prepared.configure("dry-quantized", steps: 3)
    let workshop = try Workshop()
    func frozen(_ kind: String) throws -> Double {
      let result = try Program.run(
        ["train", config, "--dry-run", "--set", "acceleration.quantization=\(kind)"],
        in: workshop.path)
      try #require(result.status == 0, "\(result.errors)")
      let line = try #require(
        result.output.split(separator: "\n").first { $0.contains("memory: frozen weights") })
      let numbers = line.split(whereSeparator: { !"0123456789.".contains($0) })
      return try #require(numbers.compactMap { Double($0) }.first, "\(line)")
    }
    let sizes = try ["null", "int8-quanto", "nf4", "int4-quanto", "int2-quanto"].map(frozen)
    for (larger, smaller) in zip(sizes, sizes.dropFirst()) { #expect(smaller < larger, "\(sizes)") }
  }

  /// On a full disk, earlier checkpoints stay, and the run stops or continues as configured.
  @Test(
    .enabled(if: SmallDisk.isPossible, "mounting is not allowed here"),
    arguments: ["stop", "continue"])
  func fullDisk(action: String) throws {
    let disk = try SmallDisk(kilobytes: 3000)
    let result = try train(
      "disk-\(action)", steps: 12,
      [
        "output_dir=\(disk.path)/run", "checkpoints.interval=2", "checkpoints.keep_last_n=-1",
        "checkpoints.on_save_error=\(action)", "checkpoints.save_training_state=off",
        "tensorboard.enabled=false", "report.enabled=false",
      ])
    #expect(result.status == 1, "\(result.errors)")
    #expect(result.errors.contains("earlier checkpoints are kept"), "\(result.errors)")
    #expect(result.errors.contains("(No space left on device)"), "\(result.errors)")
    #expect(!result.errors.contains("Error Domain"), "\(result.errors)")
    let folder = "\(disk.path)/run/checkpoints"
    let saved = try FileManager.default.contentsOfDirectory(atPath: folder)
    #expect(!saved.isEmpty)
    for file in saved {
      #expect(file.hasSuffix(".safetensors"), "half-written: \(file)")
      #expect(throws: Never.self) { try SafetensorsFile(path: "\(folder)/\(file)") }
    }
    let steps = try RecordedMetrics(path: "\(disk.path)/run/metrics.jsonl").steps.count
    #expect(action == "stop" ? steps < 12 : steps == 12)
  }

  /// Paths that the system rejects in various ways, with all outputs of a run besides checkpoints.
  @Test(arguments: [
    ("file", "is a file"), ("long", "File name too long"), ("proc", "can't be"),
    ("limit", "(File too large)"),
    ("page", "can't be written"),
  ])
  func refusedPlaces(kind: String, text: String) throws {
    let place = try Workshop()
    try place.write("file", "")
    let output =
      switch kind {
      case "file": "\(place.path)/file"
      case "long": "\(place.path)/" + String(repeating: "x", count: 300)
      case "proc": "/proc/run"
      default: "\(place.path)/run"
      }
    if kind == "page" {
      try FileManager.default.createDirectory(
        atPath: "\(output)/report.html/x", withIntermediateDirectories: true)
    }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = [
      "-c", (kind == "limit" ? "ulimit -f 40; " : "") + "exec \"$@\"", "bash", Program.path,
      "train",
      try prepared.configure("refused-\(kind)", steps: 3), "--threads", "1", "--set",
      "output_dir=\(output)",
    ]
    let pipe = Pipe()
    (process.standardError, process.standardOutput) = (pipe, FileHandle.nullDevice)
    try process.run()
    let errors = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit)
    // A report that can't be written does not end the run.
    #expect(
      process.terminationStatus == (kind == "page" ? 0 : kind == "limit" ? 1 : 2), "\(errors)")
    #expect(errors.contains(text), "\(errors)")
    for trace in ["Error Domain", "NSCocoa", "UserInfo"] {
      #expect(!errors.contains(trace), "\(errors)")
    }
  }
}
