import Foundation
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles

/// Values that aren't finite, and adapters that are zero, through all entry points of the library.
@Suite struct LoRAContentsTests {
  let fixture: LoRAFixture
  private let module = "diffusion_model.transformer_blocks.0.attn1.to_q"

  init() throws { fixture = try LoRAFixture() }

  /// A copy of the fixture's LoRA in ComfyUI's names with some tensors replaced or added.
  private func changed(
    to name: String = "a.safetensors", of lora: String = "lora_comfyui_alpha",
    _ replacements: [String: (Tensor) throws -> Tensor]
  ) throws -> String {
    let file = try SafetensorsFile(path: Fixtures.model(lora))
    var missing = Set(replacements.keys)
    let tensors = try file.keys.map { key in
      missing.remove(key)
      return (
        key: key, tensor: try replacements[key].map { try $0(file.tensor(key)) } ?? file.tensor(key)
      )
    }
    #expect(missing.isEmpty, "\(missing)")
    try writeSafetensors(tensors, metadata: file.metadata, to: fixture.path(name))
    return fixture.path(name)
  }

  /// One element of a tensor has another value.
  private static func with(_ value: Double) -> (Tensor) throws -> Tensor {
    { tensor in
      let flat = try tensor.clone().reshape([-1])
      try flat.narrow(0, flat.count - 1, 1).copy_(.full([1], Scalar(value), dtype: tensor.dtype))
      return try flat.reshape(tensor.shape)
    }
  }

  private static func stack(_ file: LoRAFile) throws {
    var adapters = AdapterSet()
    try file.add(to: &adapters, strength: 1, dtype: nil)
  }

  @Test(arguments: ["lora_down.weight", "lora_up.weight"], [Double.nan, .infinity, -.infinity])
  func everyWayInNamesTheTensor(_ factor: String, _ value: Double) throws {
    let key = "\(module).\(factor)"
    let path = try changed([key: Self.with(value)])
    let file = try LoRAFile(path: path)
    let checkpoint = try LoRAFixture.checkpoint()
    for (name, use) in [
      ("tools", { _ = try LoRA(file) }),
      ("generation", { _ = try TransformerBuilder(checkpoint).lora(file) }),
      ("merging", { _ = try CheckpointFusion(checkpoint, loras: [(file, 1)]) }),
      ("training", { _ = try file.initialAdapters(scale: 1) }),
      ("probe", { try Self.stack(file) }),
    ] as [(String, () throws -> Void)] {
      let error = #expect(throws: WeightError.self, "\(name)") { try use() }
      #expect(error?.key == key, "\(name)")
      #expect(error?.problem.contains("not finite") == true, "\(name): \(error?.problem ?? "")")
    }
    let report = try LoRAReport(file, checkpoint: checkpoint)
    #expect(report.nonFiniteKeys == [key] && !report.isFinite)
    #expect(report.change.first == "1 of 13 adapters are not finite; the LoRA can't be used")
  }

  @Test(arguments: [Double.nan, .infinity]) func alphasMustBeFinite(_ value: Double) throws {
    let key = "\(module).alpha"
    let path = try changed([key: { _ in try .full([], Scalar(value), dtype: .float32) }])
    let error = #expect(throws: WeightError.self) { try LoRAFile(path: path) }
    #expect(error?.key == key && error?.problem.contains("must be finite") == true)
  }

  @Test func magnitudesMustBeFinite() throws {
    let file = try SafetensorsFile(path: Fixtures.model("lora_dora"))
    let key = try #require(file.keys.first { $0.hasSuffix("dora_scale") })
    let path = try changed(of: "lora_dora", [key: Self.with(.nan)])
    let error = #expect(throws: WeightError.self) { try LoRA(LoRAFile(path: path)) }
    #expect(error?.key == key)
  }

  /// Finite values can exceed the range of the dtype that they are written in.
  @Test func nothingBeyondTheRangeIsWritten() throws {
    let lora = try LoRA(LoRAFixture.lora("lora_all")).scaled(by: 1e9)
    let path = fixture.path("out.safetensors")
    let error = #expect(throws: Support.Issue.self) { try lora.write(to: path, dtype: .float16) }
    #expect(error?.description.contains("would not be finite in float16") == true)
    #expect(!FileManager.default.fileExists(atPath: path))
    #expect(throws: WeightError.self) {
      try CheckpointFusion(LoRAFixture.checkpoint(), loras: [(LoRAFixture.lora("lora_all"), 1e41)])
        .write(to: path)
    }
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  @Test func zeroAdaptersAreReported() throws {
    let zero = { (tensor: Tensor) in try Tensor.zeros(like: tensor) }
    let file = try SafetensorsFile(path: Fixtures.model("lora_comfyui_alpha"))
    let ups = file.keys.filter { $0.hasSuffix("lora_B.weight") || $0.hasSuffix("lora_up.weight") }
    let all = try LoRAFile(path: changed(Dictionary(uniqueKeysWithValues: ups.map { ($0, zero) })))
    let note = "\(all.path): all 13 adapters are zero; the LoRA changes nothing"
    #expect(try all.zeroNote == note)
    let checkpoint = try LoRAFixture.checkpoint()
    #expect(try TransformerBuilder(checkpoint).lora(all).notes == [note])
    let fusion = try CheckpointFusion(checkpoint, loras: [(all, 1)])
    #expect(try fusion.write(to: fixture.path("fused.safetensors")) == 0)
    #expect(fusion.adaptedCount == 13)
    let report = try LoRAReport(all, checkpoint: checkpoint)
    #expect(report.change == ["all 13 adapters are zero; the LoRA changes nothing"])
    #expect(report.layers.allSatisfy { $0.relative == 0 })

    let one = try LoRAFile(path: changed(to: "b.safetensors", [ups[0]: zero]))
    #expect(try one.zeroNote?.hasSuffix("1 of 13 adapters are zero and change nothing") == true)
    #expect(try LoRAFixture.lora("lora_comfyui_alpha").zeroNote == nil)
  }

  /// Changes that the weights' dtype can't represent are counted separately from those that it can.
  @Test func weightsThatDoNotChangeAreCounted() throws {
    let checkpoint = try LoRAFixture.checkpoint()
    let lora = try LoRAFixture.lora("lora_all")
    func count(_ strength: Double) throws -> Int {
      try CheckpointFusion(checkpoint, loras: [(lora, strength)]).write(
        to: fixture.path("f.safetensors"))
    }
    #expect(try count(1) == lora.modules.count)
    #expect(try count(1e-30) == 0)
  }

  /// Adapters that no transformer uses are listed separately from those that are used.
  @Test func reportsSayWhatIsUsed() throws {
    let connector = "diffusion_model.video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"
    let checkpoint = try LoRAFixture.checkpoint()
    func side(_ path: String) throws -> Int {
      try #require(checkpoint.source.entries["model.\(path).weight"]).shape[0]
    }
    let (a, b) = (try side(connector), try side(module))
    let alone = try fixture.file([
      "\(connector).lora_A.weight": [2, a], "\(connector).lora_B.weight": [a, 2],
    ])
    let report = try LoRAReport(LoRAFile(path: alone), checkpoint: checkpoint)
    #expect(report.layers.map(\.isUsed) == [false])
    #expect(report.warnings.first?.contains("ltx generate uses none of its adapters (1)") == true)
    let both = try fixture.file([
      "\(connector).lora_A.weight": [2, a], "\(connector).lora_B.weight": [a, 2],
      "\(module).lora_A.weight": [2, b], "\(module).lora_B.weight": [b, 2],
    ])
    let mixed = try LoRAReport(LoRAFile(path: both), checkpoint: checkpoint)
    #expect(mixed.layers.map(\.isUsed) == [true, false])
    #expect(mixed.warnings.first?.contains("does not use 1 of 2 adapters") == true)
    #expect(try LoRAReport(LoRAFixture.lora("lora_all"), checkpoint: checkpoint).warnings.isEmpty)
  }

  @Test func reportsGiveSharesOfTheBaseByModalityAndDepth() throws {
    let checkpoint = try LoRAFixture.checkpoint()
    let lora = try LoRAFixture.lora("lora_all")
    let report = try LoRAReport(lora, checkpoint: checkpoint)
    let layer = try #require(report.layers.first { $0.path == module })
    let weight = try checkpoint.source.tensor("model.\(module).weight").to(.float64)
    let change = try #require(LoRAFixture.changes(lora)[module])
    let share =
      try change.square().sum().item().squareRoot() / weight.square().sum().item().squareRoot()
    #expect(abs((layer.relative ?? 0) / share - 1) < 1e-6)
    #expect(report.parts.map(\.part) == ["video", "audio", "cross"])
    #expect(report.parts.allSatisfy { $0.relative ?? 0 > 0 })
    #expect(report.depth.map(\.part).first?.hasPrefix("block") == true)
    #expect(try LoRAReport(lora).layers.allSatisfy { $0.relative == nil })
  }
}
