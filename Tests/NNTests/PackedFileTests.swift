import Foundation
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import NN

/// Files with packed weights: NVFP4 as comfy-kitchen writes it, NF4 and FP4 as bitsandbytes does.
@Suite struct PackedFileTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private static func fixture(_ name: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: "\(Fixtures.root)/packed/\(name).safetensors")
  }

  /// The tensors of a case of a fixture, as those of the layer `l`.
  private func layer(
    _ name: String, in fixture: SafetensorsFile, changing: [String: Tensor?] = [:]
  ) throws -> [(key: String, tensor: Tensor)] {
    var tensors: [String: Tensor] = [:]
    for key in fixture.entries.keys where key.hasPrefix("\(name).") {
      let own = String(key.dropFirst(name.count + 1))
      guard own != "dense", own != "values" else { continue }
      tensors["l.\(own)"] = try fixture.tensor(key)
    }
    for (key, tensor) in changing { tensors["l.\(key)"] = tensor }
    return tensors.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  private func source(
    _ tensors: [(key: String, tensor: Tensor)], metadata: [String: String] = [:]
  ) throws -> any TensorSource {
    let path = scratch.file("packed.safetensors")
    try writeSafetensors(tensors, metadata: metadata, to: path)
    return try DescribedTensors.describing(SafetensorsFile(path: path))
  }

  static let bitsAndBytes: [String] = ["nf4", "fp4"].flatMap { kind in
    ["plain", "nested"].flatMap { nested in
      ["6x320", "5x70"].map { "\(kind)_\(nested)_\($0)" }
    }
  }

  @Test(arguments: bitsAndBytes)
  func filesOfBitsandbytesAreReadAsItReadsThem(_ name: String) throws {
    let fixture = try Self.fixture("bitsandbytes")
    let dense = try fixture.tensor("\(name).dense")
    let file = try source(layer(name, in: fixture))
    let root = Weights(file, LoadPolicy(dtype: .float32))
    let layer = try Linear(
      root / "l", inputs: dense.size(1), outputs: dense.size(0), bias: false)
    #expect(try Tensor.isEqual(layer.weight, dense))
    #expect(root.unusedKeys.isEmpty)
    #expect(try Tensor.isEqual((Weights(file) / "l").tensor("weight"), dense.to(.bfloat16)))
    let x = try Generator(seed: 1).normal([3, dense.size(1)])
    #expect(try Tensor.isEqual(layer(x), x.linear(dense)))
    let format = try #require(try WeightIndex(file).format(of: "l.weight"))
    #expect(format.title.hasPrefix("bitsandbytes \(name.prefix(3))"))
    #expect(format.title.contains("double") == name.contains("nested"))
    #expect(Set(format.tensors.map(\.key)) == Set(file.entries.keys))
    #expect(format.writingProblem != nil)
    for tensor in format.tensors {
      #expect(file.entries[tensor.key]?.shape == tensor.shape, "\(tensor.key)")
    }
  }

  @Test func damagedFilesOfBitsandbytesAreRefused() throws {
    let fixture = try Self.fixture("bitsandbytes")
    let state = "weight.quant_state.bitsandbytes__nf4"
    func json(_ text: String) throws -> Tensor { try QuantizedFile.bytes(text) }
    let valid = #""quant_type":"nf4","blocksize":64,"dtype":"bfloat16","shape":[6,320]"#
    for (changes, problem) in [
      ([state: try json("no JSON")], "is not valid JSON"),
      ([state: try json("{\(valid),\"rotation\":3}")], "rotation: is not known"),
      ([state: try json("{\(valid),\"shape\":[6,320]}")], "two members named"),
      (
        [state: try json(valid.replacing("nf4", with: "fp4").wrapped)],
        "quant_type: must be nf4"
      ),
      ([state: try json(valid.replacing("64", with: "0").wrapped)], "blocksize: must be between"),
      (
        [state: try json(valid.replacing("64", with: "128").wrapped)],
        "l.weight.absmax is float32 of shape [30] (expected 15 of float32)"
      ),
      ([state: try json(valid.replacing("[6", with: "[7").wrapped)], "l.weight is uint8"),
      ([state: try json(valid.replacing("bfloat16", with: "int8").wrapped)], "dtype: must be"),
      (["weight.absmax": nil], "has no weight.absmax"),
      (["weight.quant_map": try Tensor.ones([15])], "expected 16 of float32"),
      (["weight.other": try Tensor.ones([15])], "its meaning is not known"),
      (
        ["weight.absmax": try Tensor.full([30], Scalar(Double.nan))],
        "holds NaN or infinite values"
      ),
    ] as [([String: Tensor?], String)] {
      let root = Weights(
        try source(layer("nf4_plain_6x320", in: fixture, changing: changes)),
        LoadPolicy(dtype: .float32))
      let text = message { _ = try Linear(root / "l", bias: false) }
      #expect(text.contains(problem) && text.contains("packed.safetensors"), "\(text)")
    }
  }

  static let quanto: [String] = [
    "qint4_bfloat16", "qint4_float32", "qint2_bfloat16", "qint2_float32", "qint8_bfloat16",
    "qfloat8_e4m3fn_bfloat16",
  ].flatMap { kind in ["16x256", "5x288", "6x160", "5x70"].map { "\(kind)_\($0)" } }

  @Test(arguments: quanto)
  func filesOfQuantoAreReadAsItReadsThem(_ name: String) throws {
    let fixture = try Self.fixture("quanto_saved")
    let dense = try fixture.tensor("\(name).dense")
    let bias = try fixture.tensor("\(name).bias")
    let file = try source(layer(name, in: fixture))
    let root = Weights(file)
    let layer = try Linear(root / "l", inputs: dense.size(1), outputs: dense.size(0))
    #expect(layer.dtype == dense.dtype)
    #expect(try Tensor.isEqual(layer.weight, dense))
    #expect(root.unusedKeys.isEmpty)
    let x = try Generator(seed: 1).normal([3, dense.size(1)]).to(dense.dtype)
    let (found, wanted) = (try layer(x).to(.float32), try x.linear(dense, bias).to(.float32))
    let limit = try wanted.abs().max().item() * (dense.dtype == .float32 ? 1e-6 : 2e-2)
    #expect(try (found - wanted).abs().max().item() <= limit)
    let format = try #require(try WeightIndex(file).format(of: "l.weight"))
    let kind = name.split(separator: "_").dropLast(2).joined(separator: "_")
    #expect(format.title == "optimum-quanto \(kind)")
    #expect(Set(format.tensors.map(\.key)) == Set(file.entries.keys).subtracting(["l.bias"]))
    #expect(format.writingProblem != nil)
    for tensor in format.tensors {
      #expect(file.entries[tensor.key]?.shape == tensor.shape, "\(tensor.key)")
    }
  }

  @Test func filesOfQuantoThatDoNotFitAreRefused() throws {
    let fixture = try Self.fixture("quanto_saved")
    for (name, changes, problem) in [
      ("qint4_bfloat16_5x288", ["bias": nil], "does not store the shape of the matrix"),
      (
        "qint4_bfloat16_5x288", ["bias": try Tensor.ones([4])],
        "has 15 groups, which can't be shared evenly by the 4 rows that l.bias shows"
      ),
      (
        "qint4_bfloat16_5x288", ["weight._scale": try Tensor.ones([15, 1])],
        "l.weight._shift is bfloat16 of shape [15, 1], and l.weight._scale is float32"
      ),
      (
        "qint4_float32_5x288",
        ["weight._scale": try Tensor.ones([20, 1]), "weight._shift": try Tensor.ones([20, 1])],
        "does not fit the 20 groups of l.weight._scale in 4 or 2 bits"
      ),
      (
        "qint4_bfloat16_5x288", ["weight._data._data": try Tensor.ones([8, 96])],
        "is float32 of shape [8, 96] (expected uint8"
      ),
      ("qint4_bfloat16_5x288", ["weight._shift": nil], "without weight._shift"),
      (
        "qint8_bfloat16_5x288", ["weight._scale": try Tensor.ones([3, 1])],
        "l.weight._scale has shape [3, 1] (expected one scale for each row of [5, 288])"
      ),
      (
        "qint8_bfloat16_5x288", ["weight._scale": try Tensor.ones([5, 1]).to(.int32)],
        "l.weight._scale has dtype int32"
      ),
      ("qint8_bfloat16_5x288", ["weight._other": try Tensor.ones([5])], "its meaning is not known"),
    ] as [(String, [String: Tensor?], String)] {
      let text = message {
        let root = Weights(try source(layer(name, in: fixture, changing: changes)))
        _ = try Linear(root / "l", bias: false)
      }
      #expect(text.contains(problem) && text.contains("packed.safetensors"), "\(text)")
    }
  }

  static let matrices: [String] = ["24x64", "132x80", "128x64"]

  private func nvfp4(_ name: String, described: Bool, changing: [String: Tensor?] = [:]) throws
    -> [(key: String, tensor: Tensor)]
  {
    var changing = changing
    if described {
      changing["comfy_quant"] = try QuantizedFile.bytes("{\"format\": \"nvfp4\"}")
    }
    return try layer("nvfp4_\(name)", in: Self.fixture("nvfp4"), changing: changing)
  }

  @Test(arguments: matrices, [true, false])
  func nvfp4IsReadAsComfyKitchenReadsIt(_ name: String, isDescribed: Bool) throws {
    let dense = try Self.fixture("nvfp4").tensor("nvfp4_\(name).dense")
    let input = try Tensor.ones([])
    let file = try source(
      nvfp4(name, described: isDescribed, changing: ["input_scale": input]))
    let root = Weights(file, LoadPolicy(dtype: .float32))
    let layer = try Linear(
      root / "l", inputs: dense.size(1), outputs: dense.size(0), bias: false)
    #expect(try Tensor.isEqual(layer.weight, dense))
    #expect(root.unusedKeys.isEmpty)
    let x = try Generator(seed: 1).normal([3, dense.size(1)])
    #expect(try Tensor.isEqual(layer(x), x.linear(dense)))
    #expect(try Tensor.isEqual((Weights(file) / "l").tensor("weight"), dense.to(.bfloat16)))
  }

  /// `encode` gives comfy-kitchen's bytes.
  @Test(arguments: matrices)
  func nvfp4IsWrittenAsComfyKitchenWritesIt(_ name: String) throws {
    let fixture = try Self.fixture("nvfp4")
    let file = try source(nvfp4(name, described: true))
    let format = try #require(try WeightIndex(file).format(of: "l.weight"))
    #expect(format.title == "nvfp4" && format.writingProblem == nil)
    let encoded = try format.encode(fixture.tensor("nvfp4_\(name).values"))
    #expect(Set(encoded.keys) == Set(format.tensors.map(\.key)))
    for tensor in format.tensors {
      let written = try #require(encoded[tensor.key])
      let wanted = try file.tensor(tensor.key)
      #expect(written.dtype == tensor.dtype && written.shape == tensor.shape)
      #expect(wanted.dtype == tensor.dtype && wanted.shape == tensor.shape)
      #expect(
        try Tensor.isEqual(written.to(.float32), wanted.to(.float32)), "\(tensor.key)")
    }
  }

  /// ModelOpt's files have the same tensors, but other bytes.
  @Test func nvfp4OfModelOptIsRefused() throws {
    let exported =
      #"{"producer": {"name": "modelopt", "version": "0.33"}, "quant_algo": "NVFP4"}"#
    let sidecars = ["hf_quant_config.json", "config.json"]
    let inMetadata = "quantization_config in the file's metadata"
    for (name, changes, metadata, sidecar, isDescribed) in [
      (inMetadata, [:], ["quantization_config": exported], nil, true),
      (inMetadata, [:], ["quantization_config": exported], nil, false),
      ("hf_quant_config in the file's metadata", [:], ["hf_quant_config": exported], nil, false),
      ("l.weight_quantizer._amax", ["weight_quantizer._amax": try Tensor.ones([])], [:], nil, true),
      ("hf_quant_config.json beside the file", [:], [:], sidecars[0], false),
      ("config.json beside the file", [:], [:], sidecars[1], false),
    ] as [(String, [String: Tensor?], [String: String], String?, Bool)] {
      if let sidecar { try Data(exported.utf8).write(to: URL(filePath: scratch.file(sidecar))) }
      let text = message {
        let root = Weights(
          try source(
            nvfp4("128x64", described: isDescribed, changing: changes), metadata: metadata))
        _ = try Linear(root / "l", inputs: 64, outputs: 128, bias: false)
      }
      #expect(
        text.contains("as NVIDIA ModelOpt packs it, which is not supported (shown by \(name))"),
        "\(text)")
      if let sidecar { try FileManager.default.removeItem(atPath: scratch.file(sidecar)) }
    }
    // Neither another program's description nor that of other weights in the folder counts.
    try Data(exported.utf8).write(to: URL(filePath: scratch.file(sidecars[1])))
    let other = ["quantization_config": #"{"quant_method": "other", "quant_algo": "NVFP4"}"#]
    let root = Weights(try source(nvfp4("128x64", described: true), metadata: other))
    _ = try Linear(root / "l", inputs: 64, outputs: 128, bias: false)
  }

  /// A file that is opened as a part of a checkpoint keeps its metadata.
  @Test func nvfp4OfModelOptIsRefusedInOneOfSeveralFiles() throws {
    let file = try source(
      nvfp4("128x64", described: false), metadata: ["quantization_config": "modelopt quant_algo"])
    let combined = CombinedTensors(name: "all", parts: [.init(file) { "model.\($0)" }])
    let text = message { _ = try WeightIndex(combined).format(of: "model.l.weight") }
    #expect(text.contains("as NVIDIA ModelOpt packs it"), "\(text)")
  }

  @Test func nvfp4ThatDoesNotFitIsRefused() throws {
    func description(_ member: String) throws -> Tensor {
      try QuantizedFile.bytes("{\"format\": \"nvfp4\", \(member)}")
    }
    let rows = try Tensor.ones([24, 4]).to(.float8E4M3)
    for (changes, isDescribed, problem) in [
      (["weight_scale": rows], false, "row by row, as ModelOpt writes them"),
      (["weight_scale": rows], true, "row by row, as ModelOpt writes them"),
      (
        ["weight_scale": try Tensor.ones([24, 8]).to(.float8E4M3)], true,
        "expected float8_e4m3fn of shape [128, 4]"
      ),
      (["weight_scale_2": nil], true, "has no scales"),
      (["weight_scale_2": nil], false, "NVFP4"),
      (["weight_scale_2": try Tensor.zeros([])], true, "must be positive"),
      (["weight_scale_2": try Tensor.ones([2])], true, "expected one float32"),
      (["weight": try Tensor.ones([24, 64])], true, "expected uint8 with two elements"),
      (["comfy_quant": try description("\"rotated\": true")], false, "rotated: is not known"),
      (["comfy_quant": try description("\"orig_shape\": [20, 64]")], false, "says [20, 64]"),
      (["pre_quant_scale": try Tensor.ones([64])], true, "pre_quant_scale"),
    ] as [([String: Tensor?], Bool, String)] {
      let text = message {
        let root = Weights(
          try source(nvfp4("24x64", described: isDescribed, changing: changes)),
          LoadPolicy(dtype: .float32))
        _ = try Linear(root / "l", inputs: 64, outputs: 24, bias: false)
        try (root / "l").requireAllUsed()
      }
      #expect(text.contains(problem) && text.contains("packed.safetensors"), "\(text)")
    }
  }
}

extension String {
  fileprivate var wrapped: String { "{\(self)}" }
}
