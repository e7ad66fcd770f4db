import Foundation
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX

/// The limits on how tiling may change a video. Tests/ProbeTests compares the tiles with
/// upstream's.
@Suite struct VideoTilingTests {
  private let encoder: VideoEncoder
  private let decoder: VideoDecoder
  private let channels: Int

  init() throws {
    let model = Fixtures.model("ltx23_vae")
    let checkpoint = try Checkpoint(path: model)
    encoder = try checkpoint.videoEncoder(dtype: .float32)
    decoder = try checkpoint.videoDecoder(dtype: .float32)
    channels = encoder.configuration.latentChannels
  }

  private func largest(_ x: Tensor) throws -> Double { try x.abs().max().item() }

  /// Slow waves, which are similar at neighboring positions, like a video.
  private func smooth(_ shape: [Int]) throws -> Tensor {
    let random = try Generator(seed: 4)
    var x = try Tensor.zeros(shape)
    for _ in 0..<3 {
      var wave = try random.normal([shape[0], shape[1], 1, 1, 1])
      for axis in 2...4 {
        guard shape[axis] > 1 else { continue }
        let phase = try random.uniform([1]).item() * 6
        let turn = try Tensor.linspace(from: phase, to: phase + 4, steps: shape[axis])
        var sizes = [1, 1, 1, 1, 1]
        sizes[axis] = shape[axis]
        wave = try wave * turn.sin().reshape(sizes)
      }
      x = try x + wave
    }
    return x
  }

  /// The mean step from each entry to the next along an axis.
  private func steps(_ x: Tensor, _ axis: Int) throws -> [Float] {
    let count = x.size(axis)
    let others = (0..<5).filter { $0 != axis }
    return try (x.narrow(axis, 1, count - 1) - x.narrow(axis, 0, count - 1)).abs().mean(others)
      .array()
  }

  /// A seam would be a step that isn't in the untiled video.
  @Test(arguments: 2...4)
  func decodingShowsNoSeam(_ axis: Int) throws {
    var shape = [1, channels, 2, 3, 3]
    shape[axis] = 12
    let latent = try smooth(shape)
    let factor = axis == 2 ? 8 : 32
    let tiles = Tiling.Axis(size: 6 * factor, overlap: 3 * factor)
    let tiling = Tiling(
      frames: axis == 2 ? tiles : nil, height: axis == 3 ? tiles : nil,
      width: axis == 4 ? tiles : nil)
    let (whole, tiled) = (try decoder.decode(latent), try decoder.decode(latent, tiling: tiling))
    #expect(try largest(whole - tiled) > 0.01 * largest(whole))
    for (place, (expected, found)) in try zip(steps(whole, axis), steps(tiled, axis)).enumerated() {
      #expect(found < 1.1 * expected, "from \(place) to the next: \(found), not \(expected)")
    }
  }

  /// Tiles of 12 cells that start at 0, 6 and 12.
  private let inWidth = Tiling(width: Tiling.Axis(size: 12 * 32, overlap: 6 * 32))

  @Test func decodingAwayFromSeamsEqualsUntiledDecoding() throws {
    let latent = try smooth([1, channels, 1, 2, 24])
    let whole = try decoder.decode(latent)
    let difference = try decoder.decode(latent, tiling: inWidth) - whole
    let limit = try 1e-3 * largest(whole)
    #expect(try largest(difference.narrow(4, 0, 4 * 32)) < limit)
    #expect(try largest(difference.narrow(4, 20 * 32, 4 * 32)) < limit)
    #expect(try largest(difference) > limit)
  }

  @Test func encodingAwayFromSeamsEqualsUntiledEncoding() throws {
    let pixels = try smooth([1, 3, 1, 64, 24 * 32]).tanh()
    let whole = try encoder(pixels)
    let difference = try encoder.encode(pixels, tiling: inWidth) - whole
    let limit = try 1e-3 * largest(whole)
    #expect(try largest(difference.narrow(4, 0, 5)) < limit)
    #expect(try largest(difference.narrow(4, 19, 5)) < limit)
    #expect(try largest(difference) > limit)
  }
}
