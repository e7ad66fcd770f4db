// R rank, r new rank, O outputs, I inputs of a layer.

import NN
import Support
import Torch

extension LoRA {
  /// The size to resize a LoRA to.
  public enum Size: Sendable {
    /// A rank. Layers of a lower rank stay unchanged.
    case rank(Int)
    /// The lowest rank of each layer that keeps this share of its energy, the square of the
    /// Frobenius norm of B A.
    case energy(Double)
  }

  /// The part of a layer that resizing kept.
  public struct ResizedLayer: Sendable {
    public let path: String
    public let oldRank: Int
    public let newRank: Int
    /// The sums of the squares of the singular values of B A: of those kept, and of all.
    public let keptEnergy: Double
    public let energy: Double

    /// 1 for a layer without effect.
    public var keptShare: Double { energy == 0 ? 1 : keptEnergy / energy }
  }

  /// The closest LoRA of a lower rank, layer by layer, from the leading singular vectors of B A
  /// (Eckart and Young, 1936). A layer of another kind becomes a LoRA, if its change can be written
  /// as two factors.
  ///
  /// - Parameter report: Called after each layer.
  /// - Throws: `Issue` for a rank below 1, a share that isn't in (0, 1], values that aren't
  ///   finite, and layers that can't be written as two factors.
  public func resized(
    to size: Size, report: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws -> (lora: LoRA, layers: [ResizedLayer]) {
    switch size {
    case .rank(let rank) where rank < 1:
      throw problem("can't be resized to rank \(rank) (expected 1 or more)")
    case .energy(let share) where !(share > 0 && share <= 1):
      throw problem(
        "can't be resized to a share of \(share) of its energy (expected above 0 and up to 1)")
    default: break
    }
    let factors = try layers.map { try lowRank($0, "resized") }
    var result = self
    var reports: [ResizedLayer] = []
    for index in layers.indices {
      guard let (layer, resizing) = try layers[index].resized(factors[index], to: size) else {
        throw problem(
          "has values in \(layers[index].path) that are not finite", "The file is damaged.")
      }
      result.layers[index] = layer
      reports.append(resizing)
      try report(index + 1, layers.count)
    }
    for key in Self.scaleKeys { result.metadata[key] = nil }
    if zip(layers, result.layers).contains(where: { $0.kind != $1.kind }) {
      for key in Self.kindKeys { result.metadata[key] = nil }
    }
    return (result, reports)
  }
}

extension LoRA.Layer {
  /// B A is never formed: with B = Q T and A^T = P S from QR decompositions, its singular values
  /// are those of the small matrix T S^T, whose leading left vectors U give B' = Q U and A' = U^T T
  /// A. All of it is computed in float64.
  ///
  /// - Returns: Nil if a value isn't finite.
  fileprivate func resized(
    _ factors: LoRAAdapter, to size: LoRA.Size
  ) throws -> (LoRA.Layer, LoRA.ResizedLayer)? {
    let rank = factors.down.size(0)
    let (a, b) = (try factors.down.to(.float64), try factors.up.to(.float64))
    let (q, t) = try b.qr()
    let (_, s) = try a.transpose(0, 1).qr(mode: "r")
    let small = try t.matmul(s.transpose(0, 1))
    guard try small.isAllFinite() else { return nil }
    let (values, vectors) = try small.matmul(small.transpose(0, 1)).eigh()  // ascending
    // Rounding can make tiny ones negative.
    let squares: [Double] = try values.array().map { max($0, 0) }.reversed()
    let energy = squares.reduce(0, +)
    let newRank: Int
    switch size {
    case .rank(let new): newRank = min(new, rank)
    case .energy(let share):
      var sum = 0.0
      // Rounding must not make a share of 1 unreachable.
      newRank = min(
        rank,
        squares.firstIndex { square in
          sum += square
          return sum >= share * energy * (1 - 1e-12)
        }.map { $0 + 1 } ?? squares.count)
    }
    func report(_ kept: Double) -> LoRA.ResizedLayer {
      LoRA.ResizedLayer(
        path: path, oldRank: rank, newRank: newRank, keptEnergy: kept, energy: energy)
    }
    guard newRank < rank else { return (self, report(energy)) }
    // B A has no more singular values than its smaller side; the rest of the rank is zeros.
    let count = min(newRank, squares.count)
    let leading = try vectors.narrow(1, vectors.size(1) - count, count).flip([1])
    // The square root of each singular value goes into each factor, so that both have the same
    // size.
    let roots = squares.prefix(count).map { $0 > energy * 1e-24 ? $0.squareRoot().squareRoot() : 1 }
    let root = try Tensor(roots)
    var up = try q.matmul(leading) * root
    var down = try leading.transpose(0, 1).matmul(t).matmul(a) / root.unsqueeze(1)
    if count < newRank {
      up = try .cat([up, .zeros([up.size(0), newRank - count], dtype: .float64)], 1)
      down = try .cat([down, .zeros([newRank - count, down.size(1)], dtype: .float64)], 0)
    }
    var layer = self
    layer.adapter = LoRAAdapter(down: down, up: up, scale: 1)
    return (layer, report(squares.prefix(newRank).reduce(0, +)))
  }
}
