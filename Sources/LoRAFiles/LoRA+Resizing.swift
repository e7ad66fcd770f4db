// R rank, r new rank, N outputs, M inputs.

import Torch

extension LoRA {
  /// How far a LoRA is to be cut down.
  public enum Size: Sendable {
    /// To this rank; layers of a lower one stay as they are.
    case rank(Int)
    /// Each layer to the lowest rank that keeps this share of its energy, the square of B A's
    /// Frobenius norm.
    case energy(Double)
  }

  /// What resizing kept of a layer.
  public struct ResizedLayer: Sendable {
    public let path: String
    public let oldRank: Int
    public let newRank: Int
    /// The squares of the singular values of B A: those kept, and all.
    public let keptEnergy: Double
    public let energy: Double

    /// 1 for a layer without effect.
    public var keptShare: Double { energy == 0 ? 1 : keptEnergy / energy }
  }

  /// The closest LoRA of a lower rank, layer by layer (Eckart and Young, 1936): B A's leading
  /// singular vectors.
  ///
  /// - Parameter report: called after each layer.
  /// - Throws: `LoRAError` for a rank below 1, a share that is not in (0, 1], and numbers that are
  ///   not finite.
  public func resized(
    to size: Size, report: (_ done: Int, _ total: Int) throws -> Void = { _, _ in }
  ) throws -> (lora: LoRA, layers: [ResizedLayer]) {
    switch size {
    case .rank(let rank) where rank < 1: throw problem("can't have the rank \(rank); use 1 or more")
    case .energy(let share) where !(share > 0 && share <= 1):
      throw problem(
        "can't keep a share of \(share) of its energy; use a number above 0 and up to 1, such as 0.95"
      )
    default: break
    }
    try requirePlain(layers, "resized")
    var result = self
    var reports: [ResizedLayer] = []
    for index in layers.indices {
      guard let (layer, resizing) = try layers[index].resized(to: size) else {
        throw problem(
          "has numbers in \(layers[index].path) that are not finite; the file is damaged")
      }
      result.layers[index] = layer
      reports.append(resizing)
      try report(index + 1, layers.count)
    }
    for key in Self.scaleKeys { result.metadata[key] = nil }
    return (result, reports)
  }
}

extension LoRA.Layer {
  /// B A is never formed: with B = Q T and A^T = P S from QR decompositions, its singular values
  /// are those of the small matrix T S^T, whose leading left vectors U give B' = Q U and A' = U^T T
  /// A. All of it in float64.
  ///
  /// - Returns: nil where a number is not finite.
  fileprivate func resized(to size: LoRA.Size) throws -> (LoRA.Layer, LoRA.ResizedLayer)? {
    let (a, b) = (try down.to(.float64), try up.to(.float64))
    let (q, t) = try b.qr()
    let (_, s) = try a.transpose(0, 1).qr(mode: "r")
    let small = try t.matmul(s.transpose(0, 1))
    guard try small.isAllFinite() else { return nil }
    let (values, vectors) = try small.matmul(small.transpose(0, 1)).eigh()  // ascending
    // Rounding makes tiny ones negative.
    let squares: [Double] = try values.array().map { max($0, 0) }.reversed()
    let energy = squares.reduce(0, +)
    let newRank: Int
    switch size {
    case .rank(let rank): newRank = min(rank, self.rank)
    case .energy(let share):
      var sum = 0.0
      // Rounding must not make a share of 1 out of reach.
      newRank = min(
        self.rank,
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
    // B A has no more singular values than its smaller side; what is left of the rank is zeros.
    let count = min(newRank, squares.count)
    let leading = try vectors.narrow(1, vectors.size(1) - count, count).flip([1])
    // Half of each singular value goes to either factor, so that both have numbers of like size.
    let roots = squares.prefix(count).map { $0 > energy * 1e-24 ? $0.squareRoot().squareRoot() : 1 }
    let root = try Tensor(roots)
    var layer = self
    layer.up = try q.matmul(leading) * root
    layer.down = try leading.transpose(0, 1).matmul(t).matmul(a) / root.unsqueeze(1)
    if count < newRank {
      layer.up = try .cat([layer.up, .zeros([up.size(0), newRank - count], dtype: .float64)], 1)
      layer.down = try .cat(
        [layer.down, .zeros([newRank - count, down.size(1)], dtype: .float64)], 0)
    }
    return (layer, report(squares.prefix(newRank).reduce(0, +)))
  }
}
