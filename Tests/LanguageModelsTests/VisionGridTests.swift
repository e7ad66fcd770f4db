import NN
import Support
import Testing
import Torch

@testable import LanguageModels

@Suite struct VisionGridTests {
  private func vision(_ name: String) throws -> VisionConfiguration {
    try QwenOmniConfiguration(folder: DecoderTests.folder(name)).vision
  }

  @Test func patchesComeInBlocks() throws {
    let grid = try VisionGrid([[2, 2, 4]], vision("qwen3_omni"))
    #expect(grid.order == nil)
    #expect(grid.rows == [0, 0, 1, 1, 0, 0, 1, 1] + [0, 0, 1, 1, 0, 0, 1, 1])
    #expect(grid.columns == [0, 1, 0, 1, 2, 3, 2, 3] + [0, 1, 0, 1, 2, 3, 2, 3])
  }

  /// Windows of 3 x 3 tokens over 4 x 5: those of one size are neighbors, and each token is there
  /// once.
  @Test func windowsAreSpans() throws {
    let c = try vision("qwen25_omni")
    #expect(c.windowSize == 3)
    let grid = try VisionGrid([[1, 8, 10], [2, 2, 2]], c)
    let order = try #require(grid.order)
    #expect(order.sorted() == Array(0..<22))
    #expect(Array(order[..<9]) == [0, 1, 2, 5, 6, 7, 10, 11, 12])
    #expect(Array(order[9..<15]) == [3, 4, 8, 9, 13, 14])
    #expect(Array(order[15...]) == [15, 16, 17, 18, 19, 20, 21])
    #expect(grid.rows.count == 22 * 4 && grid.columns.count == 22 * 4)
  }

  @Test(arguments: [[1, 3, 4], [0, 2, 2], [1, 2], [1, -2, -2], [1, 2, Int.max - 1]])
  func gridsThatBlocksDoNotDivideAreRefused(grid: [Int]) throws {
    let c = try vision("qwen3_omni")
    #expect(throws: Support.Issue.self) { try VisionGrid([grid], c) }
  }
}

@Suite struct AttentionSpansTests {
  /// Spans give the numbers of a mask, whatever their lengths.
  @Test func spansAttendOnlyToThemselves() throws {
    let lengths = [3, 3, 0, 2, 5, 5, 1]
    let total = lengths.reduce(0, +)
    func values(_ shift: Double) throws -> Tensor {
      try (Tensor.arange(to: Scalar(total * 2 * 4), dtype: .float32) * 0.37 + shift).sin()
        .reshape([total, 2, 4])
    }
    let (q, k, v) = (try values(0), try values(1), try values(2))
    var mask = [Bool](repeating: false, count: total * total)
    var start = 0
    for length in lengths {
      for row in start..<start + length {
        for column in start..<start + length { mask[row * total + column] = true }
      }
      start += length
    }
    let expected = try Tensor.scaledDotProductAttention(
      q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1),
      mask: Tensor(mask, shape: [total, total])
    ).transpose(0, 1).flatten(from: 1, through: 2)
    let found = try AttentionSpans(lengths).attend(q, k, v)
    #expect(found.shape == [total, 8])
    #expect(try (found - expected).abs().max().item() < 1e-6)
  }
}
