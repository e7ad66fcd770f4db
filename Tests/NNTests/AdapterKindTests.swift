import Foundation
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import NN

/// LoKr and LoHa against LyCORIS (Tests/Oracles/lycoris_cases.py).
@Suite struct AdapterKindTests {
  private static let folder = "\(Fixtures.root)/lycoris"
  private let recorded: SafetensorsFile

  init() throws { recorded = try SafetensorsFile(path: "\(Self.folder)/layers.safetensors") }

  static let cases = [
    "lokr", "lokr_both", "lokr_factor", "lokr_rs", "lokr_full", "loha", "loha_wide", "loha_rs",
  ]

  private func adapter(_ name: String) throws -> any Adapter {
    let prefix = "\(name).adapter."
    var tensors: [String: Tensor] = [:]
    for key in recorded.keys where key.hasPrefix(prefix) {
      tensors[String(key.dropFirst(prefix.count))] = try recorded.tensor(key).clone()
    }
    let stored = tensors.removeValue(forKey: "alpha")
    let alpha: Double = try #require(stored).to(.float64).item()
    let kind = try #require(AdapterKinds.kind(of: Set(tensors.keys)))
    #expect(kind.rawValue == name.prefix(4))
    var adapter: any Adapter = try kind.type.init(tensors)
    if let rank = adapter.rank { adapter.scale = alpha / Double(rank) }
    return adapter
  }

  /// A layer with the recorded weight.
  private func linear(
    _ name: String, _ adapter: any Adapter, _ placement: AdapterSet.Placement,
    _ fixture: LoRAFixture
  ) throws -> (layer: Linear, parameters: [Parameter]) {
    let path = fixture.path("\(name).safetensors")
    try writeSafetensors(
      [
        ("l.weight", recorded.tensor("\(name).weight")),
        ("l.bias", recorded.tensor("\(name).bias")),
      ], to: path)
    var adapters = AdapterSet()
    adapters.placement = placement
    adapters.add(adapter, to: "l")
    let root = Weights(
      try SafetensorsFile(path: path), LoadPolicy(dtype: .float32, adapters: adapters))
    return (try Linear(root / "l"), root.parameters)
  }

  private func expectEqual(
    _ got: Tensor?, _ key: String, within tolerance: Double,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let got = try #require(got, sourceLocation: sourceLocation)
    let want = try recorded.tensor(key)
    #expect(got.shape == want.shape, "\(key)", sourceLocation: sourceLocation)
    #expect(
      try LoRAFixture.distance(got, want) <= tolerance, "\(key)", sourceLocation: sourceLocation)
  }

  /// Sums of a few float32 products in another order differ by less than 5e-6 of the largest value.
  @Test(arguments: cases)
  func layersTheirGradientsAndMergedWeightsAreThoseOfLyCORIS(_ name: String) throws {
    let fixture = try LoRAFixture()
    let given = try adapter(name)
    let trained = try given.mapTensors { try $1.clone().asLeaf() }
    let (layer, parameters) = try linear(name, trained, .separate, fixture)
    #expect(parameters.map(\.key) == given.tensors.map { "l.\($0.role)" })
    let x = try recorded.tensor("\(name).x").clone().asLeaf()
    let y = try layer(x)
    try expectEqual(y, "\(name).y", within: 5e-6)
    let gradients = try grad(
      of: [y], wrt: [x] + parameters.map(\.tensor), gradOutputs: [recorded.tensor("\(name).dy")])
    try expectEqual(gradients[0], "\(name).grad.x", within: 5e-6)
    for (gradient, role) in zip(gradients.dropFirst(), given.tensors.map(\.role)) {
      try expectEqual(gradient, "\(name).grad.\(role)", within: 5e-6)
    }
    let weight = try recorded.tensor("\(name).weight")
    try expectEqual(weight + given.change(ofWeight: weight), "\(name).merged", within: 2e-6)
    // Fusing rounds to bfloat16, like ltx-core for LoRA.
    let fused = try linear(name, given, .fused, fixture).layer
    #expect(fused.adapters.isEmpty)
    try expectEqual(fused.weight, "\(name).merged", within: 0x1p-7)
  }

  /// The forms that the tools use equal the change itself.
  @Test(arguments: cases)
  func normsLowRankFormsAndFactorsAgreeWithTheChange(_ name: String) throws {
    let adapter = try adapter(name)
    let weight = try recorded.tensor("\(name).weight")
    let change = try adapter.change(ofWeight: weight).to(.float64)
    let square = try change.square().sum().item()
    #expect(try abs(adapter.squaredNorm(onto: weight) / square - 1) < 1e-5)
    #expect(try abs(adapter.squaredNorm(onto: nil) / square - 1) < 1e-5)
    #expect(adapter.weightShape == weight.shape)
    if let lowRank = try adapter.lowRank() {
      #expect(try LoRAFixture.distance(lowRank.change(ofWeight: weight), change) < 2e-6)
    }
    #expect(
      try LoRAFixture.distance(adapter.absorbing(-0.5).change(ofWeight: weight), change * -0.5)
        < 2e-6)
    #expect(
      try LoRAFixture.distance(adapter.rescaled(to: 0.25).change(ofWeight: weight), change) < 2e-6)
    #expect(
      try LoRAFixture.distance(
        adapter.with(strength: 0.3).change(ofWeight: weight), change * 0.3) < 2e-6)
  }

  private struct Initial: Decodable {
    struct Case: Decodable {
      let kind: String
      let outputs, inputs, rank, factor: Int
      let decomposeBoth, fullMatrix: Bool
      let shapes: [String: [Int]]
      let zeros: [String]
      let deviations: [String: Double]
    }
    let cases: [Case]
    let factorizations: [[Int]]
  }

  @Test func newAdaptersHaveTheShapesAndTheInitialValuesOfLyCORIS() throws {
    let json = try Data(contentsOf: URL(fileURLWithPath: "\(Self.folder)/initial.json"))
    let initial = try JSONDecoder().decode(Initial.self, from: json)
    #expect(initial.cases.count == 36 && initial.factorizations.count == 70)
    for row in initial.factorizations {
      #expect(LoKrAdapter.factorization(row[0], row[1]) == (row[2], row[3]), "\(row)")
    }
    for recorded in initial.cases {
      let kind = try #require(AdapterKind(rawValue: recorded.kind))
      var settings = AdapterSettings(rank: recorded.rank, alpha: 1)
      settings.factor = recorded.factor
      settings.decomposesBoth = recorded.decomposeBoth
      settings.isFullMatrix = recorded.fullMatrix
      let name = "\(recorded.kind) \(recorded.outputs) x \(recorded.inputs), rank \(recorded.rank)"
      let shapes = kind.type.shapes(
        inputs: recorded.inputs, outputs: recorded.outputs, settings)
      #expect(shapes == recorded.shapes, "\(name)")
      guard recorded.outputs <= 4096, recorded.inputs <= 4096 else { continue }
      let layer = BaseLayer(weight: Sizes(shape: [recorded.outputs, recorded.inputs]))
      let adapter = try kind.type.init(
        for: layer, settings, generator: Generator(seed: 3), dtype: .float32)
      let zeros = try adapter.tensors.filter { try $0.tensor.largestValue() == 0 }.map(\.role)
      #expect(zeros == recorded.zeros, "\(name)")
      #expect(zeros.count == 1)
      for (role, deviation) in recorded.deviations {
        let tensor = try #require(adapter[role]).to(.float64)
        let found = try (tensor - tensor.mean()).square().mean().item().squareRoot()
        #expect(abs(found - deviation) <= 0.05 * deviation, "\(name): \(role)")
      }
    }
  }

  private struct Sizes: StoredWeight {
    let shape: [Int]
    let dtype = DType.float32
    let slots: [WeightSlot] = []
    func dequantized() throws -> Tensor { try .zeros(shape) }
    func matmul(_ x: Tensor, _ bias: Tensor?, adding term: LowRankTerm?) throws -> Tensor {
      try .zeros(Array(x.shape.dropLast()) + [shape[0]])
    }
  }

  @Test(arguments: [
    (["lokr_w1": [2, 2]], "neither lokr_w2"),
    (["lokr_w1": [2, 2], "lokr_w2_a": [3, 1]], "lokr_w2_a but no lokr_w2_b"),
    (["lokr_w1": [2, 2], "lokr_w2": [3, 3], "lokr_w2_a": [3, 1]], "both lokr_w2"),
    (["lokr_w1": [2, 2], "lokr_w2_a": [3, 2], "lokr_w2_b": [1, 3]], "ranks 2 and 1 differ"),
    (["lokr_w1": [2], "lokr_w2": [3, 3]], "expected a matrix"),
    (["hada_w1_a": [4, 2]], "no hada_w1_b"),
    (
      ["hada_w1_a": [4, 2], "hada_w1_b": [3, 4], "hada_w2_a": [4, 2], "hada_w2_b": [2, 4]],
      "ranks differ"
    ),
    (
      ["hada_w1_a": [4, 2], "hada_w1_b": [2, 4], "hada_w2_a": [5, 2], "hada_w2_b": [2, 4]],
      "different sizes"
    ),
  ])
  func tensorsThatDontGoTogetherAreNamed(_ shapes: [String: [Int]], _ problem: String)
    throws
  {
    let kind = try #require(AdapterKinds.kind(of: Set(shapes.keys)))
    let tensors = try shapes.mapValues { try Tensor.ones($0) }
    let error = #expect(throws: Support.Issue.self) { try kind.type.init(tensors) }
    #expect(error?.problem.contains(problem) == true, "\(error?.problem ?? "")")
  }
}
