import BlockExecution
import Foundation
import NN
import TensorFiles
import TestSupport
import Testing
import Torch
import Training

@testable import LTX

/// Trained weights against ltx-core under autograd.
@Suite struct TrainedWeightsTests {
  private let fixture: LoRAFixture

  init() throws { fixture = try LoRAFixture() }

  private func checkpoint(_ model: String = "ltx23_transformer") throws -> Checkpoint {
    try Checkpoint(path: Fixtures.model(model))
  }

  private static func name(_ key: String) -> String {
    String(key.dropFirst("model.diffusion_model.".count))
  }

  private func step(_ transformer: Transformer, _ activations: ActivationPolicy = .keep)
    -> TrainingStep
  {
    TrainingStep(
      transformer: transformer,
      plan: ExecutionPlan(blocks: transformer.configuration.blocks, activations: activations))
  }

  @Test(
    arguments: [
      ("joint", "ltx23_transformer", Set<Modality>.both),
      ("video_only", "ltx2_interleaved", .video),
    ], ActivationPolicy.allCases)
  func gradientsOfAllWeightsAreThoseOfTheReference(
    _ recorded: (name: String, model: String, modalities: Set<Modality>),
    _ activations: ActivationPolicy
  ) throws {
    let wanted = try TrainingFixture.tensors("\(recorded.name).gradients")
    let transformer = try checkpoint(recorded.model).transformer(
      LoadPolicy(dtype: .float32, trained: .transformer()), modalities: recorded.modalities)
    #expect(
      Set(transformer.parameters.map { Self.name($0.key) })
        == Set(wanted.keys).subtracting(["loss"]))
    let result = try step(transformer, activations)(TrainingFixture.example(recorded.name))
    let gradients = result.gradients
    try TrainingFixture.expectEqual(result.loss, wanted.tensor("loss"), within: 1e-5, "loss")
    for parameter in transformer.parameters {
      let name = Self.name(parameter.key)
      try TrainingFixture.expectEqual(
        gradients[parameter.key], wanted.tensor(name), within: 1e-4, name)
    }
  }

  /// The gradient of a part is the same as when everything is trained.
  @Test(arguments: [
    (["attn1"], 2 * 12), (["transformer_blocks.1"], -1),
    (["transformer_blocks.[0-1].audio_ff.net.*.proj"], 2 * 2),
    (["proj_out"], 2), (["patchify_proj.bias", "adaln_single.linear"], 3), (["q_norm"], 2 * 6),
    (["scale_shift_table"], 3),
  ])
  func patternsChooseTensorsByTheNamesInTheirKeys(_ patterns: [String], _ count: Int)
    throws
  {
    let all = try checkpoint().transformer(LoadPolicy(dtype: .float32, trained: .transformer()))
    let some = try checkpoint().transformer(
      LoadPolicy(dtype: .float32, trained: .transformer(patterns)))
    if count >= 0 { #expect(some.parameters.count == count, "\(some.parameters.map(\.key))") }
    #expect(!some.parameters.isEmpty && some.parameters.count < all.parameters.count)
    let example = try TrainingFixture.example("joint")
    let (wanted, found) = (try step(all)(example).gradients, try step(some)(example).gradients)
    #expect(Set(found.keys) == Set(some.parameters.map(\.key)))
    for (key, gradient) in found {
      try TrainingFixture.expectEqual(gradient, #require(wanted[key]), within: 2e-5, key)
    }
  }

  @Test func onlyTrainedWeightsAreCopiedToFloat32()
    throws
  {
    let source = try checkpoint().source
    let transformer = try checkpoint().transformer(
      LoadPolicy(dtype: .bfloat16, trained: .transformer(["attn1"])))
    for parameter in transformer.parameters {
      #expect(parameter.key.contains(".attn1."))
      #expect(parameter.tensor.dtype == .float32 && parameter.tensor.requiresGrad)
      let stored = try source.tensor(parameter.key)
      #expect(!parameter.tensor.sharesStorage(with: stored))
      #expect(try Tensor.isEqual(parameter.tensor, stored.to(.float32)))
      try withoutGrad { _ = try parameter.tensor.copy_(Tensor.zeros(like: parameter.tensor)) }
      #expect(try stored.to(.float32).abs().max().item() > 0)
    }
  }

  @Test func eightBitWeightsAreTrainedAndSavedDequantized()
    throws
  {
    let whole = try checkpoint()
    let path = fixture.path("fp8.safetensors")
    let tensors = try whole.source.keys.flatMap { key -> [(key: String, tensor: Tensor)] in
      let tensor = try whole.source.tensor(key)
      guard key.contains(".transformer_blocks."), key.hasSuffix(".weight"), tensor.rank == 2 else {
        return [(key, tensor)]
      }
      let scale = try tensor.to(.float32).abs().max() / 448
      return [(key, try (tensor.to(.float32) / scale).to(.float8E4M3)), ("\(key)_scale", scale)]
    }
    try writeSafetensors(tensors, metadata: whole.source.metadata, to: path)
    let checkpoint = try Checkpoint(path: path)
    let transformer = try checkpoint.transformer(
      LoadPolicy(dtype: .float32, trained: .transformer(["attn1"])))
    let numbers = try checkpoint.transformer(LoadPolicy(dtype: .float32, storage: .dequantized))
    let example = try TrainingFixture.example("joint")
    let wanted = try step(numbers).loss(example)
    try TrainingFixture.expectEqual(step(transformer).loss(example), wanted, within: 2e-6)
    let saved = fixture.path("whole.safetensors")
    try checkpoint.writeTransformer(transformer.parameters, dtype: .float32, to: saved)
    #expect(try !SafetensorsFile(path: saved).keys.contains { $0.hasSuffix("_scale") })
    let again = try checkpoint.replacingTransformer(by: saved).transformer(
      LoadPolicy(dtype: .float32))
    try TrainingFixture.expectEqual(step(again).loss(example), wanted, within: 2e-6)
  }

  /// Under autocast, like in mixed precision: the trained weights are float32, the frozen ones and
  /// the contexts bfloat16.
  @Test func mixedPrecisionTrainsTheSameWeightsToItsOwnAccuracy() throws {
    let wanted = try TrainingFixture.tensors("joint.gradients")
    let transformer = try checkpoint().transformer(
      LoadPolicy(dtype: .bfloat16, trained: .transformer()))
    let plan = ExecutionPlan(
      blocks: transformer.configuration.blocks, activations: .recompute, autocast: .bfloat16)
    let gradients = try TrainingStep(transformer: transformer, plan: plan)(
      TrainingFixture.example("joint")
    ).gradients
    #expect(gradients.count == transformer.parameters.count)
    var (product, found, want) = (0.0, 0.0, 0.0)
    for (key, gradient) in gradients {
      #expect(gradient.dtype == .float32, "\(key)")
      let w = try wanted.tensor(Self.name(key))
      product += try (gradient * w).sum().item()
      found += try gradient.square().sum().item()
      want += try w.square().sum().item()
    }
    #expect(product / (found * want).squareRoot() > 0.999)
  }

  @Test(arguments: ["attn7", "to_", "transformer_blocks.*.norm", "", "video_embeddings_connector"])
  func aPatternThatMatchesNothingIsNamed(_ pattern: String) throws {
    let error = #expect(throws: UnmatchedTarget.self) {
      try checkpoint().transformer(LoadPolicy(trained: .transformer(["attn1", pattern])))
    }
    #expect(error?.target == pattern)
    #expect(error?.description.contains("\"\(pattern)\" matches no tensor of ") == true)
  }

  // MARK: Files

  @Test func aSavedTransformerIsLoadedAgainWholeAndByTheOfficialTrainersKeys()
    throws
  {
    let checkpoint = try checkpoint()
    let transformer = try checkpoint.transformer(
      LoadPolicy(dtype: .float32, trained: .transformer(["attn2", "proj_out"])))
    try withoutGrad {
      for parameter in transformer.parameters {
        _ = try parameter.tensor.copy_(parameter.tensor * 1.5)
      }
    }
    let path = fixture.path("model_weights_step_00007.safetensors")
    try checkpoint.writeTransformer(
      transformer.parameters, dtype: .float32, metadata: ["reference_downscale_factor": "2"],
      to: path)
    let file = try SafetensorsFile(path: path)
    #expect(file.metadata["reference_downscale_factor"] == "2")
    // All keys except the connectors', without a prefix.
    let names = checkpoint.source.keys.filter {
      $0.hasPrefix("model.diffusion_model.") && !$0.contains("_embeddings_connector.")
    }
    #expect(file.keys == names.map(Self.name).sorted())
    let changed = Set(transformer.parameters.map(\.key))
    for key in names {
      let stored = try checkpoint.source.tensor(key).to(.float32)
      #expect(
        try Tensor.isEqual(
          file.tensor(Self.name(key)), changed.contains(key) ? stored * 1.5 : stored),
        "\(key)")
    }

    let loaded = try checkpoint.replacingTransformer(by: path)
    let again = try loaded.transformer(LoadPolicy(dtype: .float32))
    let component = try Checkpoint(ModelFiles(transformer: path)).transformer(
      LoadPolicy(dtype: .float32))
    let example = try TrainingFixture.example("joint")
    let wanted = try step(transformer).loss(example)
    // Trained layers are computed operation by operation.
    try TrainingFixture.expectEqual(step(again).loss(example), wanted, within: 2e-6)
    #expect(try Tensor.isEqual(step(again).loss(example), step(component).loss(example)))
    let unchanged = try step(checkpoint.transformer(LoadPolicy(dtype: .float32))).loss(example)
    #expect(try LoRAFixture.distance(unchanged, wanted) > 1e-3)
    let files = ModelFiles(unified: Fixtures.model("ltx23_transformer"), transformer: path)
    let beside = try Checkpoint(files)
    #expect(
      try Tensor.isEqual(
        step(beside.transformer(LoadPolicy(dtype: .float32))).loss(example),
        step(again).loss(example)))
    #expect(beside.source.keys == checkpoint.source.keys)
    // The connectors are still the checkpoint's.
    #expect(loaded.source.keys == checkpoint.source.keys)
  }

  @Test func anotherModelsTransformerIsRefusedByName() throws {
    let checkpoint = try checkpoint()
    func write(_ change: (inout [String: Tensor]) throws -> Void) throws -> String {
      var tensors: [String: Tensor] = [:]
      for key in checkpoint.source.keys
      where key.hasPrefix("model.diffusion_model.") && !key.contains("connector") {
        tensors[Self.name(key)] = try checkpoint.source.tensor(key)
      }
      try change(&tensors)
      let path = fixture.path("\(UUID().uuidString).safetensors")
      try writeSafetensors(tensors.map { ($0.key, $0.value) }, to: path)
      return path
    }
    // the official trainer's, without metadata
    _ = try checkpoint.replacingTransformer(by: write { _ in })
    for (problem, path) in [
      ("proj_out.weight is missing", try write { $0["proj_out.weight"] = nil }),
      ("extra.weight is not part", try write { $0["extra.weight"] = try .ones([2]) }),
      ("proj_out.bias has shape [3]", try write { $0["proj_out.bias"] = try .ones([3]) }),
    ] {
      let error = #expect(throws: WeightError.self) {
        try checkpoint.replacingTransformer(by: path)
      }
      #expect(error?.description.contains(problem) == true, "\(error?.description ?? "")")
      #expect(error?.file == path)
    }
    #expect(throws: WeightError.self) {
      try checkpoint.writeTransformer(
        [Parameter(key: "model.diffusion_model.nothing", tensor: .ones([1]))], dtype: .float32,
        to: fixture.path("never.safetensors"))
    }
    #expect(!FileManager.default.fileExists(atPath: fixture.path("never.safetensors")))
  }
}
