import Foundation
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles

@Suite struct TransformerBuilderTests {
  private func builder() throws -> TransformerBuilder {
    try TransformerBuilder(LoRAFixture.checkpoint())
  }

  /// All tensors in a value, at any depth.
  private func tensors(_ value: Any) -> [Tensor] {
    if let tensor = value as? Tensor { return [tensor] }
    return Mirror(reflecting: value).children.flatMap { tensors($0.value) }
  }

  @Test func everyMethodReturnsACopy() throws {
    let plain = try builder().dtype(.float32)
    let one = try plain.lora(Fixtures.model("lora_all"), strength: 0.5)
    let two = try one.lora(Fixtures.model("lora_kohya"))
    #expect([plain, one, two].map(\.loras.count) == [0, 1, 2])
    let velocities = try [plain, one, two, one.strengths(0)].map {
      try LoRAFixture.velocity($0.build())
    }
    #expect(try !Tensor.isEqual(velocities[0], velocities[1]))
    #expect(try !Tensor.isEqual(velocities[1], velocities[2]))
    #expect(try Tensor.isEqual(velocities[0], velocities[3]), "a strength of 0 leaves the LoRA out")
  }

  @Test func fusedAndSeparateAgree() throws {
    let stacked = try builder().dtype(.float32).lora(Fixtures.model("lora_all"), strength: 0.5)
      .lora(Fixtures.model("lora_kohya"), strength: -0.7)
    let separate = try LoRAFixture.velocity(stacked.build())
    let fused = try LoRAFixture.velocity(stacked.adapters(.fused).build())
    // The fused weights are rounded to bfloat16.
    let distance = try LoRAFixture.distance(fused, separate)
    #expect(distance > 0 && distance < 3e-2, "\(distance)")
  }

  @Test func fusedWeightsAreOwnedAndOthersStayMapped() throws {
    let checkpoint = try LoRAFixture.checkpoint()
    let file = try LoRAFixture.lora("lora_bfloat16")
    var adapters = AdapterSet()
    adapters.placement = .fused
    try file.add(to: &adapters, strength: 0.8, dtype: nil)
    let weights = checkpoint.weights(LoadPolicy(adapters: adapters))
    func isMapped(_ path: String) throws -> Bool {
      let stored = try checkpoint.source.tensor("\(path).weight").withUnsafeBytes {
        UInt(bitPattern: $0.baseAddress)
      }
      return try (weights / path).tensor("weight").withUnsafeBytes {
        UInt(bitPattern: $0.baseAddress)
      }
        == stored
    }
    #expect(try !isMapped("model.diffusion_model.patchify_proj"))
    #expect(try isMapped("model.diffusion_model.proj_out"))
    // The layer that is built from a fused weight has no adapter.
    let layer = try Linear(weights / "model.diffusion_model.patchify_proj")
    #expect(layer.adapters.isEmpty)
  }

  @Test func strengthsChangeWithoutLoadingAgain() throws {
    let loaded = try builder().dtype(.float32).lora(
      Fixtures.model("lora_bfloat16"), strength: 0.8
    )
    .sharingWeights()
    let strong = try loaded.build()
    let weak = try loaded.strengths(0.3).build()
    let (first, second) = (tensors(strong), tensors(weak))
    #expect(first.count > 200 && first.count == second.count)
    #expect(zip(first, second).allSatisfy { $0 === $1 }, "everything is shared")
    let fresh = try builder().dtype(.float32).lora(
      Fixtures.model("lora_bfloat16"), strength: 0.3
    ).build()
    #expect(!zip(first, tensors(fresh)).contains { $0 === $1 })
    #expect(try Tensor.isEqual(LoRAFixture.velocity(weak), LoRAFixture.velocity(fresh)))
    #expect(try !Tensor.isEqual(LoRAFixture.velocity(weak), LoRAFixture.velocity(strong)))
    // Fusing doesn't change shared weights.
    _ = try loaded.adapters(.fused).build()
    #expect(
      try Tensor.isEqual(
        LoRAFixture.velocity(loaded.strengths(0.3).build()), LoRAFixture.velocity(fresh)))
  }

  @Test(arguments: [Double.nan, -.infinity]) func strengthsAreFinite(_ strength: Double) throws {
    let lora = Fixtures.model("lora_all")
    #expect(throws: WeightError.self) { try builder().lora(lora, strength: strength) }
    #expect(throws: WeightError.self) { try builder().lora(lora).strengths(strength) }
  }

  @Test func mismatchedLayersAreNamedWithBothShapes() throws {
    let fixture = try LoRAFixture()
    let wide = try fixture.file([
      "transformer.proj_in.lora_A.weight": [2, 99], "transformer.proj_in.lora_B.weight": [50, 2],
    ])
    let error = #expect(throws: WeightError.self) { try builder().lora(wide) }
    #expect(error?.key == "transformer.proj_in")
    #expect(error?.problem.contains("lora_A of [2, 99] and lora_B of [50, 2]") == true)
    let layer = try LoRAFixture.checkpoint().source.entries[
      "model.diffusion_model.patchify_proj.weight"]?
      .shape
    #expect(try error?.problem.contains("is \(#require(layer));") == true)
    let nowhere = try fixture.file([
      "transformer.transformer_blocks.70.attn1.to_q.lora_A.weight": [2, 50],
      "transformer.transformer_blocks.70.attn1.to_q.lora_B.weight": [50, 2],
    ])
    #expect(
      #expect(throws: WeightError.self) { try builder().lora(nowhere) }?.problem.contains(
        "is not a layer of")
        == true)
  }

  @Test func skippedModulesAreNoted() throws {
    let fixture = try LoRAFixture()
    let connector = "connectors.video_connector.transformer_blocks.0.attn1.to_q"
    let width = try LoRAFixture.checkpoint().source.entries[
      "model.diffusion_model.video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q.weight"]
    let size = try #require(width).shape[0]
    let path = try fixture.file([
      "\(connector).lora_A.weight": [2, size], "\(connector).lora_B.weight": [size, 2],
    ])
    let stacked = try builder().modalities(.video).lora(Fixtures.model("lora_all")).lora(path)
    let notes = stacked.notes
    #expect(notes.count == 2)
    #expect(notes.first?.contains(" audio adapters are left out") == true)
    #expect(notes.last?.contains("1 text connector adapter is") == true)
    _ = try stacked.build()
    let fusion = try CheckpointFusion(LoRAFixture.checkpoint(), loras: [(LoRAFile(path: path), 1)])
    #expect(fusion.adaptedCount == 0 && fusion.notes.count == 1)
    #expect(try builder().lora(Fixtures.model("lora_all")).notes.isEmpty)
  }

  @Test func aCheckpointWithLoRAsInIt() throws {
    let fixture = try LoRAFixture()
    let checkpoint = try LoRAFixture.checkpoint()
    let fusion = try CheckpointFusion(checkpoint, loras: [(LoRAFixture.lora("lora_bfloat16"), 0.8)])
    var steps = 0
    try fusion.write(to: fixture.path("fused.safetensors")) { _, _ in steps += 1 }
    let fused = try Checkpoint(path: fixture.path("fused.safetensors"))
    #expect(fused.source.entries.mapValues(\.shape) == checkpoint.source.entries.mapValues(\.shape))
    #expect(fused.source.metadata == checkpoint.source.metadata)
    #expect(steps == fused.source.entries.count && fusion.adaptedCount == 13)
    // The changed weights match upstream's bit for bit, and the others match the checkpoint.
    let wanted = try SafetensorsFile(
      path: "\(Fixtures.root)/fuse-loras/one/expected.safetensors")
    #expect(wanted.entries.count == 13)
    for key in fused.source.keys {
      let got = try fused.source.tensor(key)
      let want =
        try wanted.contains(key) ? wanted.tensor(key).to(got.dtype) : checkpoint.source.tensor(key)
      #expect(try Tensor.isEqual(got, want), "\(key)")
    }
  }

  @Test func invalidFusionsAreRefused() throws {
    let fixture = try LoRAFixture()
    #expect(throws: WeightError.self) {
      try CheckpointFusion(LoRAFixture.checkpoint(), loras: [(LoRAFixture.lora("lora_all"), .nan)])
    }
    let key = "model.diffusion_model.proj_out"
    try writeSafetensors(
      [
        ("\(key).weight", try Tensor.ones([8, 8]).to(.float8E4M3)),
        ("\(key).weight_scale_inv", try .ones([1, 1])),
      ], metadata: ["config": #"{"transformer": {}}"#], to: fixture.path("fp8.safetensors"))
    let lora = try fixture.file([
      "diffusion_model.proj_out.lora_A.weight": [2, 8],
      "diffusion_model.proj_out.lora_B.weight": [8, 2],
    ])
    let error = #expect(throws: WeightError.self) {
      try CheckpointFusion(
        Checkpoint(path: fixture.path("fp8.safetensors")), loras: [(LoRAFile(path: lora), 1)])
    }
    #expect(error?.key == "\(key).weight_scale_inv")
  }

  /// Weights of 8 bits are dequantized, and stay so with a fused adapter.
  @Test func weightsOfEightBits() throws {
    let adapter = LoRAAdapter(down: try .full([2, 4], 0.5), up: try .ones([3, 2]), scale: 0.25)
    let fixture = try LoRAFixture()
    try writeSafetensors(
      [("a.weight", try Tensor.ones([3, 4]).to(.float8E4M3))], to: fixture.path("w.safetensors"))
    var adapters = AdapterSet()
    adapters.placement = .fused
    adapters.add(adapter, to: "a")
    let weights = Weights(
      try SafetensorsFile(path: fixture.path("w.safetensors")), LoadPolicy(adapters: adapters))
    let fused = try (weights / "a").tensor("weight")
    #expect(fused.dtype == .bfloat16)
    #expect(try fused.to(.float32).array(of: Float.self).allSatisfy { $0 == 1.25 })
    // A factor of the wrong size is named before anything is computed.
    adapters.add(
      LoRAAdapter(down: try .ones([2, 5]), up: try .ones([3, 2]), scale: 1), to: "a")
    let wrong = Weights(
      try SafetensorsFile(path: fixture.path("w.safetensors")), LoadPolicy(adapters: adapters))
    #expect(throws: WeightError.self) { try (wrong / "a").tensor("weight") }
  }
}
