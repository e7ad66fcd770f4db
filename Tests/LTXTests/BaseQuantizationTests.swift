import BlockExecution
import Foundation
import Support
import TensorFiles
import TestSupport
import Testing
import Torch
import Training

@testable import LTX
@testable import NN

/// Frozen weights in eight bits and fewer, against optimum-quanto.
@Suite struct BaseQuantizationTests {
  private let fixture: LoRAFixture

  init() throws { fixture = try LoRAFixture() }

  private func layer(_ name: String, _ recorded: SafetensorsFile) throws -> (Linear, Tensor) {
    let path = fixture.path("\(UUID().uuidString).safetensors")
    try writeSafetensors(
      [
        ("l.weight", recorded.tensor("\(name).weight")),
        ("l.bias", recorded.tensor("\(name).bias")),
      ], to: path
    )
    let base: BaseQuantization = name.hasPrefix("int8") ? .int8 : .float8
    let root = Weights(try SafetensorsFile(path: path), LoadPolicy(storage: try base.storage()))
    return (try Linear(root / "l"), try recorded.tensor("\(name).x"))
  }

  /// Elements and scales match bit for bit. Products differ: the scale is applied to the product,
  /// not to the quantized matrix.
  @Test(arguments: ["int8_float32", "int8_bfloat16", "float8_float32", "float8_bfloat16"])
  func matricesAreThoseOfQuantoAndGradientsGoThroughThem(_ name: String) throws {
    let recorded = try TrainingFixture.tensors("quantized")
    let (layer, given) = try layer(name, recorded)
    let weight = try recorded.tensor("\(name).weight")
    let quantizer = RowQuantizer(
      elementType: name.hasPrefix("int8") ? .int8 : .float8E4M3, arithmetic: nil)
    let quantized = try quantizer.quantize(weight)
    #expect(try Tensor.isEqual(quantized.elements, recorded.tensor("\(name).elements")))
    #expect(
      try Tensor.isEqual(
        #require(quantized.scale).flatten(), recorded.tensor("\(name).scale").to(.float32)))
    #expect(try Tensor.isEqual(layer.weight, quantized.dequantized()))

    let isWide = weight.dtype == .float32
    let x = try given.clone().asLeaf()
    let y = try layer(x)
    #expect(y.dtype == weight.dtype)
    let dy = try recorded.tensor("\(name).dy")
    let gradient = try grad(of: [y], wrt: [x], gradOutputs: [dy])[0]
    // bfloat16 has eight bits, and values are rounded twice.
    let tolerance = isWide ? 1e-6 : 0.01
    try TrainingFixture.expectEqual(y, recorded.tensor("\(name).y"), within: tolerance, "y")
    try TrainingFixture.expectEqual(
      gradient, recorded.tensor("\(name).grad.x"), within: tolerance, "gradient")
    // The same as with the dense matrix.
    let numbers = try layer.weight.to(.float32)
    try TrainingFixture.expectEqual(
      gradient, dy.to(.float32).matmul(numbers), within: tolerance, "plain")
  }

  private struct Layers: Decodable {
    struct Model: Decodable {
      let quantized: [String]
      let plain: [String]
    }
    let models: [String: Model]
  }

  @Test func theLayersThatUpstreamQuantizesAndNoOthers() throws {
    let models = try TrainingFixture.json("quantized-layers", Layers.self).models
    #expect(models.count == 2)
    for model in models.values {
      #expect(model.quantized.count > 90 && model.plain.count >= 4)
      for (names, isExcluded) in [(model.quantized, false), (model.plain, true)] {
        for name in names {
          #expect(
            BaseQuantization.isExcluded("model.diffusion_model.\(name)") == isExcluded, "\(name)")
        }
      }
    }
  }

  @Test(arguments: BaseQuantization.allCases)
  func unsupportedFormatsAreRefusedByName(_ base: BaseQuantization) throws {
    guard !BaseQuantization.supported.contains(base) else {
      _ = try base.storage()
      return
    }
    let error = #expect(throws: Support.Issue.self) { try base.storage() }
    #expect(
      error?.description.contains("\(base.rawValue) is not supported. Use fp8-quanto") == true)
  }

  /// The sizes that memory is planned with, from headers, are those of the loaded weights.
  @Test(
    arguments: [nil] + BaseQuantization.supported.map(Optional.some), [DType.float32, .bfloat16])
  func plannedBytesOfBlocksAreTheLoadedOnes(_ base: BaseQuantization?, _ dtype: DType) throws {
    let checkpoint = try Checkpoint(path: Fixtures.model("ltx23_transformer"))
    let policy = LoadPolicy(dtype: dtype, storage: try base?.storage() ?? .asStored)
    let loaded = try checkpoint.transformer(policy).blocks.blocks.map { block in
      block.weights.reduce(0) { $0 + $1.tensor.byteCount }
    }
    #expect(try checkpoint.transformerSizes(policy).blockBytes == loaded)
  }

  /// Against the same model with the dequantized values as dense weights.
  @Test(arguments: BaseQuantization.supported, ActivationPolicy.allCases)
  func loRAOnAQuantizedBaseIsLoRAOnItsNumbers(
    _ base: BaseQuantization, _ activations: ActivationPolicy
  ) throws {
    let checkpoint = try Checkpoint(path: Fixtures.model("ltx23_transformer"))
    // The dequantized values as a file.
    let numbers = checkpoint.weights(LoadPolicy(dtype: .float32, storage: try base.storage()))
    let tensors = try checkpoint.source.keys.map { key -> (key: String, tensor: Tensor) in
      let stored = try checkpoint.source.tensor(key)
      let isLayer =
        key.hasPrefix("model.diffusion_model.") && key.hasSuffix(".weight") && stored.rank == 2
      let path = String(key.dropLast(".weight".count))
      guard isLayer, !key.contains("connector"), !BaseQuantization.isExcluded(path) else {
        return (key, stored)
      }
      return (key, try Linear(numbers / path, bias: false).weight)
    }
    let path = fixture.path("rounded.safetensors")
    try writeSafetensors(tensors, metadata: checkpoint.source.metadata, to: path)

    func run(_ checkpoint: Checkpoint, _ storage: WeightStorage) throws -> TrainingStep.Result {
      let transformer = try checkpoint.transformer(
        LoadPolicy(
          dtype: .float32,
          freshAdapters: FreshAdapters(
            targets: ["to_k", "to_q", "to_v", "to_out.0"], rank: 2, alpha: 2,
            generator: Generator(seed: 1)), storage: storage))
      let random = try Generator(seed: 4)
      try withoutGrad {
        for parameter in try transformer.parameters.startingAtZero {
          _ = try parameter.tensor.copy_(random.normal(parameter.tensor.shape) * 0.2)
        }
      }
      let plan = ExecutionPlan(blocks: transformer.configuration.blocks, activations: activations)
      return try TrainingStep(transformer: transformer, plan: plan)(
        TrainingFixture.example("joint"))
    }
    let found = try run(checkpoint, base.storage())
    let wanted = try run(Checkpoint(path: path), .asStored)
    try TrainingFixture.expectEqual(found.loss, wanted.loss, within: 1e-5, "loss")
    #expect(found.gradients.count == wanted.gradients.count)
    for (key, gradient) in found.gradients {
      try TrainingFixture.expectEqual(gradient, #require(wanted.gradients[key]), within: 5e-5, key)
    }
  }

  /// Frozen weights in bfloat16, eight or four bits under autocast, adapters in float32: the gradients
  /// point in the direction of those in float32, as far as the rounding of the base allows.
  @Test(arguments: AdapterKinds.all, [BaseQuantization?.none, .int8, .float8, .int4, .nf4])
  func mixedPrecision(_ kind: AdapterKind, _ base: BaseQuantization?) throws {
    let checkpoint = try Checkpoint(path: Fixtures.model("ltx23_transformer"))
    func gradients(_ dtype: DType, _ storage: WeightStorage) throws -> [String: Tensor] {
      let transformer = try checkpoint.transformer(
        LoadPolicy(
          dtype: dtype,
          freshAdapters: FreshAdapters(
            targets: ["to_q", "to_out.0"], rank: 2, alpha: 2, kind: kind,
            generator: Generator(seed: 1)), storage: storage))
      let random = try Generator(seed: 4)
      try withoutGrad {
        for parameter in try transformer.parameters.startingAtZero {
          _ = try parameter.tensor.copy_(random.normal(parameter.tensor.shape) * 0.2)
        }
      }
      let plan = ExecutionPlan(
        blocks: transformer.configuration.blocks, activations: .recompute,
        autocast: dtype == .float32 ? nil : dtype)
      return try TrainingStep(transformer: transformer, plan: plan)(
        TrainingFixture.example("joint")
      )
      .gradients
    }
    let wanted = try gradients(.float32, .asStored)
    let found = try gradients(.bfloat16, base?.storage() ?? .asStored)
    #expect(found.count == wanted.count)
    var (product, a, b) = (0.0, 0.0, 0.0)
    for (key, gradient) in found {
      #expect(gradient.dtype == .float32, "\(key)")
      let want = try #require(wanted[key])
      product += try (gradient * want).sum().item()
      a += try gradient.square().sum().item()
      b += try want.square().sum().item()
    }
    let cosine = product / (a * b).squareRoot()
    let limit =
      switch base {
      case .float8: 0.98
      case .int4, .nf4: 0.8
      default: 0.995
      }
    #expect(cosine > limit, "\(cosine)")
  }

  /// Memory is measured for the entire process, so this runs in a separate one.
  @Test func aLayerInEightBitsHoldsAByteAWeightInTheGraphToo() async throws {
    await #expect(processExitsWith: .success) {
      let (outputs, inputs) = (512, 768)
      let path = FileManager.default.temporaryDirectory.appendingPathComponent(
        "\(UUID()).safetensors"
      ).path
      let random = try Generator(seed: 1)
      try writeSafetensors(
        [("l.weight", random.normal([outputs, inputs]).to(.bfloat16))], to: path)
      let root = Weights(
        try SafetensorsFile(path: path),
        LoadPolicy(dtype: .bfloat16, storage: try BaseQuantization.int8.storage()))
      let x = try random.normal([1, 4, inputs]).to(.bfloat16).asLeaf()
      let before = try Device.cpu.memory().liveBytes
      let layer = try Linear(root / "l", bias: false)
      let built = try Device.cpu.memory().liveBytes
      // One byte per weight, four per row.
      #expect(built - before == outputs * inputs + 4 * outputs)
      let y = try layer(x)
      let run = try Device.cpu.memory().liveBytes
      #expect(run - built < 64 * outputs, "the graph does not hold the expanded matrix")
      #expect(
        try grad(of: [y], wrt: [x], gradOutputs: [Tensor.ones(y.shape, dtype: y.dtype)])[0] != nil)
      try FileManager.default.removeItem(atPath: path)
    }
  }
}
