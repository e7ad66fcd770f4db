import Foundation
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles

@Suite struct LoRAToolTests {
  let fixture: LoRAFixture

  init() throws { fixture = try LoRAFixture() }

  private func written(
    _ lora: LoRA, format: LoRAFormat = .comfyUI, dtype: DType? = nil,
    name: String = "out.safetensors"
  ) throws -> LoRAFile {
    try lora.write(to: fixture.path(name), format: format, dtype: dtype)
    return try LoRAFile(path: fixture.path(name))
  }

  @Test(arguments: ["lora_all", "lora_bfloat16"])
  func conversionsRoundTripExactly(_ name: String) throws {
    let original = try LoRAFixture.lora(name)
    var lora = try LoRA(original)
    for format in [LoRAFormat.diffusers, .kohya, .comfyUI] {
      let file = try written(lora, format: format, name: "\(format).safetensors")
      #expect(file.format == format)
      #expect(file.modules.allSatisfy { $0.scale == 1 })
      lora = try LoRA(file)
    }
    let end = try SafetensorsFile(path: fixture.path("comfyUI.safetensors"))
    let start = try SafetensorsFile(path: Fixtures.model(name))
    #expect(end.keys == start.keys)
    for key in start.keys {
      #expect(end.entries[key]?.dtype == start.entries[key]?.dtype)
      #expect(try Tensor.isEqual(end.tensor(key), start.tensor(key)), "\(key)")
    }
  }

  @Test(arguments: ["lora_kohya", "lora_diffusers"])
  func alphaBecomesPartOfB(_ name: String) throws {
    let original = try LoRAFixture.lora(name)
    let file = try written(LoRA(original))
    #expect(file.format == .comfyUI)
    #expect(file.modules.allSatisfy { $0.scale == 1 })
    #expect(file.metadata["lora_adapter_metadata"] == nil)
    let (got, want) = (try LoRAFixture.changes(file), try LoRAFixture.changes(original))
    #expect(got.count == want.count)
    for (path, change) in want {
      #expect(try LoRAFixture.distance(#require(got[path]), change) < 1e-6, "\(path)")
    }
  }

  @Test func aMergeIsTheStack() throws {
    let (a, b) = (try LoRAFixture.lora("lora_kohya"), try LoRAFixture.lora("lora_all"))
    let merged = try written(LoRA.merged([(LoRA(a), 0.8), (LoRA(b), -0.3)]))
    let (first, second) = (try LoRAFixture.changes(a), try LoRAFixture.changes(b))
    let all = Set(first.keys).union(second.keys)
    #expect(merged.modules.map(\.path) == all.sorted())
    #expect(first.keys.contains { second[$0] != nil }, "the two have layers in common")
    for (path, change) in try LoRAFixture.changes(merged) {
      let parts = try [first[path].map { try $0 * 0.8 }, second[path].map { try $0 * -0.3 }]
        .compactMap { $0 }
      let want = parts.count == 2 ? try parts[0] + parts[1] : parts[0]
      #expect(try LoRAFixture.distance(change, want) < 1e-6, "\(path)")
    }
    let shared = try #require(
      merged.modules.first { first[$0.path] != nil && second[$0.path] != nil })
    let ranks = (a.modules + b.modules).filter { $0.path == shared.path }.map(\.rank)
    #expect(shared.rank == ranks.reduce(0) { $0 + ($1 ?? 0) })
  }

  @Test func incompatibleLoRAsAreNotMerged() throws {
    let lora = try LoRA(LoRAFixture.lora("lora_all"))
    #expect(throws: Support.Issue.self) { try LoRA.merged([(lora, .nan)]) }
    let path = lora.layers[0].path
    let wide = try fixture.file([
      "\(path).lora_A.weight": [2, 7], "\(path).lora_B.weight": [9, 2],
    ])
    let error = #expect(throws: Support.Issue.self) {
      try LoRA.merged([(lora, 1), (LoRA(LoRAFile(path: wide)), 1)])
    }
    #expect(error?.description.contains(path) == true)
    #expect(error?.description.contains("lora_A of [2, 7] and lora_B of [9, 2]") == true)

    func withMetadata(_ metadata: [String: String]) -> LoRA {
      LoRA(name: "a", layers: lora.layers, metadata: metadata, base: nil)
    }
    let half = withMetadata(["reference_downscale_factor": "2", "trigger_word": "A"])
    let whole = withMetadata(["reference_downscale_factor": "1"])
    #expect(throws: Support.Issue.self) { try LoRA.merged([(half, 1), (whole, 1)]) }
    let same = withMetadata(["reference_downscale_factor": "2", "trigger_word": "B"])
    #expect(
      try LoRA.merged([(half, 1), (same, 1)]).metadata == ["reference_downscale_factor": "2"])
  }

  @Test func resizingKeepsTheLeadingSingularVectors() throws {
    let original = try LoRAFixture.lora("lora_all")
    let (resized, reports) = try LoRA(original).resized(to: .rank(1))
    let file = try written(resized)
    let (got, want) = (try LoRAFixture.changes(file), try LoRAFixture.changes(original))
    #expect(reports.count == want.count)
    for report in reports {
      #expect(report.oldRank == 3 && report.newRank == 1)
      let (change, whole) = (try #require(got[report.path]), try #require(want[report.path]))
      let energy = try whole.square().sum().item()
      #expect(abs(report.energy - energy) < 1e-9 * energy)
      // The best approximation is a projection: the kept and the lost energy add up.
      let kept = try change.square().sum().item()
      let lost = try (whole - change).square().sum().item()
      #expect(abs(report.keptEnergy - kept) < 1e-5 * energy)
      #expect(abs(kept + lost - energy) < 1e-5 * energy)
      // No other rank 1 matrix is closer: the largest singular value, by power iteration.
      var v = try whole.transpose(0, 1).matmul(whole.narrow(1, 0, 1))
      for _ in 0..<200 {
        v = try whole.transpose(0, 1).matmul(whole.matmul(v))
        v = try v / v.square().sum().sqrt()
      }
      let largest = try whole.matmul(v).square().sum().item()
      #expect(abs(report.keptEnergy - largest) < 1e-4 * energy, "\(report.path)")
    }
    #expect(file.modules.allSatisfy { $0.rank == 1 })
  }

  @Test func energyDecidesTheRanks() throws {
    let lora = try LoRA(LoRAFixture.lora("lora_all"))
    let (_, reports) = try lora.resized(to: .energy(0.8))
    #expect(Set(reports.map(\.newRank)).count > 1)
    for report in reports { #expect(report.keptShare >= 0.8) }
    let (fewer, _) = try lora.resized(to: .rank(1))
    // Nothing is lost if nothing is cut off.
    let (same, whole) = try lora.resized(to: .energy(1))
    #expect(whole.allSatisfy { $0.newRank == $0.oldRank && $0.keptShare == 1 })
    #expect(try zip(same.layers, lora.layers).allSatisfy { try Tensor.isEqual($0.up, $1.up) })
    // Resizing a merge of a LoRA with itself restores the LoRA's rank.
    let twice = try LoRA.merged([(fewer, 0.5), (fewer, 0.5)])
    let (once, all) = try twice.resized(to: .energy(0.999999))
    #expect(once.layers.allSatisfy { $0.rank == 1 })
    #expect(all.allSatisfy { $0.keptShare > 0.999999 })
    var broken = lora
    broken.layers[3].adapter = try broken.layers[3].adapter.absorbing(.nan)
    let error = #expect(throws: Support.Issue.self) { try broken.resized(to: .rank(2)) }
    #expect(error?.description.contains(broken.layers[3].path) == true)
    for size in [LoRA.Size.rank(0), .energy(0), .energy(1.5), .energy(.nan)] {
      #expect(throws: Support.Issue.self) { try lora.resized(to: size) }
    }
  }

  @Test func ranksBeyondTheLayersSizesAndZeros() throws {
    let key = "diffusion_model.proj_out"
    try writeSafetensors(
      [
        ("\(key).lora_A.weight", try Generator(seed: 3).normal([12, 5])),
        ("\(key).lora_B.weight", try Generator(seed: 4).normal([7, 12])),
        ("diffusion_model.patchify_proj.lora_A.weight", try .ones([4, 6])),
        ("diffusion_model.patchify_proj.lora_B.weight", try .zeros([6, 4])),
      ], to: fixture.path("wide.safetensors"))
    let original = try LoRAFile(path: fixture.path("wide.safetensors"))
    let want = try LoRAFixture.changes(original)
    for rank in [5, 9] {
      let (resized, reports) = try LoRA(original).resized(to: .rank(rank))
      let got = try LoRAFixture.changes(written(resized))
      #expect(try LoRAFixture.distance(#require(got[key]), #require(want[key])) < 1e-6)
      #expect(reports.allSatisfy { abs($0.keptShare - 1) < 1e-9 })
    }
    let (none, reports) = try LoRA(original).resized(to: .rank(2))
    #expect(reports.first { $0.energy == 0 }?.keptShare == 1)
    let zeros = try #require(none.layers.first { $0.path == "diffusion_model.patchify_proj" })
    #expect(try zeros.up.matmul(zeros.down.to(zeros.up.dtype)).abs().max().item() == 0)
  }

  @Test func strippingAndScalingByPart() throws {
    let original = try LoRAFixture.lora("lora_all")
    let lora = try LoRA(original)
    let video = try written(lora.stripped(of: [.audio, .cross]))
    #expect(!video.modules.isEmpty)
    #expect(video.modules.allSatisfy { LoRAPart(path: $0.path) == .video })
    let error = #expect(throws: Support.Issue.self) { try LoRA(video).stripped(of: [.audio]) }
    #expect(error?.description.contains("has no audio adapters") == true)
    #expect(throws: Support.Issue.self) { try LoRA(video).stripped(of: [.video]) }

    let scaled = try LoRAFixture.changes(written(lora.scaled(by: 0.3, parts: [.audio])))
    for (path, change) in try LoRAFixture.changes(original) {
      let want = LoRAPart(path: path) == .audio ? try change * 0.3 : change
      #expect(try LoRAFixture.distance(#require(scaled[path]), want) < 1e-6)
    }
    #expect(throws: Support.Issue.self) { try lora.scaled(by: .infinity) }
  }

  @Test func reports() throws {
    let file = try LoRAFixture.lora("lora_kohya")
    let report = try LoRAReport(file, checkpoint: LoRAFixture.checkpoint())
    let changes = try LoRAFixture.changes(file)
    for layer in report.layers {
      let norm = try #require(changes[layer.path]).square().sum().sqrt().item()
      #expect(abs(layer.norm - norm) < 1e-9 * norm)
    }
    #expect(report.parts.map(\.layers).reduce(0, +) == 13)
    #expect(report.ranks == [2, 3, 4])
    #expect(report.hasAlpha)
    #expect(report.base == "LTX-2")
    #expect(report.fits == Fixtures.model("ltx2_transformer"))
    #expect(report.targets.contains { $0.name == "ff.net.0.proj" && $0.layers == 1 })
    // Without a checkpoint, the layers show the base model.
    #expect(
      try LoRAReport(file).baseReason.contains("6 rows")
        || LoRAReport(file).baseReason.contains("caption"))
    #expect(
      try LoRAReport(LoRAFixture.lora("lora_all")).base == "LTX-2, LTX-2.3 or LTX-2.5")
    let gate = "diffusion_model.transformer_blocks.0.attn1.to_gate_logits"
    let new = try fixture.file(
      ["\(gate).lora_A.weight": [2, 8], "\(gate).lora_B.weight": [4, 2]],
      metadata: ["ss_tag_frequency": #"{"a": {"cat": 3, "sks": 5}, "b": {"cat": 1}}"#])
    #expect(try LoRAReport(LoRAFile(path: new)).base == "LTX-2.3 or LTX-2.5")
    #expect(try LoRAReport(LoRAFile(path: new)).triggerWord == "sks")
    #expect(throws: WeightError.self) {
      try LoRAReport(LoRAFile(path: new), checkpoint: LoRAFixture.checkpoint())
    }
  }
}
