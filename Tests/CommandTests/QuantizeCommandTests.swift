import Foundation
import LTX
import LoRAFiles
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

/// `ltx quantize`, and the files that it writes as our reader opens them.
@Suite struct QuantizeCommandTests {
  private static func isMatrix(_ key: String, _ entry: TensorEntry) -> Bool {
    key.contains(".transformer_blocks.") && key.hasSuffix(".weight") && entry.shape.count == 2
      && !key.contains("to_gate_logits")
  }

  @Test(arguments: ["fp8", "int8"])
  func matricesOfBlocksAreQuantizedAndNothingElse(_ form: String) throws {
    let prepared = try PreparedTraining.shared.get()
    let workshop = try Workshop()
    let output = "\(workshop.path)/quantized.safetensors"
    let result = try Program.run(
      ["quantize", prepared.model, "--to", form, "--output", output], in: workshop.path)
    try #require(result.status == 0, "\(result.errors)")
    #expect(result.output == output + "\n")
    let before = try SafetensorsFile(path: prepared.model)
    let after = try SafetensorsFile(path: output)
    #expect(after.metadata == before.metadata)
    let weights = Weights(after, LoadPolicy(dtype: .float32))
    var count = 0
    for (key, entry) in before.entries {
      guard Self.isMatrix(key, entry) else {
        let found = try after.tensor(key)
        #expect(found.dtype == entry.dtype)
        #expect(try Tensor.isEqual(found, before.tensor(key)), "\(key)")
        continue
      }
      count += 1
      let elements = try after.tensor(key)
      let scale = try after.tensor("\(key)_scale")
      #expect(elements.dtype == (form == "fp8" ? .float8E4M3 : .int8))
      #expect(scale.shape == (form == "fp8" ? [] : [entry.shape[0], 1]) && scale.dtype == .float32)
      let layer = String(key.dropLast(".weight".count))
      let json = try after.tensor("\(layer).comfy_quant").withUnsafeBytes {
        String(decoding: $0, as: UTF8.self)
      }
      #expect(json.contains(form == "fp8" ? "float8_e4m3fn" : "int8_tensorwise"))
      // Equal to the definition, computed here, and to what a layer multiplies by.
      let wide = try before.tensor(key).to(.float32)
      let largest =
        try form == "fp8" ? wide.abs().amax() : wide.abs().amax([1], keepdim: true)
      let wanted = try largest / (form == "fp8" ? 448 : 127)
      #expect(try Tensor.isEqual(scale, wanted))
      let quotients = try wide / wanted
      let rounded =
        try form == "fp8" ? quotients.to(.float8E4M3).to(.float32) : quotients.round()
      #expect(try Tensor.isEqual(elements.to(.float32), rounded), "\(key)")
      let read = try Linear(at: layer, weights).weight
      #expect(try Tensor.isEqual(read, rounded * scale), "\(key)")
    }
    #expect(count > 60 && result.errors.contains("\(count) matrices quantized"))
    #expect(after.entries.count == before.entries.count + 2 * count)

    // The file is smaller, complete, and generates.
    let shown = try Program.run(["inspect", output], in: workshop.path)
    #expect(shown.status == 0 && shown.output.contains("\(count) "), "\(shown.errors)")
    let generated = try Program.run(
      [
        "generate", "--model-path", output, "--text-encoder-path", prepared.textEncoder,
        "--prompt", "a clip", "--width", "64", "--height", "64", "--num-frames", "9", "--steps",
        "1", "--no-audio", "--output", "clip.mp4",
      ], in: workshop.path)
    #expect(generated.status == 0, "\(generated.errors)")

    // Again, nothing is left to quantize; into the other format, everything is converted.
    let again = try Program.run(
      ["quantize", output, "--to", form, "--output", "again.safetensors"], in: workshop.path)
    #expect(again.status == 2 && again.errors.contains("has no matrices to quantize"))
    let other = try Program.run(
      [
        "quantize", output, "--to", form == "fp8" ? "int8" : "fp8", "--output",
        "other.safetensors",
      ], in: workshop.path)
    #expect(other.status == 0 && other.errors.contains("\(count) matrices"), "\(other.errors)")
    let converted = try Checkpoint(path: "\(workshop.path)/other.safetensors")
    #expect(CheckpointInspection(converted).problems.isEmpty)
  }

  @Test func badInputIsRefusedInOneSentence() throws {
    let workshop = try Workshop()
    let model = Fixtures.model("ltx2_transformer")
    for (arguments, message) in [
      (["missing.safetensors", "--to", "fp8", "--output", "a.safetensors"], "missing.safetensors"),
      ([Fixtures.model("lora_all"), "--to", "fp8", "--output", "a.safetensors"], "is a LoRA"),
      ([model, "--to", "int3", "--output", "a.safetensors"], "int3"),
      ([model, "--to", "fp8", "--output", "nowhere/a.safetensors"], "does not exist"),
      ([model, "--to", "fp8", "--output", model], "is the input"),
    ] {
      let result = try Program.run(["quantize"] + arguments, in: workshop.path)
      #expect(result.status == 2, "\(arguments): \(result.errors)")
      #expect(result.errors.contains(message), "\(arguments): \(result.errors)")
      #expect(!FileManager.default.fileExists(atPath: "\(workshop.path)/a.safetensors"))
    }
  }

  /// Every kind is loaded, generates, and differs from the others; LoRAs are added before.
  @Test func generationQuantizesTheTransformer() throws {
    let prepared = try PreparedTraining.shared.get()
    let workshop = try Workshop()
    var results: Set<Data> = []
    func generate(_ more: [String]) throws -> Program.Result {
      try Program.run(
        [
          "generate", "--model-path", prepared.model, "--text-encoder-path", prepared.textEncoder,
          "--prompt", "a clip", "--width", "64", "--height", "64", "--num-frames", "1", "--steps",
          "1", "--no-audio", "--output", "quantized.png",
        ] + more, in: workshop.path)
    }
    let kinds: [String?] = [nil, "int8-quanto", "fp8-quanto", "int4-quanto", "int2-quanto", "nf4"]
    for kind in kinds {
      let result = try generate(kind.map { ["--quantization", $0] } ?? [])
      try #require(result.status == 0, "\(result.errors)")
      results.insert(try Data(contentsOf: URL(filePath: "\(workshop.path)/quantized.png")))
    }
    #expect(results.count == kinds.count)
    let refused = try generate(["--quantization", "fp8uz-quanto"])
    #expect(refused.status == 2)
    #expect(
      refused.errors.contains("--quantization: fp8uz-quanto is not supported. Use fp8-quanto"),
      "\(refused.errors)")
    let unknown = try generate(["--quantization", "int3"])
    #expect(unknown.status == 2 && unknown.errors.contains("nf4"), "\(unknown.errors)")
    #expect(!unknown.errors.contains("fp8uz"))
  }
}

extension Linear {
  /// A layer at a path with dots.
  fileprivate init(at path: String, _ root: Weights) throws {
    let scope = path.split(separator: ".").reduce(root) { $0 / String($1) }
    try self.init(scope, bias: false)
  }
}
