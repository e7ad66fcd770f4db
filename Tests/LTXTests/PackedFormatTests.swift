import Foundation
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LanguageModels
@testable import NN

/// Weights that layers can't compute with are rejected while loading, with the file, the key and,
/// if known, the format.
@Suite struct PackedFormatTests {
  private let scratch: Scratch

  init() throws {
    scratch = try Scratch()
    try FileManager.default.createDirectory(
      atPath: scratch.folder, withIntermediateDirectories: true)
  }

  private func weights(_ tensors: [(key: String, tensor: Tensor)]) throws -> Weights {
    let path = "\(scratch.folder)/packed.safetensors"
    try writeSafetensors(tensors, to: path)
    return Weights(try SafetensorsFile(path: path))
  }

  struct Packed: Sendable, CustomTestStringConvertible {
    let format: String
    /// Names, dtypes and shapes below the layer, whose weight is [8, 32].
    let tensors: [(String, DType, [Int])]

    var testDescription: String { format }
  }

  static let packed = [
    Packed(
      format: "NVFP4",
      tensors: [
        ("weight", .uint8, [8, 16]), ("weight_scale", .float8E4M3, [8, 2]),
        ("weight_scale_2", .float32, []),
      ]),
    Packed(
      format: "NVFP4",
      tensors: [("weight", .uint8, [8, 16]), ("weight_scale", .float8E4M3, [8, 2])]),
    Packed(
      format: "MXFP4", tensors: [("weight", .uint8, [8, 16]), ("weight_scale", .uint8, [8, 1])]),
    Packed(
      format: "MXFP8",
      tensors: [("weight", .float8E4M3, [8, 32]), ("weight_scale", .uint8, [8, 1])]),
    Packed(
      format: "bitsandbytes' int8", tensors: [("weight", .int8, [8, 32]), ("SCB", .float32, [8])]),
    Packed(
      format: "GPTQ",
      tensors: [
        ("qweight", .int32, [4, 8]), ("qzeros", .int32, [1, 1]), ("scales", .float16, [1, 8]),
        ("g_idx", .int32, [32]),
      ]),
    Packed(
      format: "AWQ",
      tensors: [
        ("qweight", .int32, [32, 1]), ("qzeros", .int32, [1, 1]), ("scales", .float16, [1, 8]),
      ]),
    Packed(
      format: "SVDQuant",
      tensors: [
        ("qweight", .int8, [8, 16]), ("wscales", .bfloat16, [1, 8]),
        ("smooth_factor", .bfloat16, [32]),
      ]),
    Packed(
      format: "HQQ",
      tensors: [
        ("W_q", .uint8, [4, 32]), ("scale", .float16, [8, 1]), ("zero", .float16, [8, 1]),
      ]),
    Packed(format: "torchao", tensors: [("weight._weight_qdata", .int8, [8, 32])]),
    Packed(
      format: "compressed-tensors",
      tensors: [
        ("weight_packed", .int32, [8, 4]), ("weight_scale", .bfloat16, [8, 1]),
        ("weight_shape", .int64, [2]),
      ]),
    Packed(
      format: "scales in blocks",
      tensors: [("weight", .float8E4M3, [8, 32]), ("weight_scale_inv", .float32, [1, 1])]),
    Packed(
      format: "zero points",
      tensors: [
        ("weight", .int8, [8, 32]), ("weight_scale", .float32, [8, 1]),
        ("weight_zero_point", .int8, [8, 1]),
      ]),
    Packed(
      format: "AWQ, which scales a layer's inputs",
      tensors: [
        ("weight", .float8E4M3, [8, 32]), ("weight_scale", .float32, []),
        ("pre_quant_scale", .bfloat16, [32]),
      ]),
    Packed(
      format: "asym_w4a8_int8",
      tensors: [
        ("weight", .int8, [8, 16]), ("weight_s_rel", .float8E4M3, [8, 2]),
        ("weight_s_channel", .float32, [8]),
      ]),
  ]

  @Test(arguments: packed)
  func aKnownFormatIsNamed(_ packed: Packed) throws {
    let tensors = try packed.tensors.map { name, dtype, shape in
      (key: "l.\(name)", tensor: try Tensor.ones(shape, dtype: .float32).to(dtype))
    }
    let root = try weights(tensors)
    let text = message {
      _ = try Linear(root / "l", inputs: 32, outputs: 8, bias: false)
      try (root / "l").requireAllUsed()
    }
    #expect(text.contains(packed.format) && text.contains("not supported. Use"), "\(text)")
    #expect(text.contains("packed.safetensors: l."), "\(text)")
  }

  @Test(arguments: [DType.uint8, .int8, .int16, .int32, .int64, .bool])
  func aDtypeThatNoLayerComputesInIsRefused(_ dtype: DType) throws {
    for (name, shape) in [("weight", [8, 32]), ("bias", [8])] {
      var tensors: [(key: String, tensor: Tensor)] = [
        ("l.weight", try Tensor.ones([8, 32])), ("l.bias", try Tensor.ones([8])),
      ]
      tensors[name == "weight" ? 0 : 1].tensor = try Tensor.ones(shape).to(dtype)
      let root = try weights(tensors)
      let text = message { _ = try Linear(root / "l") }
      #expect(
        text.contains("packed.safetensors: l.\(name)") && text.contains("\(dtype)")
          && text.contains("expected"),
        "\(text)")
    }
  }

  /// Files of other libraries, whose layers have other names, and whose metadata doesn't describe
  /// an LTX-2 model.
  @Test(arguments: [
    ("qweight", "wscales", "SVDQuant"), ("W_q", "scale", "HQQ"),
  ])
  func aFileOfOtherLayersIsNamedByItsFormat(
    _ name: String, _ other: String, _ format: String
  )
    throws
  {
    let path = "\(scratch.folder)/other.safetensors"
    let layer = "transformer_blocks.0.attn.to_qkv"
    for metadata in [[:], ["config": "{\"_class_name\": \"Other\"}"]] {
      try writeSafetensors(
        [
          ("\(layer).\(name)", Tensor.ones([8], dtype: .uint8)),
          ("\(layer).\(other)", Tensor.ones([8])),
        ],
        metadata: metadata, to: path)
      let text = message { try Checkpoint(path: path).require("transformer") }
      #expect(
        text.contains("other.safetensors: ") && text.contains("\(layer).")
          && text.contains("not supported. Use"), "\(text)")
      #expect(text.contains(format), "\(text)")
    }
  }

  @Test func float64IsConverted() throws {
    let weight = try Generator(seed: 1).normal([8, 32])
    let root = try weights([("l.weight", weight.to(.float64))])
    let layer = try Linear(root / "l", bias: false)
    #expect(try layer.dtype == .float32 && Tensor.isEqual(layer.weight, weight))
  }

  /// Norms, convolutions, tables, embeddings: every tensor of every component.
  @Test func eachTensorOfAModelIsChecked() throws {
    let files = try TinyModel.write(to: scratch.folder + "/tiny")
    let source = try SafetensorsFile(path: files.checkpoint)
    let path = "\(scratch.folder)/model.safetensors"
    var keys: [String: String] = [:]
    // One tensor per name, whatever the number of its layer.
    for key in source.keys {
      keys[
        key.split(separator: ".").map { Int($0) == nil ? String($0) : "0" }.joined(separator: ".")] =
        key
    }
    let skipped = ["mean-of-stds", "per_channel_statistics.channel", "inverse_basis"]
    let wrong = Set(keys.values.filter { key in !skipped.contains { key.contains($0) } })
    try writeSafetensors(
      source.keys.map {
        (key: $0, tensor: try wrong.contains($0) ? source.tensor($0).to(.int32) : source.tensor($0))
      },
      metadata: source.metadata, to: path)
    let combined = try SafetensorsFile(path: path)
    let checkpoint = try Checkpoint(path: files.checkpoint)
    for key in wrong.sorted() {
      let one = CombinedTensors(
        name: path, metadata: source.metadata,
        parts: [.init(combined) { $0 == key ? $0 : nil }, .init(source) { $0 == key ? nil : $0 }])
      let changed = Checkpoint(
        files: checkpoint.files, source: one, config: checkpoint.config)
      let problems = CheckpointInspection(changed).problems
      #expect(
        problems.count == 1 && problems[0].contains("\(key) has dtype int32"), "\(key): \(problems)"
      )
    }
  }

  @Test(arguments: [
    ("bitsandbytes", "\"load_in_8bit\": true"), ("gptq", "\"bits\": 4"), ("awq", "\"bits\": 4"),
    ("fp8", ""),
    ("torchao", ""), ("quanto", ""), ("hqq", ""), ("mxfp4", ""), ("something_new", ""),
  ])
  func aQuantizationMethodOfTransformersIsNamed(_ method: String, _ more: String) throws {
    let files = try TinyModel.write(to: scratch.folder + "/tiny")
    let config = "\(files.textEncoder)/config.json"
    let text = try String(contentsOfFile: config, encoding: .utf8)
    let members = ["\"quant_method\": \"\(method)\"", more].filter { !$0.isEmpty }.joined(
      separator: ", ")
    let start = try #require(text.firstIndex(of: "{"))
    try Data("{\"quantization_config\": {\(members)}, \(text[text.index(after: start)...])".utf8)
      .write(
        to: URL(filePath: config))
    let error = message { _ = try openTextEncoder(at: files.textEncoder) }
    #expect(
      error.contains(
        "config.json: config.quantization_config.quant_method: is \"\(method)\""
      ) && error.contains("which is not supported"),
      "\(error)")
  }

  /// A Gemma 3 whose matrices are NF4 in bitsandbytes' layout gives the features of one that is
  /// quantized to the same values while it is loaded.
  @Test func aGemmaInBitsandbytesFourBitsIsRead() throws {
    let files = try TinyModel.write(to: scratch.folder + "/tiny")
    let checkpoint = try Checkpoint(path: files.checkpoint)
    func features(_ storage: WeightStorage) throws -> Tensor {
      try checkpoint.promptEncoder(
        textEncoder: files.textEncoder, dtype: .float32, storage: storage)(["a cat"])
        .byModality.video
    }
    let wanted = try features(.normalFloat(excluding: { _ in false }))
    let folder = files.textEncoder
    var count = 0
    var tensors: [(key: String, tensor: Tensor)] = []
    for name in try FileManager.default.contentsOfDirectory(atPath: folder)
    where name.contains("safetensors") {
      defer {
        #expect(throws: Never.self) {
          try FileManager.default.removeItem(atPath: "\(folder)/\(name)")
        }
      }
      guard name.hasSuffix(".safetensors") else { continue }
      let file = try SafetensorsFile(path: "\(folder)/\(name)")
      for key in file.keys {
        let tensor = try file.tensor(key)
        guard key.hasSuffix("_proj.weight"), key.contains("layers") else {
          tensors.append((key, try tensor.clone()))
          continue
        }
        let (codes, largest) = try NormalFloatQuantizer().quantize(tensor)
        let state =
          "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": \(tensor.shape)}"
        tensors += [
          (key, try codes.reshape([-1, 1])), ("\(key).absmax", largest),
          ("\(key).quant_map", try Tensor(CodeBook.normalFloat.values)),
          ("\(key).quant_state.bitsandbytes__nf4", try QuantizedFile.bytes(state)),
        ]
        count += 1
      }
    }
    #expect(count > 6)
    try writeSafetensors(tensors, to: "\(folder)/model.safetensors")
    let config = "\(folder)/config.json"
    let text = try String(contentsOfFile: config, encoding: .utf8)
    let start = try #require(text.firstIndex(of: "{"))
    try Data(
      ("{\"quantization_config\": {\"quant_method\": \"bitsandbytes\", \"load_in_4bit\": true, "
        + "\"bnb_4bit_quant_type\": \"nf4\"}, \(text[text.index(after: start)...])").utf8
    ).write(to: URL(filePath: config))
    #expect(try Tensor.isEqual(features(.asStored), wanted))
  }

  @Test(arguments: [
    (
      "\"format\": \"float-quantized\"",
      "\"num_bits\": 8, \"strategy\": \"channel\", \"symmetric\": true",
      nil
    ),
    ("\"format\": \"pack-quantized\"", "\"num_bits\": 4", "format: is \"pack-quantized\""),
    ("\"format\": \"int-quantized\"", "\"num_bits\": 4", "num_bits: must be 8 (got 4)"),
    (
      "\"format\": \"float-quantized\"", "\"num_bits\": 8, \"strategy\": \"block\"",
      "strategy: is \"block\""
    ),
    ("\"format\": \"int-quantized\"", "\"symmetric\": false", "symmetric: is false"),
  ])
  func compressedTensorsIsReadWhereAMatrixOrARowHasOneScale(
    _ format: String, _ weights: String, _ problem: String?
  ) throws {
    let json = """
      {"quantization_config": {"quant_method": "compressed-tensors", \(format),
       "config_groups": {"group_0": {"weights": {\(weights)}}}, "kv_cache_scheme": null}}
      """
    let config = try Configuration(json: json, file: "config.json")
    let text = message { try QuantizationConfiguration.requireSupported(config) }
    #expect(text.contains(problem ?? "nothing was thrown"), "\(text)")
  }
}
