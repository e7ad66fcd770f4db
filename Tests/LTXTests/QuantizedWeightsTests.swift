import Foundation
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX

/// Linear layers whose matrices are in eight bits, in the file or in memory.
@Suite struct QuantizedWeightsTests {
  private let scratch: Scratch
  private let random: Generator

  init() throws {
    scratch = try Scratch()
    try FileManager.default.createDirectory(
      atPath: scratch.folder, withIntermediateDirectories: true)
    random = try Generator(seed: 11)
  }

  private func weights(
    _ tensors: [(key: String, tensor: Tensor)], dtype: DType? = nil,
    adapters: AdapterSet = AdapterSet(),
    storage: WeightStorage = .asStored
  ) throws -> Weights {
    let path = "\(scratch.folder)/\(UUID().uuidString).safetensors"
    try writeSafetensors(tensors, to: path)
    return Weights(
      try SafetensorsFile(path: path),
      LoadPolicy(dtype: dtype, adapters: adapters, storage: storage))
  }

  private func fp8() throws -> (matrix: Tensor, scale: Tensor) {
    (try (random.normal([24, 40]) * 100).to(.float8E4M3), try Tensor([Float(0.0123)], shape: []))
  }

  @Test(arguments: [DType.float32, .bfloat16, nil], [true, false])
  func aScaledFp8MatrixIsMultipliedInFloat32AndRoundedOnce(dtype: DType?, isOlder: Bool)
    throws
  {
    let (matrix, scale) = try fp8()
    let bias = try random.normal([24]).to(.bfloat16)
    let tensors: [(key: String, tensor: Tensor)] = [
      ("l.weight", matrix), ("l.bias", bias),
      (isOlder ? "l.scale_weight" : "l.weight_scale", scale),
      (isOlder ? "l.scale_input" : "l.input_scale", scale),
    ]
    let own = dtype ?? .bfloat16
    let wanted = try (matrix.to(.float32) * scale).to(own)
    let x = try random.normal([3, 40]).to(own)
    for storage in [WeightStorage.asStored, .dequantized] {
      let root = try weights(tensors, dtype: dtype, storage: storage)
      let layer = try Linear(root / "l", inputs: 40, outputs: 24)
      #expect(layer.dtype == own)
      #expect(try Tensor.isEqual(layer.weight, wanted))
      #expect(try Tensor.isEqual(layer(x), x.linear(wanted, bias.to(own))))
      #expect(root.unusedKeys.isEmpty)
    }
  }

  @Test func fp8WithoutAScaleIsWhatItSays() throws {
    let (matrix, _) = try fp8()
    let root = try weights([("weight", matrix), ("table", matrix)], dtype: .float32)
    #expect(try Tensor.isEqual(Linear(root, bias: false).weight, matrix.to(.float32)))
    #expect(try Tensor.isEqual(root.tensor("table"), matrix.to(.float32)))
  }

  @Test func aScaleForEachRow() throws {
    let (matrix, _) = try fp8()
    let scales = try random.uniform([24, 1])
    let root = try weights([("weight", matrix), ("weight_scale", scales)], dtype: .float32)
    #expect(try Tensor.isEqual(Linear(root, bias: false).weight, matrix.to(.float32) * scales))
  }

  @Test func aScaleOfAnotherShapeTypeOrValueIsRefused() throws {
    let (matrix, _) = try fp8()
    for (scale, problem) in [
      (try Tensor.ones([2, 3]), "has shape [2, 3] (expected one scale"),
      (try Tensor.ones([40]), "has shape [40]"),
      (try Tensor.ones([1], dtype: .int32), "has dtype int32"),
      (try Tensor.full([1], Scalar(Double.nan)), "holds NaN or infinite values"),
    ] {
      for storage in [WeightStorage.asStored, .dequantized] {
        let root = try weights([("l.weight", matrix), ("l.weight_scale", scale)], storage: storage)
        let text = message { _ = try Linear(root / "l", bias: false) }
        #expect(text.contains(problem) && text.contains("l.weight_scale"), "\(text)")
      }
    }
  }

  @Test func adaptersChangeALayerInEightBitsAsTheyChangeThePlainOne() throws {
    let (matrix, scale) = try fp8()
    var adapters = AdapterSet()
    for strength in [0.7, -1.5] {
      adapters.add(
        LoRAAdapter(
          down: try random.normal([4, 40]), up: try random.normal([24, 4]), scale: strength),
        to: "l")
    }
    let tensors: [(key: String, tensor: Tensor)] = [
      ("l.weight", matrix), ("l.weight_scale", scale),
    ]
    let x = try random.normal([3, 40])
    func layer(_ storage: WeightStorage) throws -> Tensor {
      try Linear(
        weights(tensors, dtype: .float32, adapters: adapters, storage: storage) / "l", bias: false)(
          x)
    }
    #expect(try Tensor.isEqual(layer(.asStored), layer(.dequantized)))
    let rounded = try Linear(
      weights([("l.weight", matrix.to(.float32) * scale)], adapters: adapters, storage: .int8)
        / "l",
      bias: false)
    let wanted = try layer(.dequantized)
    #expect(try (rounded(x) - wanted).abs().max().item() < 0.02 * wanted.abs().max().item())
  }

  @Test(arguments: [DType.float32, .bfloat16])
  func int8MovesANumberByHalfAStepOfItsRow(dtype: DType) throws {
    var matrix =
      try random.normal([6, 300]) * Tensor([Float(1e-6), 1, 300, 1, 1, 1], shape: [6, 1])
    matrix = try Tensor.cat([matrix, Tensor.zeros([1, 300])], 0).to(dtype)
    let bias = try random.normal([7])
    let root = try weights([("weight", matrix), ("bias", bias)], dtype: dtype, storage: .int8)
    let layer = try Linear(root)
    let largest = try matrix.to(.float32).abs().amax([1], keepdim: true)
    // Half a step, plus the rounding to the dtype.
    let bound = try largest * (0.5 / 127 + (dtype == .bfloat16 ? 0x1p-8 : 1e-6))
    let error = try (layer.weight.to(.float32) - matrix.to(.float32)).abs()
    #expect(try error.lessOrEqual(to: bound).all().item() == 1)
    // rounding must occur
    #expect(try error.amax([1]).slice(0, to: 6).greater(than: 0).all().item() == 1)

    let x = try random.normal([5, 300]).to(dtype)
    let wanted = try x.to(.float32).linear(layer.weight.to(.float32), bias)
    let found = try layer(x)
    #expect(found.dtype == dtype)
    let tolerance = dtype == .bfloat16 ? 0.01 : 1e-5
    for row in 0..<7 {
      let (a, b) = (try found.select(1, row).to(.float32), try wanted.select(1, row))
      #expect(
        try (a - b).abs().max().item() <= tolerance * max(b.abs().max().item(), 1e-9), "\(row)")
    }
  }

  @Test func textFeaturesOfAnInt8GemmaAreCloseToTheUnquantizedOnes() throws {
    let files = try TinyModel.write(to: scratch.folder + "/tiny")
    let checkpoint = try Checkpoint(path: files.checkpoint)
    let prompts = ["slow waves of blue light", "a cat"]
    func features(_ storage: WeightStorage) throws -> Tensor {
      try checkpoint.promptEncoder(
        textEncoder: files.textEncoder, dtype: .float32, storage: storage)(prompts)
        .byModality.video
    }
    let (whole, quantized) = (try features(.asStored), try features(.int8))
    #expect(try !Tensor.isEqual(whole, quantized))
    for prompt in 0..<2 {
      let (a, b) = (
        try whole.select(0, prompt).flatten(), try quantized.select(0, prompt).flatten()
      )
      let cosine =
        try (a * b).sum().item() / (a.square().sum().item() * b.square().sum().item()).squareRoot()
      #expect(cosine > 0.999, "\(cosine)")
    }
  }

  @Test func aTransformerInFp8GivesWhatItsExpandedWeightsGive() throws {
    let files = try TinyModel.write(to: scratch.folder + "/tiny")
    let source = try SafetensorsFile(path: files.checkpoint)
    let path = "\(scratch.folder)/fp8.safetensors"
    let tensors = try source.keys.flatMap { key -> [(key: String, tensor: Tensor)] in
      let tensor = try source.tensor(key)
      guard key.contains("transformer_blocks"), key.hasSuffix(".weight"), tensor.rank == 2 else {
        return [(key, tensor)]
      }
      let scale = try tensor.to(.float32).abs().max() / 448
      return [
        (key, try (tensor.to(.float32) / scale).to(.float8E4M3)), ("\(key)_scale", scale),
        (key.replacing(".weight", with: ".input_scale"), scale),
      ]
    }
    try writeSafetensors(tensors, metadata: source.metadata, to: path)
    let checkpoint = try Checkpoint(path: path)
    let velocity = try TinyVelocity(random)
    #expect(try Tensor.isEqual(velocity(checkpoint, .asStored), velocity(checkpoint, .dequantized)))
  }
}
