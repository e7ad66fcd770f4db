import Foundation
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles

/// Files of LoKr and LoHa: reading, stacking, and the tools.
@Suite struct AdapterKindFileTests {
  private let fixture: LoRAFixture
  private let modules = [
    "diffusion_model.transformer_blocks.0.attn1.to_q",
    "diffusion_model.transformer_blocks.1.ff.net.2",
    "diffusion_model.transformer_blocks.2.audio_attn1.to_v",
  ]

  init() throws { fixture = try LoRAFixture() }

  static let kinds = [LoKrAdapter.kind, LoHaAdapter.kind]

  private func file(_ kind: AdapterKind) throws -> LoRAFile {
    try LoRAFile(path: fixture.file(of: kind, modules, name: "\(kind.rawValue).safetensors"))
  }

  private func written(_ lora: LoRA, _ format: LoRAFormat = .comfyUI) throws -> LoRAFile {
    let path = fixture.path("\(UUID().uuidString).safetensors")
    try lora.write(to: path, format: format)
    return try LoRAFile(path: path)
  }

  private func expectSameChanges(
    _ got: LoRAFile, _ want: [String: Tensor], sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let changes = try LoRAFixture.changes(got)
    #expect(changes.keys.sorted() == want.keys.sorted(), sourceLocation: sourceLocation)
    for (path, change) in want {
      let found = try #require(changes[path], sourceLocation: sourceLocation)
      #expect(
        try LoRAFixture.distance(found, change) < 2e-6, "\(path)", sourceLocation: sourceLocation)
    }
  }

  @Test(arguments: kinds)
  func alphaAndEveryPrefixAreRead(_ kind: AdapterKind) throws {
    let own = try file(kind)
    #expect(own.modules.allSatisfy { $0.kind == kind && $0.adapter.scale == 1.5 })
    try own.requireFit(LoRAFixture.checkpoint())
    let stored = try SafetensorsFile(path: own.path)
    for prefix in ["lycoris_", "lora_unet_", "lora_transformer_"] {
      let path = fixture.path("\(prefix).safetensors")
      try writeSafetensors(
        stored.keys.map { key in
          let parts = key.split(separator: ".")
          let flat = parts.dropFirst().dropLast().joined(separator: "_")
          return ("\(prefix)\(flat).\(parts[parts.count - 1])", try stored.tensor(key))
        }, to: path)
      let other = try LoRAFile(path: path)
      #expect(other.format == .kohya)
      try expectSameChanges(other, LoRAFixture.changes(own))
    }
    #expect(LoRAFile.isLoRA(path: own.path))
  }

  /// Fused weights are rounded to bfloat16.
  @Test(arguments: kinds)
  func stackedWithALoRASeparateAndFusedAdaptersAgree(_ kind: AdapterKind) throws {
    let builder = try TransformerBuilder(LoRAFixture.checkpoint()).dtype(.float32)
    let stacked = try builder.lora(file(kind), strength: 0.8)
      .lora(Fixtures.model("lora_all"), strength: -0.5)
    let separate = try LoRAFixture.velocity(stacked.build())
    let fused = try LoRAFixture.velocity(stacked.adapters(.fused).build())
    #expect(try LoRAFixture.distance(fused, separate) < 3e-2)
    let alone = try builder.lora(Fixtures.model("lora_all"), strength: -0.5)
    #expect(try LoRAFixture.distance(LoRAFixture.velocity(alone.build()), separate) > 1e-3)
  }

  @Test(arguments: kinds)
  func aCheckpointWithTheAdaptersInItHasTheirChanges(_ kind: AdapterKind) throws {
    let own = try file(kind)
    let checkpoint = try LoRAFixture.checkpoint()
    let path = fixture.path("fused.safetensors")
    try CheckpointFusion(checkpoint, loras: [(own, 0.5)]).write(to: path)
    let fused = try SafetensorsFile(path: path)
    for (module, change) in try LoRAFixture.changes(own) {
      let key = "\(LoRAFile.checkpointPath(module)).weight"
      let want = try checkpoint.source.tensor(key).to(.float64) + change * 0.5
      #expect(try LoRAFixture.distance(fused.tensor(key), want) < 0x1p-7, "\(key)")
    }
  }

  @Test(arguments: kinds)
  func conversionsRoundTripExactlyAndDiffusersIsRefused(_ kind: AdapterKind) throws {
    let own = try file(kind)
    let there = try written(LoRA(own), .kohya)
    #expect(there.format == .kohya)
    let back = try SafetensorsFile(path: written(LoRA(there)).path)
    let start = try SafetensorsFile(path: own.path)
    #expect(back.keys == start.keys)
    for key in start.keys { #expect(try Tensor.isEqual(back.tensor(key), start.tensor(key))) }
    let error = #expect(throws: Support.Issue.self) { try LoRA(own).requireNames(.diffusers) }
    #expect(error?.description.contains("is \(kind.title), which diffusers does not load") == true)
  }

  @Test(arguments: kinds)
  func scalingStrippingAndResizing(_ kind: AdapterKind) throws {
    let own = try file(kind)
    let changes = try LoRAFixture.changes(own)
    let scaled = try written(LoRA(own).scaled(by: -0.3))
    #expect(scaled.modules.allSatisfy { $0.kind == kind })
    try expectSameChanges(scaled, changes.mapValues { try $0 * -0.3 })
    let video = try written(LoRA(own).stripped(of: [.audio]))
    try expectSameChanges(video, changes.filter { !$0.key.contains("audio") })
    // A layer stays unchanged if nothing is cut off, and becomes a LoRA otherwise.
    let (same, _) = try LoRA(own).resized(to: .rank(1000))
    #expect(same.layers.allSatisfy { $0.kind == kind })
    let (small, reports) = try LoRA(own).resized(to: .rank(1))
    #expect(small.layers.allSatisfy { $0.kind == LoRAAdapter.kind && $0.rank == 1 })
    let file = try written(small)
    for report in reports {
      let change = try #require(LoRAFixture.changes(file)[report.path])
      let kept = try change.square().sum().item()
      #expect(abs(report.keptEnergy - kept) < 1e-4 * report.energy, "\(report.path)")
    }
  }

  @Test(arguments: kinds)
  func aMergeWithALoRAIsTheStack(_ kind: AdapterKind) throws {
    let own = try file(kind)
    let plain = try LoRAFixture.lora("lora_all")
    let merged = try written(LoRA.merged([(LoRA(own), 0.8), (LoRA(plain), -0.3)]))
    var want = try LoRAFixture.changes(plain).mapValues { try $0 * -0.3 }
    for (path, change) in try LoRAFixture.changes(own) {
      want[path] = try want[path].map { try $0 + change * 0.8 } ?? change * 0.8
    }
    try expectSameChanges(merged, want)
  }

  @Test func adaptersWithoutTwoFactorsAreFusedOrRefused() throws {
    var settings = AdapterSettings(rank: 2, alpha: 3)
    settings.isFullMatrix = true
    let full = try LoRAFile(
      path: fixture.file(
        of: LoKrAdapter.kind, modules, settings: settings, name: "full.safetensors"))
    #expect(full.modules.allSatisfy { $0.adapter.rank == nil && $0.adapter.scale == 1 })
    let lora = try LoRA(full)
    for call in [
      { try lora.resized(to: .rank(1)).lora }, { try LoRA.merged([(lora, 1), (lora, 1)]) },
    ] as [() throws -> LoRA] {
      let error = #expect(throws: Support.Issue.self) { try call() }
      #expect(error?.description.contains("is LoKr of so high a rank") == true)
    }
    #expect(try LoRAReport(full).layers.allSatisfy { $0.rank == nil && $0.kind == "LoKr" })
    let builder = try TransformerBuilder(LoRAFixture.checkpoint()).dtype(.float32).lora(full)
    #expect(
      try LoRAFixture.distance(
        LoRAFixture.velocity(builder.adapters(.fused).build()),
        LoRAFixture.velocity(builder.adapters(.separate).build())) < 3e-2)
  }

  @Test func aMagnitudeBesideLoKrIsRefused() throws {
    let module = "diffusion_model.proj_out"
    let path = try fixture.file([
      "\(module).lokr_w1": [2, 2], "\(module).lokr_w2": [3, 4], "\(module).dora_scale": [6, 1],
    ])
    let error = #expect(throws: WeightError.self) { try LoRAFile(path: path) }
    #expect(error?.key == "\(module).dora_scale")
    #expect(error?.problem.contains("is beside tensors of LoKr") == true)
  }

  @Test(arguments: AdapterKinds.all)
  func contentsThatAreNotFiniteAreNamed(_ kind: AdapterKind) throws {
    let own = try SafetensorsFile(path: fixture.file(of: kind, [modules[0]]))
    let last = try #require(own.keys.last { !$0.hasSuffix(".alpha") })
    let path = fixture.path("broken.safetensors")
    try writeSafetensors(
      own.keys.map { ($0, $0 == last ? try own.tensor($0) * Double.nan : try own.tensor($0)) },
      to: path)
    let error = #expect(throws: WeightError.self) { try LoRAFile(path: path).requireFinite() }
    #expect(error?.key == last)
  }
}
