import Support
import Testing
import Torch

@testable import NN
@testable import Optimizers

@Suite struct OptimizerOptionsTests {
  @Test func defaultsAreTheLibraries() throws {
    #expect(try OptimizerOptions(.adamw) == .adamw(AdamW.Options()))
    guard case .adamw8bit(let adamw) = try OptimizerOptions(.adamw8bit),
      case .prodigy(let prodigy) = try OptimizerOptions(.prodigy),
      case .lion(let lion) = try OptimizerOptions(.lion),
      case .adafactor(let adafactor) = try OptimizerOptions(.adafactor),
      case .muon(let muon) = try OptimizerOptions(.muon)
    else {
      Testing.Issue.record("options of another kind")
      return
    }
    #expect(adamw.weightDecay == 0.01 && adamw.smallestQuantized == 4096)
    #expect(
      prodigy.initialEstimate == 1e-6 && prodigy.growthRate == .infinity
        && !prodigy.safeguardsWarmup)
    #expect(lion.beta2 == 0.99 && lion.weightDecay == 0)
    #expect(adafactor.beta1 == nil && adafactor.decayRate == -0.8)
    #expect(muon.weightDecay == 0.1 && muon.momentum == 0.95 && muon.adamW.weightDecay == 0.01)
    for kind in OptimizerKind.allCases { #expect(try OptimizerOptions(kind).kind == kind) }
  }

  @Test func nullTakesTheFirstMomentFromAdafactor() throws {
    guard
      case .adafactor(let with) = try OptimizerOptions(.adafactor, params: ["beta1": .number(0.9)]),
      case .adafactor(let without) = try OptimizerOptions(.adafactor, params: ["beta1": .null])
    else {
      Testing.Issue.record("options of another kind")
      return
    }
    #expect(with.beta1 == 0.9)
    #expect(without.beta1 == nil)
  }

  @Test(arguments: [
    (
      OptimizerKind.adamw, "wd", JSON.number(0),
      "is not an option of adamw; it takes betas, eps, weight_decay"
    ),
    (.adamw, "eps", .number(-1e-8), "must be a number of at least 0"),
    (.adamw, "weight_decay", JSON(.infinity), "must be a number of at least 0"),
    (.adamw, "weight_decay", .string("0.01"), "must be a number of at least 0"),
    (
      .adamw, "betas", .array([.number(0.9), .number(1)]),
      "must be a list of 2 numbers, each a number from 0 to below 1"
    ),
    (.adamw, "betas", .number(0.9), "must be a list of 2 numbers, each a number from 0 to below 1"),
    (
      .adamw8bit, "block_size", .number(64),
      "is not an option of adamw8bit; it takes betas, eps, weight_decay, min_8bit_size"
    ),
    (.adamw8bit, "min_8bit_size", .number(0.5), "must be an integer of at least 0"),
    (.prodigy, "d_coef", .number(0), "must be a number above 0"),
    (.prodigy, "growth_rate", .number(0.9), "must be a number of at least 1, or .inf"),
    (.prodigy, "decouple", .number(1), "must be true or false"),
    (.prodigy, "beta3", .number(1), "must be a number from 0 to below 1, or null"),
    (.prodigy, "slice_p", .number(0), "must be an integer of at least 1"),
    (
      .lion, "eps", .number(1e-8),
      "is not an option of lion; it takes betas, weight_decay, decoupled_weight_decay"
    ),
    (.adafactor, "decay_rate", .number(0.8), "must be a number of at most 0"),
    (.adafactor, "clip_threshold", .null, "must be a number above 0"),
    (
      .adafactor, "warmup_init", .bool(true),
      "needs relative_step: true; use warmup_steps to warm up to a learning rate"
    ),
    (.muon, "ns_steps", .number(100), "must be an integer from 1 to 99"),
    (.muon, "adjust_lr_fn", .string("rms"), "must be one of original, match_rms_adamw"),
    (.muon, "momentum", .bool(false), "must be a number from 0 to below 1"),
  ])
  func aBadOptionIsNamedWithWhatIsAllowed(
    _ kind: OptimizerKind, _ key: String, _ value: JSON, _ problem: String
  ) {
    let error = #expect(throws: Issues.self) {
      try OptimizerOptions(kind, params: [key: value])
    }
    #expect(error?.all == [Support.Issue([.name(key)], problem)])
  }

  @Test func allThatIsWrongIsReportedAtOnce() {
    let error = #expect(throws: Issues.self) {
      try OptimizerOptions(.adamw, params: ["eps": .null, "lr": .number(1), "betas": .array([])])
    }
    #expect(error?.all.map(\.subject) == [["lr"], ["betas"], ["eps"]])
  }

  private static let keys = [
    "transformer_blocks.0.attn1.to_q.lora_A.weight",
    "transformer_blocks.10.attn1.to_q.lora_A.weight",
    "transformer_blocks.0.audio_attn1.to_out.0.lora_B.weight",
    "transformer_blocks.0.attn2.to_k.lora_A.weight",
  ]

  @Test func patternsSortParametersIntoGroups() throws {
    let parameters = try Self.keys.map { Parameter(key: $0, tensor: try .zeros([1])) }
    let groups = try ParameterGroup.groups(
      of: parameters, learningRate: 1,
      rates: [("audio_*", 2), ("transformer_blocks.0.attn1", 3), ("to_k", 4)])
    #expect(groups.map(\.learningRate) == [1, 2, 3, 4])
    #expect(groups.map { $0.parameters.map(\.key) } == [1, 2, 0, 3].map { [Self.keys[$0]] })

    let all = try ParameterGroup.groups(
      of: parameters, learningRate: 1, rates: [("transformer_blocks", 2)])
    #expect(all.map(\.learningRate) == [2])
    #expect(all[0].parameters.map(\.key) == Self.keys)
  }

  /// Names must match completely and consecutively.
  @Test(arguments: ["to_", "attn1.to_k", "blocks.0", "", "0.0", "weight.weight"])
  func aPatternWithoutAParameterIsAnError(_ pattern: String) throws {
    let parameters = try Self.keys.map { Parameter(key: $0, tensor: try .zeros([1])) }
    let error = #expect(throws: Issues.self) {
      try ParameterGroup.groups(
        of: parameters, learningRate: 1, rates: [("attn1", 1), (pattern, 2), ("to_q", 3)])
    }
    // The first pattern matches everything that contains to_q.
    #expect(error?.all.map(\.subject) == [[.name(pattern)], ["to_q"]])
  }

  @Test func partsKeepTheOrderAndAreFullOrWhole() {
    #expect([3, 4, 1, 9, 2].inParts(limit: 5) { $0 } == [[3, 4], [1, 9], [2]])
    #expect([5, 5].inParts(limit: 5) { $0 } == [[5], [5]])
    #expect([Int]().inParts(limit: 5) { $0 }.isEmpty)
  }
}
