import BlockExecution
import Foundation
import TensorFiles
import TestSupport
import Testing
import Torch
import Training

@testable import LTX
@testable import NN

/// Trained adapters against peft's.
@Suite struct AdapterTests {
  private let fixture: LoRAFixture

  init() throws { fixture = try LoRAFixture() }

  private static let rank = 4
  private static let alpha = 6.0

  /// The recorded layer, with fresh adapters set to the recorded values.
  private func layer(
    _ kind: String, _ recorded: SafetensorsFile, storage: WeightStorage = .asStored,
    weights stored: Tensor? = nil
  ) throws -> (layer: Linear, parameters: [Parameter], dropout: AdapterDropout?) {
    func get(_ name: String) throws -> Tensor { try recorded.tensor("\(kind).\(name)") }
    let path = fixture.path("\(UUID().uuidString).safetensors")
    try writeSafetensors(
      [("block.to_q.weight", stored ?? get("weight")), ("block.to_q.bias", get("bias"))], to: path)
    let dropout =
      kind.hasSuffix("_dropout") ? AdapterDropout(probability: 0.3, seed: 5) : nil
    let fresh = FreshAdapters(
      targets: ["to_q"], rank: Self.rank, alpha: Self.alpha, isRankStabilized: kind.contains("_rs"),
      kind: kind.hasPrefix("dora") ? DoRAAdapter.kind : LoRAAdapter.kind, dropout: dropout,
      generator: try Generator(seed: 1))
    let root = Weights(
      try SafetensorsFile(path: path),
      LoadPolicy(dtype: .float32, freshAdapters: fresh, storage: storage))
    let layer = try Linear(root / "block" / "to_q")
    return (layer, root.parameters, dropout)
  }

  private static let names = [
    "lora_A.weight": "A", "lora_B.weight": "B", "lora_magnitude_vector": "magnitude",
  ]

  private func set(_ parameters: [Parameter], _ kind: String, _ recorded: SafetensorsFile) throws {
    try withoutGrad {
      for parameter in parameters {
        let name = try #require(Self.names.first { parameter.key.hasSuffix($0.key) }?.value)
        try parameter.tensor.copy_(recorded.tensor("\(kind).\(name)"))
      }
    }
  }

  static let kinds = ["lora", "dora"].flatMap { kind in
    ["", "_rs"].flatMap { ["\(kind)\($0)", "\(kind)\($0)_dropout"] }
  }

  /// Output and gradients of x, A, B and the magnitude; the masks are those of PyTorch's generator
  /// with our seeds.
  @Test(arguments: kinds)
  func layersAndTheirGradientsAreThoseOfPeft(_ kind: String) throws {
    let recorded = try TrainingFixture.tensors("layers")
    let (layer, parameters, dropout) = try layer(kind, recorded)
    #expect(parameters.count == (kind.hasPrefix("dora") ? 3 : 2))
    if kind.hasPrefix("dora") {
      let magnitude = try #require(parameters.last?.tensor)
      try TrainingFixture.expectEqual(
        magnitude, recorded.tensor("\(kind).initial_magnitude"), within: 1e-6, "initial magnitude")
    }
    try set(parameters, kind, recorded)
    let x = try recorded.tensor("\(kind).x").clone().asLeaf()
    func run() throws -> (y: Tensor, gradients: [Tensor?]) {
      let y = try layer(x)
      return (
        y,
        try grad(
          of: [y], wrt: [x] + parameters.map(\.tensor), gradOutputs: [recorded.tensor("\(kind).dy")]
        )
      )
    }
    let (y, gradients) = try dropout.map { try $0.inPass(3, run) } ?? run()
    try TrainingFixture.expectEqual(y, recorded.tensor("\(kind).y"), within: 2e-6, "y")
    for (key, gradient) in zip(["x"] + parameters.map(\.key), gradients) {
      let name = Self.names.first { key.hasSuffix($0.key) }?.value ?? key
      try TrainingFixture.expectEqual(
        gradient, recorded.tensor("\(kind).grad.\(name)"), within: 5e-6, name)
    }
    if dropout != nil {
      #expect(try !Tensor.isEqual(layer(x), y), "outside of a pass nothing is dropped")
    }
  }

  /// The norm is that of the dequantized values.
  @Test(arguments: ["dora", "dora_dropout"])
  func doRAOnABaseInEightBitsIsDoRAOnItsNumbers(_ kind: String) throws {
    let recorded = try TrainingFixture.tensors("layers")
    for storage in [
      WeightStorage.int8, .quanto(.float8E4M3, excluding: { _ in false }),
      .quanto(bits: 4, excluding: { _ in false }), .normalFloat(excluding: { _ in false }),
    ] {
      let rounded = try layer(kind, recorded, storage: storage)
      let plain = try layer(kind, recorded, weights: rounded.layer.weight)
      var results: [[Tensor?]] = []
      for (layer, parameters, dropout) in [rounded, plain] {
        #expect(try layer.weight.dtype == .float32)
        try set(parameters, kind, recorded)
        let x = try recorded.tensor("\(kind).x").clone().asLeaf()
        func run() throws -> [Tensor?] {
          let y = try layer(x)
          return [y]
            + (try grad(
              of: [y], wrt: [x] + parameters.map(\.tensor),
              gradOutputs: [recorded.tensor("\(kind).dy")]))
        }
        results.append(try dropout.map { try $0.inPass(0, run) } ?? run())
      }
      for (a, b) in zip(results[0], results[1]) {
        try TrainingFixture.expectEqual(a, #require(b), within: 5e-6)
      }
    }
  }

  private struct Targets: Decodable {
    struct Case: Decodable {
      let model: String
      let targets: [String]
      let layers: [String]
    }
    let cases: [Case]
  }

  @Test func targetsMatchTheLayersThatTheyMatchInPeft() throws {
    let cases = try TrainingFixture.json("targets", Targets.self).cases
    #expect(cases.count == 14)
    for recorded in cases {
      let checkpoint = try Checkpoint(path: Fixtures.model(recorded.model))
      // peft doesn't report a target without a match if another one matches.
      let matching = recorded.targets.filter { $0 != "o_q" }
      let transformer = try checkpoint.transformer(
        LoadPolicy(
          freshAdapters: FreshAdapters(
            targets: matching, rank: 2, alpha: 2, generator: Generator(seed: 1))))
      let layers = transformer.parameters.filter { $0.key.hasSuffix(".lora_A.weight") }.map {
        String($0.key.dropFirst("model.diffusion_model.".count).dropLast(".lora_A.weight".count))
      }
      #expect(layers.sorted() == recorded.layers, "\(recorded.targets)")
      if matching != recorded.targets {
        let error = #expect(throws: UnmatchedTarget.self) {
          try checkpoint.transformer(
            LoadPolicy(
              freshAdapters: FreshAdapters(
                targets: recorded.targets, rank: 2, alpha: 2, generator: Generator(seed: 1))))
        }
        #expect(error?.target == "o_q" && error?.isExcluded == false)
      }
    }
  }

  @Test func aRunOfTheVideoAloneTrainsAndNamesNoLayerOfTheAudio() throws {
    let fresh = FreshAdapters(
      targets: ["to_k", "to_q", "to_v", "to_out.0"], rank: 2, alpha: 2,
      generator: try Generator(seed: 1))
    let keys = try LoRAFixture.checkpoint().transformer(
      LoadPolicy(freshAdapters: fresh), modalities: .video
    )
    .parameters
    .map(\.key)
    #expect(keys.count == 3 * 2 * 4 * 2)  // blocks, attentions, layers, factors
    #expect(keys.allSatisfy { LoRAPart(path: $0) == .video })
    let error = #expect(throws: UnmatchedTarget.self) {
      try LoRAFixture.checkpoint().transformer(
        LoadPolicy(
          freshAdapters: FreshAdapters(
            targets: ["audio_attn1.to_q"], rank: 2, alpha: 2, generator: Generator(seed: 1))),
        modalities: .video)
    }
    #expect(error?.target == "audio_attn1.to_q")
  }

  private struct Keys: Decodable { let keys: [String] }

  /// Against the weights that get a nonzero gradient from upstream's autograd.
  @Test(
    arguments: ["ltx2_transformer", "ltx23_bias_free"],
    [("audio_to_video", Set<Modality>.video), ("video_to_audio", .audio)])
  func ofAStreamThatIsOnlyAttendedToWhatCantChangeTheLossIsLeftOut(
    _ model: String, _ direction: (name: String, generated: Set<Modality>)
  ) throws {
    let checkpoint = try Checkpoint(path: Fixtures.model(model))
    // Upstream's feed-forward layers have biases of zero where the checkpoint has none.
    let recorded = Set(try TrainingFixture.json("\(direction.name).\(model)", Keys.self).keys)
      .filter {
        checkpoint.source.contains("model.diffusion_model.\($0)")
      }
    let transformer = try checkpoint.transformer(
      LoadPolicy(dtype: .float32, trained: .transformer()), generating: direction.generated)
    let trained = Set(
      transformer.parameters.map { String($0.key.dropFirst("model.diffusion_model.".count)) })
    #expect(recorded.isSubset(of: trained), "\(recorded.subtracting(trained).sorted())")
    // Weights that are trained without ever getting a gradient; every other weight is in both
    // lists.
    let idle = trained.subtracting(recorded)
    #expect(idle.isEmpty, "\(idle.sorted())")
    let error = #expect(throws: UnmatchedTarget.self) {
      try checkpoint.transformer(
        LoadPolicy(
          freshAdapters: FreshAdapters(
            targets: [direction.generated == .video ? "audio_proj_out" : "proj_out"], rank: 2,
            alpha: 2,
            generator: Generator(seed: 1))), generating: direction.generated)
    }
    #expect(error?.isExcluded == true)
  }

  @Test func aMaskDropsItsShareAndKeepsTheMean() throws {
    let dropout = AdapterDropout(probability: 0.25, seed: 9)
    let x = try Tensor.ones([400, 500])
    let layer = dropout.layer("a.to_q")
    #expect(try Tensor.isEqual(layer(x), x), "outside of a pass")
    try dropout.inPass(1) {
      let y = try layer(x)
      let kept: [Float] = try y.flatten().array()
      #expect(Set(kept) == [0, Float(1 / 0.75)])
      // Three standard deviations of the mean of 200 000 draws.
      let share = Double(kept.count { $0 == 0 }) / Double(kept.count)
      #expect(abs(share - 0.25) < 3 * (0.25 * 0.75 / 200_000).squareRoot())
      #expect(try Tensor.isEqual(layer(x), y), "the same pass")
      #expect(try !Tensor.isEqual(dropout.layer("b.to_q")(x), y), "another layer")
    }
    let first = try dropout.inPass(1) { try layer(x) }
    #expect(try !Tensor.isEqual(dropout.inPass(2) { try layer(x) }, first), "another pass")
    let all = AdapterDropout(probability: 1, seed: 9)
    #expect(try Tensor.isEqual(all.inPass(0) { try all.layer("a")(x) }, Tensor.zeros([400, 500])))
    let none = AdapterDropout(probability: 0, seed: 9)
    #expect(try Tensor.isEqual(none.inPass(0) { try none.layer("a")(x) }, x))
  }

  /// The recomputed block uses the same mask: loss and gradients are equal bit for bit.
  @Test(arguments: AdapterKinds.all)
  func recomputationWithDropoutChangesNoBit(_ kind: AdapterKind) throws {
    let example = try TrainingFixture.example("joint")
    let dropout = AdapterDropout(probability: 0.2, seed: 3)
    let transformer = try Checkpoint(path: Fixtures.model("ltx23_transformer")).transformer(
      LoadPolicy(
        dtype: .float32,
        freshAdapters: FreshAdapters(
          targets: ["to_q", "to_out.0", "net.2"], rank: 3, alpha: 3, kind: kind, dropout: dropout,
          generator: Generator(seed: 1))))
    let random = try Generator(seed: 4)
    try withoutGrad {
      for parameter in try transformer.parameters.startingAtZero {
        try parameter.tensor.copy_(random.normal(parameter.tensor.shape) * 0.2)
      }
    }
    func run(_ activations: ActivationPolicy, pass: Int) throws -> TrainingStep.Result {
      let plan = ExecutionPlan(blocks: transformer.configuration.blocks, activations: activations)
      let step = TrainingStep(transformer: transformer, plan: plan)
      return try dropout.inPass(pass) { try step(example) }
    }
    let (kept, rebuilt, other) = (
      try run(.keep, pass: 7), try run(.recompute, pass: 7), try run(.keep, pass: 8)
    )
    #expect(try Tensor.isEqual(kept.loss, rebuilt.loss))
    #expect(try !Tensor.isEqual(kept.loss, other.loss))
    #expect(kept.gradients.count == transformer.parameters.count)
    for (key, gradient) in kept.gradients {
      #expect(try Tensor.isEqual(gradient, #require(rebuilt.gradients[key])), "\(key)")
      #expect(try gradient.abs().max().item() > 0, "\(key)")
    }
  }
}
