import Foundation
import Media
import TensorFiles
import Testing
import Torch

/// The commands on a pretend GPU: the CUDA code paths, with the results of the CPU.
@Suite(.serialized) struct PretendGPUTests {
  private struct Step: Decodable, Equatable {
    let loss: Double
    let gradientNorm: Double
  }

  private func steps(_ name: String) throws -> [Step] {
    let prepared = try PreparedTraining.shared.get()
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try String(contentsOfFile: "\(prepared.path)/\(name)/metrics.jsonl", encoding: .utf8)
      .split(separator: "\n").map { try decoder.decode(Step.self, from: Data($0.utf8)) }
  }

  /// Trains two steps on the CPU and on the pretend GPU.
  private func compare(
    _ name: String, _ settings: [String], tolerance: Double, steps count: Int = 2
  ) throws -> PretendGPU.Report {
    let prepared = try PreparedTraining.shared.get()
    let options = settings.flatMap { ["--set", $0] }
    let cpu = try prepared.configure("\(name)-cpu", steps: count)
    let expected = try Program.run(["train", cpu] + options, in: prepared.path)
    try #require(expected.status == 0, "\(expected.errors)")
    let gpu = try prepared.configure("\(name)-gpu", steps: count)
    let (result, report) = try PretendGPU.run(
      ["train", gpu, "--device", "cuda"] + options, in: prepared.path)
    try #require(result.status == 0, "\(result.errors)")
    let (a, b) = (try steps("\(name)-cpu"), try steps("\(name)-gpu"))
    #expect(a.count == count && b.count == count)
    for (x, y) in zip(a, b) {
      #expect(abs(x.loss - y.loss) <= tolerance * abs(x.loss), "\(name): \(x) and \(y)")
      #expect(
        abs(x.gradientNorm - y.gradientNorm) <= 20 * tolerance * x.gradientNorm,
        "\(name): \(x) and \(y)")
    }
    #expect(report.kernels > 1000, "nothing ran on the device")
    #expect(report.devices.allSatisfy { $0.liveBytes == 0 }, "memory is left on the device")
    return report
  }

  @Test(arguments: [
    ("float32", [], 1e-5),
    ("recompute", ["optimization.enable_gradient_checkpointing=true"], 1e-5),
    ("dora", ["lora.type=dora"], 1e-5),
    ("lokr", ["lora.type=lokr"], 1e-5),
    ("loha", ["lora.type=loha"], 1e-5),
    ("bf16", ["acceleration.mixed_precision_mode=bf16"], 2e-2),
    ("fp16", ["acceleration.mixed_precision_mode=fp16"], 2e-2),
    ("int8", ["acceleration.quantization=int8-quanto"], 1e-5),
    ("fp8", ["acceleration.quantization=fp8-quanto"], 1e-5),
    ("int4", ["acceleration.quantization=int4-quanto"], 1e-5),
    ("int2", ["acceleration.quantization=int2-quanto"], 1e-5),
    ("nf4", ["acceleration.quantization=nf4"], 1e-5),
    (
      "nf4-bf16",
      [
        "acceleration.quantization=nf4", "acceleration.mixed_precision_mode=bf16",
        "optimization.enable_gradient_checkpointing=true",
      ], 2e-2
    ),
    ("adamw8bit", ["optimization.optimizer_type=adamw8bit"], 1e-5),
    ("prodigy", ["optimization.optimizer_type=prodigy"], 1e-5),
    ("adafactor", ["optimization.optimizer_type=adafactor"], 1e-5),
    ("lion", ["optimization.optimizer_type=lion"], 1e-5),
    ("muon", ["optimization.optimizer_type=muon"], 1e-5),
    ("caption-dropout", ["data.caption_dropout=0.5"], 1e-5),
    ("alpha", ["lora.alpha=5", "acceleration.mixed_precision_mode=bf16"], 2e-2),
    (
      "int8-bf16",
      ["acceleration.quantization=int8-quanto", "acceleration.mixed_precision_mode=bf16"], 2e-2
    ),
  ])
  func trainingEqualsTheCPUs(_ name: String, _ settings: [String], _ tolerance: Double) throws {
    _ = try compare(name, settings, tolerance: tolerance)
  }

  /// The places of weights and activations change memory, never a number.
  @Test(arguments: [("no", "null"), ("bf16", "null"), ("bf16", "int8-quanto")])
  func placementsChangeNoNumber(_ precision: String, _ quantization: String) throws {
    let prepared = try PreparedTraining.shared.get()
    func train(_ name: String, _ settings: [String]) throws -> [Step] {
      let config = try prepared.configure(name, steps: 2)
      let options =
        [
          "acceleration.mixed_precision_mode=\"\(precision)\"",
          "acceleration.quantization=\(quantization)",
        ] + settings
      let (result, report) = try PretendGPU.run(
        ["train", config, "--device", "cuda", "--overwrite"] + options.flatMap { ["--set", $0] },
        in: prepared.path)
      try #require(result.status == 0, "\(result.errors)")
      #expect(report.devices.allSatisfy { $0.liveBytes == 0 }, "memory is left on the device")
      return try steps(name)
    }
    let usual = try train(
      "resident", ["acceleration.activations=keep", "acceleration.weight_placement=resident"])
    #expect(usual.count == 2)
    let (file, host) = ("acceleration.weight_placement=file", "acceleration.weight_placement=host")
    for settings in [
      ["acceleration.activations=recompute", file], ["acceleration.activations=recompute", host],
      ["acceleration.activations=recompute", file, "acceleration.streamed_blocks=1"],
      ["acceleration.activations=offload", "acceleration.weight_placement=resident"],
      ["acceleration.activations=offload", file],
      ["acceleration.activations=keep_attention", file],
    ] {
      #expect(try train("placed", settings) == usual, "\(settings)")
    }
  }

  /// On the CPU, streamed weights are pages of the file.
  @Test func theCPUReadsStreamedWeightsFromTheFile() throws {
    let prepared = try PreparedTraining.shared.get()
    func train(_ placement: String) throws -> [Step] {
      let name = "pages-\(placement)"
      let settings = [
        "acceleration.mixed_precision_mode=bf16", "acceleration.weight_placement=\(placement)",
        "optimization.enable_gradient_checkpointing=true",
      ].flatMap { ["--set", $0] }
      let config = try prepared.configure(name, steps: 2)
      let result = try Program.run(["train", config] + settings, in: prepared.path)
      try #require(result.status == 0, "\(result.errors)")
      return try steps(name)
    }
    let resident = try train("resident")
    #expect(resident.count == 2)
    #expect(try train("file") == resident)
  }

  @Test func fullFineTuningEqualsTheCPUs() throws {
    _ = try compare(
      "full", ["model.training_mode=full", "optimization.learning_rate=1e-4"], tolerance: 1e-5)
  }

  @Test func anInterruptedRunResumesBitForBit() throws {
    let prepared = try PreparedTraining.shared.get()
    func train(_ config: String) throws {
      let (result, _) = try PretendGPU.run(
        ["train", config, "--device", "cuda"], in: prepared.path)
      try #require(result.status == 0, "\(result.errors)")
    }
    try train(try prepared.configure("whole-gpu", steps: 4))
    try train(try prepared.configure("resumed-gpu", steps: 2))
    try train(try prepared.configure("resumed-gpu", steps: 4))
    let name = "checkpoints/lora_weights_step_00004.safetensors"
    let whole = try SafetensorsFile(path: "\(prepared.path)/whole-gpu/\(name)")
    let resumed = try SafetensorsFile(path: "\(prepared.path)/resumed-gpu/\(name)")
    #expect(whole.entries.keys == resumed.entries.keys)
    for key in whole.entries.keys {
      #expect(try Tensor.isEqual(whole.tensor(key), resumed.tensor(key)), "\(key)")
    }
  }

  /// Also while the optimizer's state is in host memory, or weights are in the file.
  @Test(arguments: [("adamw", "resident"), ("adamw8bit", "resident"), ("adamw", "file")])
  func validationSamplesAreGenerated(_ optimizer: String, placement: String) throws {
    let prepared = try PreparedTraining.shared.get()
    let name = "samples-\(optimizer)-\(placement)-gpu"
    let config = try prepared.configure(
      name, steps: 1,
      """
      validation:
        prompts: ["a clip"]
        interval: 1
        video_dims: [64, 64, 9]
        inference_steps: 2
        skip_initial_validation: false
      """)
    let (result, _) = try PretendGPU.run(
      [
        "train", config, "--device", "cuda", "--set",
        "model.text_encoder_path=\(prepared.textEncoder)", "--set",
        "optimization.optimizer_type=\(optimizer)", "--set",
        "acceleration.offload_optimizer_during_validation=true", "--set",
        "acceleration.weight_placement=\(placement)", "--set",
        "optimization.enable_gradient_checkpointing=true",
      ], in: prepared.path)
    #expect(result.status == 0, "\(result.errors)")
    #expect(!result.errors.contains("failed"), "\(result.errors)")
    let files = try FileManager.default.contentsOfDirectory(
      atPath: "\(prepared.path)/\(name)/samples")
    #expect(files.count { $0.hasSuffix(".mp4") } == 2)
  }

  @Test func cachedFilesEqualTheCPUs() throws {
    let prepared = try PreparedTraining.shared.get()
    let (result, report) = try PretendGPU.run(
      [
        "preprocess", "dataset.json", "--output-dir", "gpu-cache", "--resolution-buckets",
        "64x64x9", "--model-path", prepared.model, "--text-encoder-path", prepared.textEncoder,
        "--lora-trigger", "TINY", "--device", "cuda",
      ], in: prepared.path)
    try #require(result.status == 0, "\(result.errors)")
    #expect(report.kernels > 1000)
    var count = 0
    let cpu = "\(prepared.path)/.precomputed"
    for case let file as String in FileManager.default.enumerator(atPath: cpu) ?? .init()
    where file.hasSuffix(".safetensors") {
      let expected = try SafetensorsFile(path: "\(cpu)/\(file)")
      let found = try SafetensorsFile(path: "\(prepared.path)/gpu-cache/\(file)")
      for (key, entry) in expected.entries {
        let (x, y) = (try expected.tensor(key), try found.tensor(key))
        guard entry.dtype.isFloatingPoint, entry.shape.reduce(1, *) > 0 else {
          #expect(try Tensor.isEqual(x, y), "\(file): \(key)")
          continue
        }
        // The models compute in bfloat16, and their convolutions sum in another order, which
        // depends on the processor. Four roundings are 1.6e-2; 1.1e-2 is the most that was seen.
        let difference: Double = try (x.to(.float64) - y.to(.float64)).square().sum().item()
        let whole: Double = try x.to(.float64).square().sum().item()
        #expect(difference.squareRoot() <= 4 * 0x1p-8 * whole.squareRoot(), "\(file): \(key)")
      }
      count += 1
    }
    // Four clips with captions, and two with audio.
    #expect(count == 10)
  }

  @Test func memoryThatDoesNotSufficeIsAnErrorOfOneSentence() throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("small-gpu", steps: 1)
    // Without the setting, the run would be refused before anything is loaded.
    let (result, report) = try PretendGPU.run(
      ["train", config, "--device", "cuda", "--set", "acceleration.memory=1GB"],
      in: prepared.path, bytes: 4 << 20)
    #expect(result.status != 0)
    #expect(result.errors.contains("out of memory"), "\(result.errors)")
    #expect(report.devices[0].peakBytes <= 4 << 20)
    #expect(report.devices[0].liveBytes == 0)
  }

  @Test(arguments: [
    [], ["--image", "image.png"], ["--negative-prompt", "noise", "--cfg-scale", "3"],
    ["--stg-scale", "1"], ["--text-encoder-8bit"],
    ["--weight-placement", "file"], ["--weight-placement", "host", "--text-encoder-8bit"],
    ["--sampler", "res_2s"], ["--quantization", "int4-quanto"], ["--quantization", "nf4"],
    ["--quantization", "nf4", "--weight-placement", "host"],
  ])
  func generationRuns(_ more: [String]) throws {
    let prepared = try PreparedTraining.shared.get()
    let gray = RGBFrame(bytes: [UInt8](repeating: 120, count: 3 * 64 * 64), width: 64, height: 64)
    try gray.writePNG(to: "\(prepared.path)/image.png")
    let (result, report) = try PretendGPU.run(
      [
        "generate", "--model-path", prepared.model, "--text-encoder-path", prepared.textEncoder,
        "--prompt", "a clip", "--width", "64", "--height", "64", "--num-frames", "9", "--steps",
        "2", "--output", "generated.mp4", "--device", "cuda",
      ] + more, in: prepared.path)
    #expect(result.status == 0, "\(result.errors)")
    #expect(report.kernels > 1000)
    #expect(report.devices.allSatisfy { $0.liveBytes == 0 })
  }
}
