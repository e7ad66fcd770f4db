import BlockExecution
import Foundation
import NN
import Support
import TensorFiles
import Testing
import Torch

@testable import LanguageModels

/// The decoder under both configurations: the cache, padding, experts and streamed weights change
/// memory and time, and no number.
@Suite struct DecoderTests {
  static let families = ["qwen25_omni", "qwen3_omni"]

  static func folder(_ name: String) -> String {
    TokenizerFixtures.folder.deletingLastPathComponent().appending(path: "models/\(name)").path
  }

  private func open(
    _ name: String, dtype: DType = .float32, use8Bit: Bool = false, memoryLimit: Int? = nil
  ) throws -> QwenOmniModel {
    try QwenOmniModel(
      folder: Self.folder(name), device: .cpu, dtype: dtype, use8Bit: use8Bit,
      memoryLimit: memoryLimit)
  }

  /// Conversations of text, padded on the left.
  private func inputs(_ rows: [[Int]]) throws -> CaptionInputs {
    let length = rows.map(\.count).max() ?? 0
    let padding = rows.map { length - $0.count }
    let positions = zip(rows, padding).flatMap { row, padding in
      (0..<length).map { Float(max($0 - padding, 0)) }
    }
    return CaptionInputs(
      ids: zip(rows, padding).map { Array(repeating: 5, count: $1) + $0 },
      mask: zip(rows, padding).map { row, padding in
        (0..<length).map { $0 < padding ? 0 : 1 }
      },
      positions: try Tensor(positions, shape: [1, rows.count, length]).expand([3, -1, -1]),
      delta: try Tensor(padding.map { Float(-$0) }, shape: [rows.count, 1]), media: MediaInputs(),
      secondsPerGrid: [], audioFrames: [], isInterleaved: false)
  }

  private func options(_ limit: Int, ends: Set<Int> = []) -> GenerationOptions {
    var options = GenerationOptions(limit: limit, ends: ends, pad: 0)
    options.keepsLogits = true
    return options
  }

  private let prompt = (0..<12).map { ($0 * 37 + 11) % 300 }

  @Test(arguments: families) func theCacheGivesTheLogitsOfAWholePass(_ name: String) throws {
    let model = try open(name)
    let answer = try model.generate(inputs([prompt]), options(7))
    let tokens = answer.tokens[0]
    #expect(tokens.count == 7 && answer.isTruncated == [true])
    let whole = try model.logits(inputs([prompt + tokens]), media: MediaEmbeddings())
    for (step, logits) in answer.logits.enumerated() {
      let wanted = try whole.select(1, prompt.count - 1 + step)
      #expect(try difference(logits, wanted) < 1e-4, "step \(step)")
    }
  }

  @Test(arguments: families) func paddingChangesNothing(_ name: String) throws {
    let model = try open(name)
    let short = Array(prompt.prefix(5))
    let both = try inputs([short, prompt])
    let alone = try model.logits(inputs([short]), media: MediaEmbeddings())
    let padded = try model.logits(both, media: MediaEmbeddings())
    #expect(try difference(padded.narrow(0, 0, 1).narrow(1, 7, 5), alone) < 1e-4)
    #expect(try padded.narrow(0, 0, 1).narrow(1, 0, 7).abs().max().item() == 0)
    #expect(
      try model.generate(both, options(5)).tokens
        == [short, prompt].map { try model.generate(inputs([$0]), options(5)).tokens[0] })
  }

  @Test(arguments: families) func limitedMemoryGivesTheSameTokens(_ name: String) throws {
    let wanted = try open(name).generate(inputs([prompt]), options(5))
    let model = try open(name, memoryLimit: 1)
    let answer = try model.generate(inputs([prompt]), options(5))
    #expect(answer.tokens == wanted.tokens)
    for (got, want) in zip(answer.logits, wanted.logits) { #expect(try Tensor.isEqual(got, want)) }
  }

  /// Without a limit, the experts that were used stay; with one, only those that fit.
  @Test func onlyExpertsInUseAreInMemory() throws {
    let model = try open("qwen3_omni", dtype: .bfloat16)
    #expect(model.expertBytes == 0)
    _ = try model.generate(inputs([[7]]), options(1))
    let text = model.configuration.text
    guard case .experts(let sizes) = text.layers[0] else { return }
    let expert = 3 * sizes.width * text.width * DType.bfloat16.size
    #expect(model.expertBytes == text.layers.count * sizes.perToken * expert)
    let limited = try open("qwen3_omni", dtype: .bfloat16, memoryLimit: 1)
    _ = try limited.generate(inputs([prompt]), options(2))
    #expect(limited.expertBytes == expert)
  }

  @Test func eightBitsHalveTheExperts() throws {
    let (whole, small) = (
      try open("qwen3_omni", dtype: .bfloat16),
      try open("qwen3_omni", dtype: .bfloat16, use8Bit: true)
    )
    for model in [whole, small] { _ = try model.logits(inputs([prompt]), media: MediaEmbeddings()) }
    #expect(Double(small.expertBytes) < 0.6 * Double(whole.expertBytes))
  }

  @Test func answersEndAtAnyEndToken() throws {
    let model = try open("qwen25_omni")
    let free = try model.generate(inputs([prompt]), options(6)).tokens[0]
    let end = try #require(free.indices.first { free.firstIndex(of: free[$0]) == $0 && $0 > 0 })
    var seen: [[Int?]] = []
    let answer = try model.generate(inputs([prompt]), options(6, ends: [free[end], 383])) {
      seen.append($0)
    }
    #expect(answer.tokens[0] == Array(free[...end]))
    #expect(answer.isTruncated == [false])
    #expect(seen == free[...end].map { [$0] })
  }

  @Test func anErrorOfTheReceiverEndsDecoding() throws {
    struct Stop: Error {}
    let model = try open("qwen25_omni")
    var count = 0
    #expect(throws: Stop.self) {
      _ = try model.generate(inputs([prompt]), options(9)) { _ in
        count += 1
        if count == 2 { throw Stop() }
      }
    }
    #expect(count == 2)
  }

  @Test func theCacheGrowsInPlace() throws {
    let c = try open("qwen25_omni").configuration.text
    let cache = KeyValueCache(c, capacity: 4)
    let random = try Generator(seed: 1)
    var all: [Tensor] = []
    for tokens in [3, 1, 1, 300] {
      cache.reserve(tokens)
      let new = try random.normal([1, c.keyHeads, tokens, c.headWidth])
      all.append(new)
      for layer in c.layers.indices {
        let (keys, values) = try cache.append(new, new + 1, layer: layer)
        #expect(try Tensor.isEqual(keys, Tensor.cat(all, 2)))
        #expect(try Tensor.isEqual(values, Tensor.cat(all, 2) + 1))
      }
      cache.advance(tokens)
    }
    #expect(cache.count == 305)
  }

  /// Experts that a GPU holds in one tensor give the results of those that are read one by one.
  @Test(arguments: [false, true]) func stackedExpertsAgree(use8Bit: Bool) throws {
    let source = try ShardedSafetensors(folder: Self.folder("qwen3_omni"))
    let policy = LoadPolicy(dtype: .float32, storage: use8Bit ? .int8 : .asStored)
    let w = Weights(source, policy) / "thinker" / "model" / "layers" / 1 / "mlp" / "experts"
    let c = try open("qwen3_omni").configuration.text
    guard case .experts(let sizes) = c.layers[1] else { return }
    let experts = try (0..<sizes.count).map {
      try DeferredExpert(w / $0, width: c.width, inner: sizes.width)
    }
    let stacked = try #require(try StackedExperts(experts))
    let choices = [4, 0, 5, 0]
    let x = try Generator(seed: 3).normal([choices.count, c.width])
    let got = try stacked(x, choices: Tensor(choices))
    for (row, expert) in choices.enumerated() {
      let input = try x.narrow(0, row, 1)
      let want = try experts[expert].load()(input)
      #expect(try difference(got.narrow(0, row, 1), want) < 1e-5)
      #expect(try difference(stacked.expert(expert)(input), want) < 1e-5)
    }
  }

  @Test func pairsAreGroupedByExpert() {
    let assignment = ExpertAssignment([3, 0, 1, 3, 0, 3], perToken: 2)
    #expect(assignment.rows == [0, 2, 1, 0, 1, 2])
    #expect(assignment.places == [3, 0, 2, 4, 1, 5])
    #expect(assignment.groups.map(\.expert) == [0, 1, 3])
    #expect(assignment.groups.map(\.places) == [0..<2, 2..<3, 3..<6])
  }

  @Test func badPromptsAreRefused() throws {
    let model = try open("qwen25_omni")
    let vocabulary = model.configuration.text.vocabulary
    #expect(
      message { _ = try model.generate(inputs([[vocabulary]]), options(1)) }.contains(
        "must be between 0 and \(vocabulary - 1)"))
    let image = model.configuration.tokens.image
    #expect(
      message { _ = try model.generate(inputs([[1, image]]), options(1)) }.contains(
        "have 1 placeholders of images (expected 0"))
    #expect(message { _ = try model.generate(inputs([prompt]), options(0)) }.contains("at least 1"))
    let long = Array(repeating: 1, count: model.configuration.text.maxPositions)
    #expect(
      message { _ = try model.generate(inputs([long]), options(1)) }.contains("was trained for"))
  }
}
