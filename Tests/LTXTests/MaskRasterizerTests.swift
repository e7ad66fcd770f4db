import LTX
import Testing
import Torch

/// The two meanings of a mask and the two ways to group its frames, with example values.
@Suite struct MaskRasterizerTests {
  private let factors = CompressionFactors(time: 2, height: 2, width: 2)

  /// One row of two cells, with the given share of white pixels in each.
  private func frame(_ white: Int, _ other: Int) throws -> Tensor {
    let pixels = [(0, white), (1, white), (0, other), (1, other)]
    let top = pixels.map { $0.0 < $0.1 ? Float(1) : 0 }
    let bottom = pixels.map { $0.0 + 2 < $0.1 ? Float(1) : 0 }
    return try Tensor(top + bottom, shape: [2, 4])
  }

  private func kept(
    _ frames: [(Int, Int)], count: Int, _ rule: MaskRule,
    _ grouping: MaskRasterizer.Grouping = .causal
  ) throws -> [Float] {
    let rasterizer = MaskRasterizer(factors: factors, rule: rule, grouping: grouping)
    let cells = try frames.map { try rasterizer.cells(frame($0.0, $0.1)) }
    return try rasterizer.mask(cells, count: count).array()
  }

  @Test func theTrainerKeepsCellsThatAreMostlyWhite() throws {
    #expect(try kept([(3, 2)], count: 1, .keepsWhite) == [1, 0])
  }

  @Test func thePipelinesGenerateCellsWithAnyWhitePixel() throws {
    #expect(try kept([(1, 0)], count: 1, .replacesWhite) == [0, 1])
  }

  @Test func groupsStartWithASingleFrame() throws {
    // Frames 0 | 1 2: the whitest frame is used, and the last frame is repeated.
    #expect(try kept([(4, 0), (0, 0), (0, 4)], count: 3, .keepsWhite) == [1, 0, 0, 1])
    #expect(try kept([(4, 0), (0, 4)], count: 3, .keepsWhite) == [1, 0, 0, 1])
  }

  @Test func plainGroupsStartWithAWholeGroup() throws {
    // Frames 0 1 | 2 and a black one.
    #expect(try kept([(4, 0), (0, 4), (0, 0)], count: 3, .keepsWhite, .plain) == [1, 1, 0, 0])
    #expect(try kept([(4, 0)], count: 3, .keepsWhite, .plain) == [1, 0])
  }
}
