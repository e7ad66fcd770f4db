import Foundation
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX

/// The head that predicts the length of a clip.
@Suite struct DurationHeadTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  /// Writes a head alone in its file.
  ///
  /// - Parameter change: Changes the tensors by their names below `duration_head`.
  private func checkpoint(
    _ config: String? = nil, _ change: (inout [String: Tensor]) throws -> Void = { _ in }
  ) throws -> Checkpoint {
    let tiny = TinyDurationHead(.ltx25())
    let drawn = RandomWeights.Drawn(try Generator(seed: 2))
    try tiny.draw(RandomWeights(into: drawn))
    var tensors = Dictionary(drawn.tensors.map { ($0.key, $0.tensor) }) { first, _ in first }
    try change(&tensors)
    let path = scratch.file("\(UUID().uuidString).safetensors")
    try writeSafetensors(
      tensors.map { (key: "duration_head.\($0)", tensor: $1) },
      metadata: [
        "config":
          "{\"transformer\": \(tiny.transformerConfig), \"duration_head\": \(config ?? tiny.config)}"
      ], to: path)
    return try Checkpoint(path: path)
  }

  private func contexts(_ modalities: Set<Modality> = .both) throws -> PerModality<Tensor?> {
    let random = try Generator(seed: 4)
    let widths = TinyDurationHead(.ltx25()).contextWidths
    return try PerModality { modality in
      let context = try random.normal([2, modality == .video ? 7 : 5, widths[modality]])
      return modalities.contains(modality) ? context : nil
    }
  }

  private func matrix(_ tensor: Tensor) throws -> [[Double]] {
    try (0..<tensor.size(0)).map { try tensor.select(0, $0).array(of: Double.self) }
  }

  /// The head written out over arrays.
  @Test(arguments: [Set<Modality>.both, .video, .audio])
  func predictsWhatThePlainComputationPredicts(_ modalities: Set<Modality>) throws {
    let checkpoint = try checkpoint()
    let found = try checkpoint.durationHead(dtype: .float32)(TextContexts(contexts(modalities)))
    func weight(_ name: String) throws -> [[Double]] {
      try matrix(checkpoint.source.tensor("duration_head.\(name)").to(.float32))
    }
    func vector(_ name: String) throws -> [Double] {
      try checkpoint.source.tensor("duration_head.\(name)").array(of: Double.self)
    }
    func dot(_ a: some Sequence<Double>, _ b: some Sequence<Double>) -> Double {
      zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
    }
    func linear(_ x: [Double], _ name: String) throws -> [Double] {
      try zip(weight("\(name).weight"), vector("\(name).bias")).map { dot(x, $0) + $1 }
    }
    let attention = "attention_pooler.cross_attn"
    let (projection, bias) = (
      try weight("\(attention).in_proj_weight"), try vector("\(attention).in_proj_bias")
    )
    let (width, heads) = (32, 4)
    func part(_ x: [Double], _ index: Int) -> [Double] {
      (0..<width).map { dot(x, projection[index * width + $0]) + bias[index * width + $0] }
    }
    for row in 0..<2 {
      var tokens: [[Double]] = []
      for (modality, context) in try contexts(modalities).pairs {
        guard let context else { continue }
        let mark = try vector("\(modality)_modality_emb")
        for token in try matrix(context.select(0, row)) {
          tokens.append(zip(try linear(token, "\(modality)_input_proj"), mark).map(+))
        }
      }
      let (keys, values) = (tokens.map { part($0, 1) }, tokens.map { part($0, 2) })
      var pooled: [Double] = []
      for query in try weight("attention_pooler.query_tokens").map({ part($0, 0) }) {
        var joined: [Double] = []
        for head in 0..<heads {
          let range = (head * width / heads)..<((head + 1) * width / heads)
          let scores = keys.map {
            exp(dot(query[range], $0[range]) / Double(range.count).squareRoot())
          }
          let sum = scores.reduce(0, +)
          joined += range.map { i in dot(scores, values.map { $0[i] }) / sum }
        }
        pooled += try linear(joined, "\(attention).out_proj")
      }
      let hidden = try linear(pooled, "mlp_hidden").map { x in
        0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
      }
      let seconds = exp(try linear(hidden, "mlp_out")[0])
      #expect(abs(try found.select(0, row).item() / seconds - 1) < 1e-4)
    }
  }

  /// Contexts and weights may have any dtypes.
  @Test(arguments: [DType.float32, .bfloat16], [DType.float32, .bfloat16])
  func dtypesDontMatter(_ dtype: DType, _ contextDType: DType) throws {
    let head = try checkpoint { tensors in
      tensors["mlp_out.bias"] = try tensors["mlp_out.bias"]?.to(.float32)
    }.durationHead(dtype: dtype)
    let given = try contexts()
    let found = try head(TextContexts(given.map { try $0?.to(contextDType) }))
    let plain = try checkpoint().durationHead()(TextContexts(given))
    #expect(found.dtype == .float32)
    #expect(try LoRAFixture.distance(found, plain) < 0.1)
  }

  @Test func framesAreLimitedAndOnTheGrid() {
    func frames(
      _ seconds: Double, _ rate: Double, _ low: Double = 1, _ high: Double = 20, time: Int = 8
    ) -> Int {
      DurationHead.frames(
        seconds: seconds, frameRate: rate, minSeconds: low, maxSeconds: high,
        factors: CompressionFactors(time: time, height: 32, width: 32))
    }
    #expect(frames(5, 24) == 113)
    #expect(frames(121.0 / 24, 24) == 121)
    // Halves round to even: 64.5 to 64, 65.5 to 66.
    #expect(frames(64.5 / 32, 32) == 57 && frames(65.5 / 32, 32) == 65)
    // Below the min, the next point of the grid; never above the max.
    #expect(frames(0.1, 24) == 25 && frames(0.1, 24, 1, 1) == 24 && frames(0.1, 25) == 25)
    #expect(frames(90, 24) == 473 && frames(90, 25, 1, 2) == 49)
    #expect(frames(5, 24, time: 4) == 117)
    // Any number gives a result.
    #expect(frames(.infinity, 24) == 473 && frames(.nan, 24) == 25 && frames(-3, 24) == 25)
    #expect(frames(1e300, 1e300, 1e-300, 1e300) > 1 && frames(0, 1e-300, 0, 0) == 1)
    #expect(frames(3, 24, 5, 2) == 120)
  }

  @Test func damagedHeadsAreRefused() throws {
    let whole = try checkpoint()
    #expect(whole.hasDurationHead)
    func key(_ change: (inout [String: Tensor]) throws -> Void) throws -> String? {
      let checkpoint = try checkpoint(nil, change)
      return #expect(throws: WeightError.self) { try checkpoint.durationHead() }?.key
    }
    let name = "attention_pooler.cross_attn.in_proj_bias"
    #expect(try key { $0[name] = nil } == "duration_head.\(name)")
    #expect(try key { $0[name] = try .zeros([95]) } == "duration_head.\(name)")
    #expect(try key { $0["mlp_more.weight"] = try .zeros([1]) } == "duration_head.mlp_more.weight")
    let odd = try checkpoint("{\"pooler_hidden_dim\": 32, \"num_pooler_heads\": 5}")
    #expect(
      message { _ = try odd.durationHead() }.contains("pooler_hidden_dim: must be a multiple"))
    let damaged = try checkpoint(nil) {
      $0["mlp_out.bias"] = try .full([1], Scalar(Double.nan), dtype: .bfloat16)
    }
    #expect(
      #expect(throws: WeightError.self) { try damaged.durationHead() }?.key
        == "duration_head.mlp_out.bias")
    // Weights in the file's dtype are not checked while loading.
    let head = try DurationHead(
      damaged.weights() / Checkpoint.Prefix.durationHead,
      configuration: DurationHeadConfiguration(damaged.config))
    let contexts = try contexts().map { try $0?.to(.bfloat16) }
    #expect(message { _ = try head(TextContexts(contexts)) }.contains("duration: is not a number"))
  }

  @Test func aModelWithoutAHeadSaysSo() throws {
    let path = scratch.file("transformer.safetensors")
    try TinyTransformer.ltx25().write(to: path, seed: 1)
    let checkpoint = try Checkpoint(path: path)
    #expect(!checkpoint.hasDurationHead)
    #expect(message { _ = try checkpoint.durationHead() }.contains("has no duration head"))
  }

  @Test func contextsOfAnotherWidthAndMissingOnesAreRefused() throws {
    let head = try checkpoint().durationHead()
    let wide = PerModality<Tensor?>(.video, try .zeros([1, 3, 47]))
    #expect(message { _ = try head(TextContexts(wide)) }.contains("video_context"))
    #expect(message { _ = try head(TextContexts(PerModality())) }.contains("neither"))
  }
}
