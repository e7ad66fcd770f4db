import BlockExecution
import Foundation
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles

/// Trained adapters in LoRA files: saving, resuming, DoRA.
@Suite struct AdapterFileTests {
  private let fixture: LoRAFixture

  init() throws { fixture = try LoRAFixture() }

  private func fresh(
    rank: Int = 2, alpha: Double = 2, targets: [String] = ["to_q", "net.2"],
    isRankStabilized: Bool = false,
    kind: AdapterKind = LoRAAdapter.kind
  ) throws -> FreshAdapters {
    FreshAdapters(
      targets: targets, rank: rank, alpha: alpha, isRankStabilized: isRankStabilized, kind: kind,
      generator: try Generator(seed: 1))
  }

  private func build(_ fresh: FreshAdapters) throws -> Transformer {
    try LoRAFixture.checkpoint().transformer(LoadPolicy(dtype: .float32, freshAdapters: fresh))
  }

  /// Changes the parameters like training would.
  private func change(_ parameters: [Parameter]) throws {
    let random = try Generator(seed: 4)
    try withoutGrad {
      for parameter in parameters {
        let noise = try random.normal(parameter.tensor.shape)
        let isMagnitude = parameter.key.hasSuffix("lora_magnitude_vector")
        _ = try parameter.tensor.copy_(
          isMagnitude ? parameter.tensor * (1 + noise * 0.2) : noise * 0.2)
      }
    }
  }

  private func save(_ transformer: Transformer, scale: Double, dtype: DType = .float32) throws
    -> String
  {
    let path = fixture.path("\(UUID().uuidString).safetensors")
    try writeSafetensors(
      LoRAFile.tensors(of: transformer.parameters, scale: scale, dtype: dtype),
      metadata: ["format": "pt"],
      to: path)
    return path
  }

  /// A run with alpha 6 and rank stabilization continues as one with other settings, with the same
  /// effect.
  @Test(arguments: AdapterKinds.all)
  func aSavedRunIsUnchangedAndAnotherResumesFromIt(_ kind: AdapterKind) throws {
    let first = try fresh(alpha: 6, isRankStabilized: true, kind: kind)
    #expect(first.scale == 6 / 2.0.squareRoot())
    let trained = try build(first)
    try change(trained.parameters)
    let wanted = try LoRAFixture.velocity(trained)
    let file = try LoRAFile(path: save(trained, scale: first.scale))
    #expect(file.format == .comfyUI)
    #expect(
      try SafetensorsFile(path: file.path).keys
        == LoRAFile.shapes(of: trained.parameters).map(\.key).sorted())
    #expect(file.modules.allSatisfy { $0.kind == kind })
    #expect(file.modules.allSatisfy { $0.scale == 1 || !kind.type.absorbsScale })

    let builder = try TransformerBuilder(LoRAFixture.checkpoint()).dtype(.float32).lora(file)
    try TrainingFixture.expectEqual(
      LoRAFixture.velocity(builder.build()), wanted, within: 1e-5, "generation")
    let plain = try LoRAFixture.checkpoint().transformer(LoadPolicy(dtype: .float32))
    #expect(try LoRAFixture.distance(LoRAFixture.velocity(plain), wanted) > 0.01)

    let second = try fresh(alpha: 1, kind: kind)
    let next = try build(second.continuing(file.initialAdapters(scale: second.scale)))
    try TrainingFixture.expectEqual(LoRAFixture.velocity(next), wanted, within: 1e-5, "continuing")
    #expect(next.parameters.map(\.key) == trained.parameters.map(\.key))
    for parameter in next.parameters {
      #expect(parameter.tensor.requiresGrad && parameter.tensor.isLeaf)
    }
    // Training must not write into the file.
    let before = try file.modules[0].down.clone()
    try change(next.parameters)
    #expect(try Tensor.isEqual(file.modules[0].down, before))
  }

  /// Files of other programs, each with its own names and alphas. Ranks differ by layer, so one
  /// rank is tested at a time.
  @Test(arguments: ["lora_kohya", "lora_comfyui_alpha", "lora_diffusers"])
  func aRunResumesFromAnyFormat(_ name: String) throws {
    let file = try LoRAFixture.lora(name)
    let modules = file.modules.filter { $0.rank == 2 }
    #expect(modules.contains { $0.scale == 4 } && modules.contains { $0.scale == 1.5 })
    let fresh = try fresh(
      alpha: 3, targets: modules.map { String($0.path.dropFirst("diffusion_model.".count)) })
    let all = try file.initialAdapters(scale: fresh.scale)
    let paths = Set(modules.map { LoRAFile.checkpointPath($0.path) })
    let initial = InitialAdapters(
      file: file.path, adapters: all.adapters.filter { paths.contains($0.key) })
    let transformer = try build(fresh.continuing(initial))
    let values = Dictionary(
      uniqueKeysWithValues: transformer.parameters.map { ($0.key, $0.tensor) })
    for module in modules {
      let path = LoRAFile.checkpointPath(module.path)
      let (down, up) = (
        try #require(values["\(path).lora_A.weight"]), try #require(values["\(path).lora_B.weight"])
      )
      try TrainingFixture.expectEqual(
        up.detach().matmul(down.detach()) * fresh.scale,
        module.up.to(.float64).matmul(module.down.to(.float64)) * module.scale, within: 1e-6, path)
    }
  }

  @Test func adaptersOfAnotherRunAreRefusedWithAllDifferences() throws {
    let trained = try build(fresh())
    let file = try LoRAFile(path: save(trained, scale: 1))
    func mismatch(_ fresh: FreshAdapters) throws -> Support.Issue {
      try #require(
        #expect(throws: Support.Issue.self) {
          try build(fresh.continuing(file.initialAdapters(scale: fresh.scale)))
        })
    }
    let paths = file.modules.map { LoRAFile.checkpointPath($0.path) }.sorted()
    func first(_ ending: String) throws -> String {
      try #require(paths.first { $0.hasSuffix(ending) })
    }
    let other = try mismatch(fresh(targets: ["to_q", "to_k"]))
    #expect(other.subject == ["initialAdapters", .file(file.path)])
    let missing = try first(".to_q").replacing(".to_q", with: ".to_k")
    #expect(
      try other.problem == "training can't continue from this LoRA: it has no adapter for "
        + "\(missing) (and \(3 * 6 - 1) more); the run does not train \(first(".net.2")) (and "
        + "\(3 * 2 - 1) more)")
    let rank = try mismatch(fresh(rank: 3))
    #expect(rank.problem.hasSuffix(" has rank 2, the run 3 (and \(3 * 8 - 1) more)"))
    let kind = try mismatch(fresh(kind: DoRAAdapter.kind))
    #expect(kind.problem.hasSuffix(" is LoRA, the run trains DoRA (and \(3 * 8 - 1) more)"))
    let video = #expect(throws: Support.Issue.self) {
      let fresh = try fresh()
      _ = try LoRAFixture.checkpoint().transformer(
        LoadPolicy(freshAdapters: fresh.continuing(file.initialAdapters(scale: 1))),
        modalities: .video)
    }
    let others = paths.filter { LoRAPart(path: $0) != .video }
    #expect(
      try video?.problem == "training can't continue from this LoRA: the run does not train "
        + "\(#require(others.first)) (and \(others.count - 1) more)")
    #expect(throws: WeightError.self) { try file.initialAdapters(scale: 0) }
  }

  // MARK: DoRA

  /// Strength interpolates from the unchanged layer to the adapted one. A fused weight is rounded
  /// to the file's bfloat16.
  @Test(arguments: [1, 0.5, -0.7])
  func aDoRABesideTheWeightAndOneFusedIntoItAgree(_ strength: Double) throws {
    let file = try LoRAFixture.lora("lora_dora")
    let builder = try TransformerBuilder(LoRAFixture.checkpoint()).dtype(.float32).lora(
      file, strength: strength)
    let separate = try LoRAFixture.velocity(builder.build())
    try TrainingFixture.expectEqual(
      LoRAFixture.velocity(builder.adapters(.fused).build()), separate, within: 5e-3)
    let plain = try LoRAFixture.velocity(
      LoRAFixture.checkpoint().transformer(LoadPolicy(dtype: .float32)))
    #expect(try LoRAFixture.distance(separate, plain) > 0.02)
  }

  /// The formula of the paper, written out, for the weights that a fused checkpoint gets.
  @Test func aFusedWeightIsThatOfThePaper() throws {
    let file = try LoRAFixture.lora("lora_dora")
    let source = try LoRAFixture.checkpoint().source
    let path = fixture.path("fused.safetensors")
    try CheckpointFusion(LoRAFixture.checkpoint(), loras: [(file, 0.5)]).write(to: path)
    let fused = try SafetensorsFile(path: path)
    for module in file.modules {
      let key = "\(LoRAFile.checkpointPath(module.path)).weight"
      let w = try source.tensor(key).to(.float64)
      let sum = try w + module.up.to(.float64).matmul(module.down.to(.float64)) * module.scale
      let magnitude = try #require(module.magnitude).to(.float64).unsqueeze(1)
      let changed = try sum * magnitude / sum.square().sum([1], keepdim: true).sqrt()
      let wanted = try w + (changed - w) * 0.5
      try TrainingFixture.expectEqual(
        fused.tensor(key), wanted, within: source.tensor(key).dtype == .bfloat16 ? 0x1p-8 : 2e-6,
        key)
    }
  }

  @Test(arguments: LoRAFormat.allCases)
  func magnitudesKeepTheirPlaceInEveryFormat(_ format: LoRAFormat) throws {
    let file = try LoRAFixture.lora("lora_dora")
    let path = fixture.path("converted.safetensors")
    try LoRA(file).write(to: path, format: format)
    let again = try LoRAFile(path: path)
    #expect(again.format == format && again.modules.count == file.modules.count)
    for (a, b) in zip(file.modules, again.modules) {
      #expect(a.path == b.path)
      #expect(try Tensor.isEqual(#require(a.magnitude), #require(b.magnitude)))
    }
    #expect(try LoRAReport(again).kinds == ["DoRA"])
  }

  @Test func unsupportedDoRAOperationsAreRefused() throws {
    let lora = try LoRA(LoRAFixture.lora("lora_dora"))
    let plain = try LoRA(LoRAFixture.lora("lora_video"))
    for call in [
      { try lora.scaled(by: 2) }, { try lora.resized(to: .rank(1)).lora },
      { try LoRA.merged([(plain, 1), (lora, 1)]) }, { try LoRA.merged([(lora, 0.5), (plain, 1)]) },
    ] as [() throws -> LoRA] {
      let error = #expect(throws: Support.Issue.self) { try call() }
      #expect(error?.description.contains("is DoRA") == true, "\(error?.description ?? "")")
    }
    #expect(try lora.scaled(by: 1).layers.count == lora.layers.count)
  }

  @Test func aMagnitudeOfTheWrongSizeOrAloneIsNamed() throws {
    let module = "diffusion_model.proj_out"
    let factors = ["\(module).lora_A.weight": [2, 8], "\(module).lora_B.weight": [6, 2]]
    for shape in [[5], [1, 6], [6, 1, 1]] {
      let path = try fixture.file(factors.merging(["\(module).dora_scale": shape]) { a, _ in a })
      let error = #expect(throws: WeightError.self) { try LoRAFile(path: path) }
      #expect(error?.key == "\(module).dora_scale")
      #expect(error?.problem.contains("for each of the 6 outputs") == true)
    }
    let alone = try fixture.file(["\(module).lora_magnitude_vector": [6]])
    let error = #expect(throws: WeightError.self) { try LoRAFile(path: alone) }
    #expect(error?.problem.contains("a magnitude of DoRA but no A") == true)
  }
}
