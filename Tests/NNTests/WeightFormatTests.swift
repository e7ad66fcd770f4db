import TensorFiles
import TestSupport
import Testing
import Torch

@testable import NN

/// The formats of weights and the tensors beside them.
@Suite struct WeightFormatTests {
  private let scratch: ScratchFolder
  private let random: Generator

  init() throws {
    scratch = try ScratchFolder()
    random = try Generator(seed: 9)
  }

  private func source(_ tensors: [(key: String, tensor: Tensor)]) throws -> SafetensorsFile {
    let path = scratch.file("weights.safetensors")
    try writeSafetensors(tensors, to: path)
    return try SafetensorsFile(path: path)
  }

  /// A tensor that belongs to a weight could change its meaning.
  @Test(arguments: [
    "weight_correction", "weight.correction", "output_scale", "scale_output", "weight_scale_3",
  ])
  func aTensorOfAnUnknownNameBesideAWeightIsAnError(_ name: String) throws {
    let weight = try random.normal([8, 32])
    let (elements, scale) = try QuantizedFile.int8(weight)
    for tensors in [
      [("l.weight", weight)], [("l.weight", try weight.to(.float8E4M3))],
      [("l.weight", elements), ("l.weight_scale", scale)],
    ] {
      let file = try source(tensors + [("l.\(name)", Tensor.ones([8]))])
      for storage in [WeightStorage.asStored, .dequantized, .int8] {
        let error = #expect(throws: WeightError.self) {
          try Linear(Weights(file, LoadPolicy(storage: storage)) / "l", bias: false)
        }
        #expect(error?.key == "l.\(name)")
        #expect(error?.problem.contains("its meaning is not known") == true)
      }
      #expect(throws: WeightError.self) { try (Weights(file) / "l").requireReadable("weight") }
    }
    // Tensors other than weights may have neighbors of any name.
    let file = try source([("l.table", weight), ("l.\(name)", try .ones([8]))])
    #expect(try Tensor.isEqual((Weights(file) / "l").tensor("table"), weight))
  }

  /// `input_scale` belongs to a quantized weight, not to a dense one.
  @Test func aTensorOfAnotherFormatBesideAWeightIsAnError() throws {
    let file = try source([
      ("l.weight", try random.normal([8, 32])), ("l.input_scale", try .ones([])),
    ])
    let error = #expect(throws: WeightError.self) {
      try Linear(Weights(file) / "l", bias: false)
    }
    #expect(error?.key == "l.input_scale")
  }

  /// `encode` is the inverse of reading, in every format that LoRAs can be merged into.
  @Test func aFormatStoresOtherValuesAsItReadsThem() throws {
    let weight = try random.normal([8, 32])
    let (elements, scale) = try QuantizedFile.int8(QuantizedFile.rotated(weight, 16))
    let fp8Scale = try weight.abs().max() / 448
    let files: [(title: String, tensors: [(key: String, tensor: Tensor)], tolerance: Double)] = [
      ("float32", [("l.weight", weight)], 0),
      (
        "scaled float8_e4m3fn",
        [("l.weight", try (weight / fp8Scale).to(.float8E4M3)), ("l.scale_weight", fp8Scale)], 0.1
      ),
      (
        "int8_tensorwise (ConvRot 16)",
        [
          ("l.weight", elements), ("l.weight_scale", scale),
          ("l.comfy_quant", try QuantizedFile.bytes(QuantizedFile.convRot(16))),
        ], 0.02
      ),
    ]
    for (title, tensors, tolerance) in files {
      let format = try #require(try WeightIndex(source(tensors)).format(of: "l.weight"))
      #expect(format.title == title && format.shape == [8, 32])
      let other = try random.normal([8, 32])
      let encoded = try format.encode(other)
      #expect(Set(encoded.keys) == Set(format.tensors.map(\.key)))
      for tensor in format.tensors {
        let written = try #require(encoded[tensor.key])
        #expect(written.dtype == tensor.dtype && written.shape == tensor.shape)
      }
      let kept = tensors.filter { encoded[$0.key] == nil }
      let again = Weights(
        try source(kept + encoded.map { ($0.key, $0.value) }), LoadPolicy(dtype: .float32))
      let found = try Linear(again / "l", bias: false).weight
      #expect(try (found - other).abs().max().item() <= tolerance * other.abs().max().item())
    }
  }

  @Test func noNameIsClaimedTwice() {
    #expect(Set(WeightFormats.names).count == WeightFormats.names.count)
    #expect(
      WeightFormats.isCompanion("a.b.weight_scale") && WeightFormats.isCompanion("comfy_quant"))
    #expect(!WeightFormats.isCompanion("a.weight") && !WeightFormats.isCompanion("a.scale_table"))
  }
}
