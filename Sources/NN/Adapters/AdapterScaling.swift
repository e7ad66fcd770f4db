/// The rule that turns alpha into the scale of an adapter's change.
public enum AdapterScaling: Sendable, Equatable {
  /// alpha / rank (Hu et al., "LoRA", 2021).
  case alphaOverRank
  /// alpha / sqrt(rank), rsLoRA (Kalajdzievski, "A Rank Stabilization Scaling Factor for
  /// Fine-Tuning with LoRA", 2023). The size of the change stays the same as the rank grows.
  case alphaOverSquareRootOfRank

  public func scale(alpha: Double, rank: Int) -> Double {
    switch self {
    case .alphaOverRank: alpha / Double(rank)
    case .alphaOverSquareRootOfRank: alpha / Double(rank).squareRoot()
    }
  }
}
