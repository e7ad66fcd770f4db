import TensorFiles
import TestSupport
import Testing
import Torch

@testable import NN

/// Files with weights in 4 bits: NVFP4 as comfy-kitchen writes it, NF4 and FP4 as bitsandbytes does.
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
      if own.hasPrefix("weight") { tensors["l.\(own)"] = try fixture.tensor(key) }
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
