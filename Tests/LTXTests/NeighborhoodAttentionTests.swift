import Foundation
import NN
import Support
import Testing
import Torch

@testable import LTX

/// Neighborhood attention by blocks, against attention that is written out position by position.
@Suite struct NeighborhoodAttentionTests {
  private typealias Kernel = VideoVAEConfiguration.DiffusionDecoder.Kernel

  private static let channels = 32
  private static let head = 16

  private static func weights() throws -> Tensors {
    let random = try Generator(seed: 3)
    func normal(_ shape: [Int], _ deviation: Double, mean: Double = 0) throws -> Tensor {
      try random.normal(shape) * deviation + mean
    }
    return Tensors([
      "attn.qkv.weight": try normal([3 * channels, channels], 0.2),
      "attn.qkv.bias": try normal([3 * channels], 0.2),
      "attn.q_norm.weight": try normal([head], 0.3, mean: 1.5),
      "attn.k_norm.weight": try normal([head], 0.3, mean: 1.5),
      "attn.proj.weight": try normal([channels, channels], 0.2),
      "attn.proj.bias": try normal([channels], 0.2),
      "norm.weight": try normal([channels], 0.2, mean: 1),
    ])
  }

  /// The definition: windows that shift inwards at the borders, or, along the width, edge columns
  /// that are repeated before the norm and windows that stay centered.
  private static func plain(
    _ x: Tensor, _ source: Tensors, _ kernel: [Int], replicatesColumns: Bool
  ) throws -> Tensor {
    let halo = replicatesColumns ? kernel[2] / 2 : 0
    let shape = x.shape
    let columns = shape[2] + 2 * halo
    let padded = try Tensor.cat(
      [Tensor](repeating: x.narrow(2, 0, 1), count: halo) + [x]
        + [Tensor](repeating: x.narrow(2, shape[2] - 1, 1), count: halo), 2)
    let normed =
      try (padded / (padded.square().mean([-1], keepdim: true) + 1e-6).sqrt())
      * source.tensor("norm.weight")
    let qkv: [Float] = try normed.linear(
      source.tensor("attn.qkv.weight"), source.tensor("attn.qkv.bias")
    ).array()
    let norms: [[Float]] = try ["q", "k"].map {
      try source.tensor("attn.\($0)_norm.weight").array()
    }
    func place(_ t: Int, _ h: Int, _ w: Int) -> Int { (t * shape[1] + h) * columns + w }

    /// A normalized and rotated head of the queries (0) or keys (1).
    func vector(_ part: Int, _ t: Int, _ h: Int, _ w: Int, _ index: Int) -> [Double] {
      let start = (place(t, h, w) * 3 + part) * channels + index * head
      var values = (0..<head).map { Double(qkv[start + $0]) }
      let size = (values.map { $0 * $0 }.reduce(0, +) / Double(head) + 1e-6).squareRoot()
      for i in 0..<head { values[i] *= Double(norms[part][i]) / size }
      // A quarter of the head for time, the rest for rows and columns alike: 4, 6 and 6 channels.
      var first = 0
      for (position, width) in [(t, 4), (h, 6), (w - halo, 6)] {
        for i in stride(from: 0, to: width, by: 2) {
          let angle = Double(position) * pow(10_000, -Double(i) / Double(width))
          let (a, b) = (values[first + i], values[first + i + 1])
          values[first + i] = a * cos(angle) - b * sin(angle)
          values[first + i + 1] = a * sin(angle) + b * cos(angle)
        }
        first += width
      }
      return values
    }

    func window(_ position: Int, _ count: Int, _ size: Int) -> Range<Int> {
      let start = min(max(position - size / 2, 0), count - size)
      return start..<start + size
    }
    var mixed = [Float](repeating: 0, count: shape.reduce(1, *))
    for index in 0..<channels / head {
      var keys: [[Double]] = []
      for t in 0..<shape[0] {
        for h in 0..<shape[1] {
          for w in 0..<columns { keys.append(vector(1, t, h, w, index)) }
        }
      }
      for t in 0..<shape[0] {
        for h in 0..<shape[1] {
          for w in 0..<shape[2] {
            let query = vector(0, t, h, w + halo, index)
            let across =
              replicatesColumns ? w..<w + kernel[2] : window(w, shape[2], kernel[2])
            var total = 0.0
            var sums = [Double](repeating: 0, count: head)
            for kt in window(t, shape[0], kernel[0]) {
              for kh in window(h, shape[1], kernel[1]) {
                for kw in across {
                  let key = keys[place(kt, kh, kw)]
                  var product = 0.0
                  for i in 0..<head { product += query[i] * key[i] }
                  let weight = exp(product / Double(head).squareRoot())
                  total += weight
                  let start = (place(kt, kh, kw) * 3 + 2) * channels + index * head
                  for i in 0..<head { sums[i] += weight * Double(qkv[start + i]) }
                }
              }
            }
            let start = ((t * shape[1] + h) * shape[2] + w) * channels + index * head
            for i in 0..<head { mixed[start + i] = Float(sums[i] / total) }
          }
        }
      }
    }
    return try x
      + Tensor(mixed, shape: shape).linear(
        source.tensor("attn.proj.weight"), source.tensor("attn.proj.bias"))
  }

  @Test(
    arguments: [
      // Several blocks in each axis, at the borders and between them.
      ([7, 14, 15], [3, 3, 5]), ([3, 5, 7], [3, 5, 7]), ([5, 13, 4], [1, 3, 3]),
      ([4, 7, 8], [3, 1, 1]),
    ], [false, true])
  func blocksAreThePlainDefinition(_ sizes: ([Int], [Int]), replicatesColumns: Bool) throws {
    let (shape, kernel) = sizes
    let source = try Self.weights()
    let w = Weights(source)
    let x = try Generator(seed: 4).normal(shape + [Self.channels])
    let expected = try Self.plain(x, source, kernel, replicatesColumns: replicatesColumns)
    let windows = try NeighborhoodWindows(
      VolumeSize(frames: shape[0], rows: shape[1], columns: shape[2]),
      kernel: Kernel(time: kernel[0], height: kernel[1], width: kernel[2]), headSize: Self.head,
      replicatesColumns: replicatesColumns, dtype: .float32, device: .cpu)
    let attention = try NeighborhoodAttention(
      w / "attn", channels: Self.channels, headSize: Self.head)
    try attention.add(to: x, norm: VolumeNorm(w / "norm", channels: Self.channels), windows)
    #expect(try (x - expected).abs().max().item() < 2e-5 * expected.abs().max().item())
  }

  @Test func columnsFewerThanTheKernelAreReplicated() throws {
    let source = try Self.weights()
    let x = try Generator(seed: 5).normal([3, 3, 2, Self.channels])
    let expected = try Self.plain(x, source, [3, 3, 7], replicatesColumns: true)
    let windows = try NeighborhoodWindows(
      VolumeSize(frames: 3, rows: 3, columns: 2), kernel: Kernel(time: 3, height: 3, width: 7),
      headSize: Self.head, replicatesColumns: true, dtype: .float32, device: .cpu)
    let w = Weights(source)
    try NeighborhoodAttention(w / "attn", channels: Self.channels, headSize: Self.head)
      .add(to: x, norm: VolumeNorm(w / "norm", channels: Self.channels), windows)
    #expect(try (x - expected).abs().max().item() < 2e-5 * expected.abs().max().item())
  }

  @Test(arguments: [(1, 1), (3, 3), (5, 3), (12, 7), (13, 7), (40, 7), (41, 1)], [1, 2, 6])
  func eachQueryHasItsWindow(_ axis: (count: Int, kernel: Int), block: Int) {
    for isPadded in [false, true] {
      var query = 0
      for run in NeighborhoodWindows.runs(
        axis.count, axis.kernel, block: block, isPadded: isPadded)
      {
        #expect(run.start == query && run.blockSize <= block)
        for first in run.firstKeys {
          for offset in run.offsets {
            let start =
              isPadded
              ? query : min(max(query - axis.kernel / 2, 0), axis.count - axis.kernel)
            #expect(first + offset == start)
            #expect(offset >= 0 && offset + axis.kernel <= run.keyCount)
            query += 1
          }
        }
      }
      #expect(query == axis.count)
    }
  }

  @Test func volumesSmallerThanTheKernelAreRefused() {
    #expect(throws: Support.Issue.self) {
      try NeighborhoodWindows(
        VolumeSize(frames: 2, rows: 3, columns: 3), kernel: Kernel(time: 3, height: 3, width: 3),
        headSize: Self.head, dtype: .float32, device: .cpu)
    }
  }

  @Test(arguments: [(16, 4, 6), (24, 4, 10), (32, 8, 12), (64, 16, 24), (128, 32, 48)])
  func headsAreDividedAmongTheAxes(_ head: Int, time: Int, space: Int) {
    #expect(RotaryVolume.split(head) == (time, space))
  }
}
