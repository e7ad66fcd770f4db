import Foundation
import Testing

/// GPUs that can't be used end every command with one sentence, before anything is loaded.
@Suite struct UnusableGPUTests {
  /// The commands that compute on a device, with arguments that are otherwise correct.
  private static let commands = ["train", "generate", "preprocess", "decode", "probe", "preview"]

  private static func arguments(_ command: String, _ device: String) throws -> [String] {
    let prepared = try PreparedTraining.shared.get()
    let models = ["--model-path", prepared.model, "--text-encoder-path", prepared.textEncoder]
    let arguments =
      switch command {
      case "train":
        [
          "train", try prepared.configure("unusable-gpu", steps: 1), "--set",
          "acceleration.mixed_precision_mode=bf16",
        ]
      case "generate":
        ["generate", "--prompt", "a clip", "--output", "unusable.mp4"] + models
      case "preprocess":
        [
          "preprocess", "\(prepared.path)/dataset.json", "--output-dir", "unusable-cache",
          "--resolution-buckets",
          "64x64x9",
        ] + models
      case "decode":
        [
          "decode", "\(prepared.path)/.precomputed/latents", "unusable-decoded", "--model-path",
          prepared.model,
        ]
      case "probe":
        [
          "probe", "video-vae-encode", "--model", prepared.model, "--output",
          "unusable.safetensors", "--dtype", "bfloat16",
        ]
      default:
        [
          "dataset", "preview", "\(prepared.path)/.precomputed", "--output", "unusable.html",
          "--decode",
          "--model-path", prepared.model,
        ]
      }
    return arguments + ["--device", device]
  }

  /// Runs a command that must fail with a sentence, and load nothing.
  private func expectRefusal(
    _ command: String, on device: String = "cuda", _ environment: [String: String],
    _ texts: [String]
  ) throws {
    let prepared = try PreparedTraining.shared.get()
    let workshop = try Workshop()
    let (result, report) = try PretendGPU.run(
      try Self.arguments(command, device), in: workshop.path, environment: environment)
    #expect(result.status == 2, "\(command): \(result.errors)")
    #expect(result.output.isEmpty)
    for text in texts {
      #expect(result.errors.contains(text), "\(command): \(result.errors)")
    }
    let lines = result.errors.split(separator: "\n").filter { !$0.hasPrefix("note: ") }
    #expect(lines.count == 1, "\(command): \(result.errors)")
    #expect(report.kernels == 0 && report.uploads == 0, "\(command) has loaded something")
    #expect(!FileManager.default.fileExists(atPath: "\(prepared.path)/unusable-gpu/checkpoints"))
  }

  @Test(arguments: commands) func anOldDriverIsRefused(_ command: String) throws {
    try expectRefusal(
      command, ["PRETEND_GPU_DRIVER": "12040"],
      [
        "is too old: it supports CUDA 12.4, and libtorch needs CUDA 13.0. Install driver 580 or later",
        "or set --device to cpu",
      ])
  }

  @Test(arguments: commands) func aMissingDeviceIsRefused(_ command: String) throws {
    try expectRefusal(
      command, on: "cuda:2", ["PRETEND_GPU_COUNT": "2"],
      ["cuda:2 does not exist (found 2 CUDA GPUs). Use cuda:0 to cuda:1"])
  }

  @Test(arguments: commands) func aGPUWithoutKernelsIsRefused(_ command: String) throws {
    try expectRefusal(
      command, ["PRETEND_GPU_CAPABILITY": "6.1"],
      [
        "cuda:0 (Pretend GPU) has compute capability 6.1, for which this libtorch has no kernels",
        "Use another GPU, or set --device to cpu",
      ])
  }

  @Test(arguments: commands) func aGPUWithoutBFloat16IsRefused(_ command: String) throws {
    let remedy =
      switch command {
      case "train": "acceleration.mixed_precision_mode is bf16, but "
      case "preview": "Use another GPU, or set --device to cpu"
      default: "Use another GPU, use --dtype float32, or set --device to cpu"
      }
    try expectRefusal(
      command, ["PRETEND_GPU_CAPABILITY": "7.5"],
      [
        "cuda:0 (Pretend GPU) has no bfloat16 units (compute capability 7.5, expected 8.0 or later)",
        remedy,
      ])
  }

  /// fp8 and int8 weights are only stored in 8 bits, which every GPU can.
  @Test(arguments: [("fp16", "fp8-quanto"), ("no", "int8-quanto"), ("fp16", "null")])
  func anOldGPUTrainsWithoutBFloat16(_ mode: String, _ quantization: String) throws {
    let prepared = try PreparedTraining.shared.get()
    let config = try prepared.configure("old-gpu-\(mode)-\(quantization)", steps: 1)
    let workshop = try Workshop()
    let (result, report) = try PretendGPU.run(
      [
        "train", config, "--device", "cuda", "--set", "acceleration.mixed_precision_mode=\(mode)",
        "--set", "acceleration.quantization=\(quantization)",
      ], in: workshop.path, environment: ["PRETEND_GPU_CAPABILITY": "7.5"])
    #expect(result.status == 0, "\(result.errors)")
    #expect(report.kernels > 1000)
  }

  /// Machine code for 10.0 runs on 10.x, and PTX for 12.0 on everything newer.
  @Test(
    arguments: [
      ("7.0", nil, false), ("7.5", nil, true), ("8.9", nil, true), ("10.3", nil, true),
      ("11.0", nil, false), ("12.1", nil, true), ("13.0", nil, false),
      (
        "13.0", "-gencode;arch=compute_90,code=sm_90;-gencode;arch=compute_120,code=compute_120",
        true
      ),
      (
        "10.0", "-gencode;arch=compute_90,code=sm_90;-gencode;arch=compute_120,code=compute_120",
        false
      ),
      ("6.1", "of an unknown build", true),
    ] as [(String, String?, Bool)])
  func kernelsDependOnTheArchitectures(
    _ capability: String, _ flags: String?, hasKernels: Bool
  ) throws {
    let workshop = try Workshop()
    var environment = ["PRETEND_GPU_CAPABILITY": capability]
    environment["PRETEND_GPU_FLAGS"] = flags
    let (result, _) = try PretendGPU.run(
      ["doctor", "--device", "cuda"], in: workshop.path, environment: environment)
    #expect(result.status == (hasKernels ? 0 : 1), "\(result.output)")
    #expect(result.output.contains("has no kernels (found ") == !hasKernels)
  }
}
