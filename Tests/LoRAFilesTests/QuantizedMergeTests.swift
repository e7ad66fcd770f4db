import Foundation
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles
@testable import NN

/// LoRAs merged into checkpoints with quantized matrices, and fp8 checkpoints made from others.
@Suite struct QuantizedMergeTests {
  private let scratch: Scratch
  private let files: TinyModel.Files
  private let plain: SafetensorsFile

  init() throws {
    scratch = try Scratch()
    files = try TinyModel.write(to: scratch.folder)
    plain = try SafetensorsFile(path: files.checkpoint)
  }

  private static let scope = "model.diffusion_model.transformer_blocks."

  private func isQuantized(_ key: String) -> Bool { key.hasPrefix(Self.scope) }

  enum Convention: String, CaseIterable, Sendable {
    case convRot, int8, scaledFP8, olderFP8, rowsOfFP8, metadata
  }

  private func write(_ convention: Convention) throws -> String {
    let path = "\(scratch.folder)/\(convention.rawValue).safetensors"
    if convention == .convRot {
      try QuantizedFile.writeConvRot(plain, to: path, where: isQuantized)
      return path
    }
    var tensors: [(key: String, tensor: Tensor)] = []
    var layers: [String] = []
    for key in plain.keys {
      let tensor = try plain.tensor(key)
      guard isQuantized(key), tensor.rank == 2, key.hasSuffix(".weight") else {
        tensors.append((key, tensor))
        continue
      }
      let layer = key.dropLast(".weight".count)
      let wide = try tensor.to(.float32)
      switch convention {
      case .int8, .metadata:
        let (elements, scale) = try QuantizedFile.int8(wide)
        tensors += [(key, elements), ("\(key)_scale", scale)]
        let json = "{\"format\": \"int8_tensorwise\"}"
        if convention == .int8 {
          tensors.append(("\(layer).comfy_quant", try QuantizedFile.bytes(json)))
        } else {
          layers.append("\"\(layer)\": \(json)")
        }
      case .scaledFP8, .olderFP8, .rowsOfFP8:
        let largest =
          try convention == .rowsOfFP8 ? wide.abs().amax([1], keepdim: true) : wide.abs().amax()
        let scale = try (largest / 448).to(convention == .rowsOfFP8 ? .bfloat16 : .float32)
        let elements = try (wide / scale.to(.float32)).clamped(min: -448, max: 448).to(.float8E4M3)
        tensors += [
          (key, elements),
          (convention == .olderFP8 ? "\(layer).scale_weight" : "\(key)_scale", scale),
          (
            convention == .olderFP8 ? "\(layer).scale_input" : "\(layer).input_scale",
            try Tensor.ones([])
          ),
        ]
      case .convRot: break
      }
    }
    if convention == .olderFP8 {
      tensors.append(("model.diffusion_model.scaled_fp8", try Tensor.zeros([2]).to(.float8E4M3)))
    }
    var metadata = plain.metadata
    if convention == .metadata {
      metadata["_quantization_metadata"] = "{\"layers\": {\(layers.joined(separator: ", "))}}"
    }
    try writeSafetensors(tensors, metadata: metadata, to: path)
    return path
  }

  /// A LoRA for one matrix of each block, and for one that isn't quantized.
  private func lora() throws -> LoRAFile {
    let random = try Generator(seed: 3)
    var tensors: [(key: String, tensor: Tensor)] = []
    for path in (0..<4).map({ "transformer_blocks.\($0).attn1.to_q" }) + ["patchify_proj"] {
      let shape = try #require(plain.entries["model.diffusion_model.\(path).weight"]).shape
      tensors += [
        ("diffusion_model.\(path).lora_A.weight", try random.normal([4, shape[1]])),
        ("diffusion_model.\(path).lora_B.weight", try random.normal([shape[0], 4]) * 0.05),
      ]
    }
    let path = "\(scratch.folder)/lora.safetensors"
    try writeSafetensors(tensors, to: path)
    return try LoRAFile(path: path)
  }

  private func error(_ a: Tensor, _ b: Tensor) throws -> Double {
    try (a - b).square().sum().item().squareRoot() / b.square().sum().item().squareRoot()
  }

  private func weight(_ path: String, _ layer: String) throws -> Tensor {
    let name = layer.split(separator: ".").last.map(String.init) ?? layer
    let scope = String(layer.dropLast(name.count + 1))
    return try
      (Checkpoint(path: path).weights(LoadPolicy(dtype: .float32, storage: .dequantized)) / scope
      / name)
      .tensor(
        "weight")
  }

  @Test(arguments: Convention.allCases)
  func aQuantizedMatrixIsQuantizedAgainInItsOwnFormat(_ convention: Convention) throws {
    let into = try write(convention)
    let output = "\(scratch.folder)/merged.safetensors"
    let lora = try lora()
    let fusion = try CheckpointFusion(Checkpoint(path: into), loras: [(lora, 0.8)])
    #expect(fusion.adaptedCount == 5 && fusion.quantizedCount == 4)
    try fusion.write(to: output)
    let (before, after) = (try SafetensorsFile(path: into), try SafetensorsFile(path: output))
    #expect(after.entries.mapValues(\.shape) == before.entries.mapValues(\.shape))
    #expect(after.entries.mapValues(\.dtype) == before.entries.mapValues(\.dtype))
    #expect(after.metadata == before.metadata)
    let changed = "\(Self.scope)1.attn1.to_q"
    let left = "\(Self.scope)1.attn1.to_k"
    // The layer's weight with the separate LoRA applied.
    let module = try #require(lora.modules.first { $0.path.hasSuffix("blocks.1.attn1.to_q") })
    let wanted = try weight(into, changed) + module.up.matmul(module.down) * 0.8
    let tolerance =
      convention == .convRot || convention == .int8 || convention == .metadata ? 0.01 : 0.03
    #expect(try error(weight(output, changed), wanted) < tolerance)
    #expect(try error(weight(into, changed), wanted) > 0.1)
    for suffix in [".weight", ".comfy_quant", ".weight_scale", ".scale_weight"]
    where before.contains(left + suffix) {
      #expect(try Tensor.isEqual(before.tensor(left + suffix), after.tensor(left + suffix)))
    }
    #expect(CheckpointInspection(try Checkpoint(path: output)).problems.isEmpty)
  }

  @Test(arguments: [nil] + Convention.allCases.map(Optional.some))
  func anFp8CheckpointIsWrittenAsComfyUIReadsIt(_ convention: Convention?) throws {
    let into = try convention.map(write) ?? files.checkpoint
    let output = "\(scratch.folder)/fp8.safetensors"
    let lora = try lora()
    try CheckpointFusion(Checkpoint(path: into), loras: [(lora, 0.8)], form: .float8).write(
      to: output)
    let file = try SafetensorsFile(path: output)
    #expect(
      file.metadata["_quantization_metadata"] == nil
        && file.metadata["config"] == plain.metadata["config"])
    let matrices = plain.entries.filter {
      isQuantized($0.key) && $0.key.hasSuffix(".weight") && $0.value.shape.count == 2
        && !$0.key.contains("to_gate_logits")
    }
    #expect(matrices.count > 100)
    let keepsScales = [.scaledFP8, .olderFP8, .rowsOfFP8].contains(convention)
    for (key, entry) in matrices {
      #expect(file.entries[key]?.dtype == .float8E4M3 && file.entries[key]?.shape == entry.shape)
      guard !keepsScales else { continue }
      let scale = try #require(file.entries["\(key)_scale"], "\(key)")
      #expect(scale.dtype == .float32 && scale.shape.isEmpty)
      let json = try file.tensor(key.replacing(".weight", with: ".comfy_quant")).withUnsafeBytes {
        String(decoding: $0, as: UTF8.self)
      }
      #expect(json == "{\"format\": \"float8_e4m3fn\", \"full_precision_matrix_mult\": true}")
    }
    #expect(file.entries["model.diffusion_model.patchify_proj.weight"]?.dtype == .bfloat16)
    let checkpoint = try Checkpoint(path: output)
    let inspection = CheckpointInspection(checkpoint)
    #expect(
      inspection.problems.isEmpty && inspection.unknownKeys.isEmpty, "\(inspection.unknownKeys)")
    for layer in ["0.attn1.to_q", "2.ff.net.2"].map({ Self.scope + $0 }) {
      let module = lora.modules.first { "model.\($0.path)" == layer }
      var wanted = try weight(files.checkpoint, layer)
      if let module { wanted = try wanted + module.up.matmul(module.down) * 0.8 }
      #expect(try error(weight(output, layer), wanted) < 0.05, "\(layer)")
    }
  }

  @Test func aWeightThatIsNotFiniteWithTheLoRAIsNotWritten() throws {
    let output = "\(scratch.folder)/merged.safetensors"
    var tensors: [(key: String, tensor: Tensor)] = []
    for (name, shape) in [("A", [1, 128]), ("B", [128, 1])] {
      tensors.append(
        (
          "diffusion_model.transformer_blocks.0.attn1.to_q.lora_\(name).weight",
          try Tensor.full(shape, Scalar(1e25))
        ))
    }
    let path = "\(scratch.folder)/large.safetensors"
    try writeSafetensors(tensors, to: path)
    for convention in [nil, Convention.int8] {
      let into = try convention.map(write) ?? files.checkpoint
      let text = message {
        try CheckpointFusion(Checkpoint(path: into), loras: [(LoRAFile(path: path), 1)]).write(
          to: output)
      }
      #expect(text.contains("blocks.0.attn1.to_q.weight is not finite"), "\(text)")
      #expect(!FileManager.default.fileExists(atPath: output))
    }
  }

  @Test func aPackedFormatIsNamedNotTakenForAnotherModels() throws {
    let path = "\(scratch.folder)/mxfp8.safetensors"
    let layer = "\(Self.scope)1.attn1.to_q"
    let tensors = try plain.keys.map { key in
      (
        key: key,
        tensor: try key == "\(layer).weight"
          ? Tensor.zeros([128, 128]).to(.float8E4M3) : plain.tensor(key)
      )
    }
    try writeSafetensors(
      tensors + [
        ("\(layer).weight_scale", Tensor.ones([128, 4], dtype: .uint8))
      ], metadata: plain.metadata, to: path)
    let text = message { _ = try CheckpointFusion(Checkpoint(path: path), loras: [(lora(), 1)]) }
    #expect(text.contains("\(layer).weight_scale shows that the layer is in MXFP8"), "\(text)")
  }

  /// optimum-quanto's files have other names, which a converted file must not have.
  @Test func aCheckpointOfQuantoIsConvertedButNotMerged() throws {
    var tensors: [(key: String, tensor: Tensor)] = []
    for key in plain.keys {
      let tensor = try plain.tensor(key)
      let bias = String(key.dropLast("weight".count) + "bias")
      guard isQuantized(key), tensor.rank == 2, key.hasSuffix(".weight"), plain.contains(bias)
      else {
        tensors.append((key, tensor))
        continue
      }
      let matrix = try AffineQuantizer(bits: 4).quantize(tensor, key: key).matrix
      guard case .planar(_, let shifts) = matrix.coding else {
        Issue.record("a layout of another library")
        return
      }
      tensors += [
        ("\(key)._data._data", matrix.codes), ("\(key)._scale", matrix.scales),
        ("\(key)._shift", shifts),
      ]
      let layer = key.dropLast(".weight".count)
      tensors += try ["input_scale", "output_scale"].map { ("\(layer).\($0)", try Tensor.ones([])) }
    }
    let path = "\(scratch.folder)/quanto.safetensors"
    try writeSafetensors(tensors, metadata: plain.metadata, to: path)
    let checkpoint = try Checkpoint(path: path)
    let inspection = CheckpointInspection(checkpoint)
    #expect(inspection.problems.isEmpty && inspection.unknownKeys.isEmpty)
    let error = #expect(throws: WeightError.self) {
      try CheckpointFusion(checkpoint, loras: [(LoRAFile(path: files.distilledLoRA), 1)])
    }
    #expect(error?.problem.contains("which can be read but not written") == true)

    let output = "\(scratch.folder)/converted.safetensors"
    try CheckpointFusion(checkpoint, loras: [], form: .float8).write(to: output)
    let wanted = "\(scratch.folder)/wanted.safetensors"
    try CheckpointFusion(Checkpoint(path: files.checkpoint), loras: [], form: .float8)
      .write(to: wanted)
    let converted = try SafetensorsFile(path: output)
    #expect(try converted.keys == SafetensorsFile(path: wanted).keys)
    let (before, after) = (checkpoint.weights(LoadPolicy()), Weights(converted, LoadPolicy()))
    for key in converted.keys where key.hasSuffix(".weight_scale") {
      let layer = String(key.dropLast(".weight_scale".count))
      let old = try Linear(before / layer, bias: false).weight.to(.float32)
      let new = try Linear(after / layer, bias: false).weight.to(.float32)
      #expect(try (new - old).abs().max().item() <= old.abs().max().item() / 16, "\(layer)")
    }
  }
}
