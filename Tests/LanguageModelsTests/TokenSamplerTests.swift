import Foundation
import Testing
import Torch

@testable import LanguageModels

@Suite struct TokenSamplerTests {
  private func sampler(
    _ sampling: Sampling, penalty: Double = 1, prompts: [[Int]] = [[]], vocabulary: Int = 4
  ) throws -> TokenSampler {
    try TokenSampler(
      sampling, penalty: penalty, prompts: prompts, vocabulary: vocabulary, device: .cpu)
  }

  private func next(_ sampler: inout TokenSampler, _ rows: [[Float]]) throws -> [Int] {
    try sampler.next(Tensor(rows.flatMap { $0 }, shape: [rows.count, rows[0].count])).array()
  }

  @Test func theLargestLogitWins() throws {
    var greedy = try sampler(.greedy, prompts: [[], []])
    #expect(try next(&greedy, [[1, 4, 2, 3], [-1, -4, -2, -3]]) == [1, 0])
  }

  /// Positive logits are divided and negative ones multiplied, for tokens of the prompt and of the
  /// answer.
  @Test func tokensThatOccurredAreLowered() throws {
    var greedy = try sampler(.greedy, penalty: 2, prompts: [[1, 1]])
    #expect(try next(&greedy, [[0, 3, 2, 1]]) == [2])
    #expect(try next(&greedy, [[0, 3, 2, 1.6]]) == [3])
    #expect(try next(&greedy, [[-1, -0.6, -0.7, -0.9]]) == [0])
  }

  @Test func invalidLogitsGiveNoToken() throws {
    var greedy = try sampler(.greedy, prompts: [[], [], []])
    #expect(
      try next(&greedy, [[0, .nan, 0, 0], [0, .infinity, 0, 0], [0, 0, 1, 0]]) == [-1, -1, 2])
  }

  @Test func drawsFollowTheProbabilities() throws {
    let count = 20_000
    let rows = Array(repeating: [0.5, 0.3, 0.15, 0.05].map { Float(log($0)) }, count: count)
    func shares(_ sampling: Sampling) throws -> [Double] {
      var drawn = try sampler(sampling, prompts: Array(repeating: [], count: count))
      let tokens = try next(&drawn, rows)
      return (0..<4).map { token in Double(tokens.count { $0 == token }) / Double(count) }
    }
    func isClose(_ got: [Double], _ want: [Double]) -> Bool {
      zip(got, want).allSatisfy { abs($0 - $1) < 0.015 }
    }
    #expect(try isClose(shares(Sampling(temperature: 1, seed: 1)), [0.5, 0.3, 0.15, 0.05]))
    // Half the temperature squares the probabilities.
    let squares = [0.25, 0.09, 0.0225, 0.0025].map { $0 / 0.365 }
    #expect(try isClose(shares(Sampling(temperature: 0.5, seed: 2)), squares))
    #expect(try isClose(shares(Sampling(temperature: 1, topK: 2, seed: 3)), [0.625, 0.375, 0, 0]))
    #expect(
      try isClose(shares(Sampling(temperature: 1, topP: 0.6, seed: 4)), [0.625, 0.375, 0, 0]))
    #expect(try shares(Sampling(temperature: 1, topK: 1, seed: 5)) == [1, 0, 0, 0])
    #expect(try shares(Sampling(temperature: 1, topP: 1e-6, seed: 6)) == [1, 0, 0, 0])
  }

  @Test func aSeedGivesTheSameTokens() throws {
    func tokens(_ seed: UInt64) throws -> [Int] {
      var drawn = try sampler(Sampling(temperature: 1, seed: seed))
      return try (0..<40).flatMap { _ in try next(&drawn, [[0, 0, 0, 0]]) }
    }
    #expect(try tokens(7) == tokens(7))
    #expect(try tokens(7) != tokens(8))
  }

  @Test func optionsOutOfRangeAreRefused() {
    #expect(message { _ = try sampler(Sampling(temperature: -1)) }.contains("not negative"))
    #expect(message { _ = try sampler(Sampling(temperature: 1, topK: 0)) }.contains("at least 1"))
    #expect(message { _ = try sampler(Sampling(temperature: 1, topP: 0)) }.contains("above 0"))
    #expect(message { _ = try sampler(.greedy, penalty: 0) }.contains("above 0"))
  }
}
