/// Pixels or latents that a video VAE can't take as they are.
public enum VideoVAEError: Error, Equatable, CustomStringConvertible, Sendable {
  /// `expected` in words; `found` is the shape that was given.
  case shape(expected: String, found: [Int])
  /// Height and width are not multiples of the compression.
  case pixelSize(height: Int, width: Int, multiples: CompressionFactors)
  /// A picture, or a tile of one, whose latent is one row or column, in a model that pads by
  /// reflection.
  case tooSmallToReflect(rows: Int, columns: Int, compression: CompressionFactors)
  /// Sizes of tiles that the model can't be tiled by.
  case tiling(axis: String, problem: String)
  /// The decoder adds noise, and was not given a source of it.
  case noiseMissing

  public var description: String {
    switch self {
    case .shape(let expected, let found):
      return "expected \(expected), but the shape is \(found)"
    case .pixelSize(let height, let width, let multiples):
      return
        "a picture of \(height) x \(width) (height x width) can't be encoded: height must be a multiple of "
        + "\(multiples.height) and width one of \(multiples.width); resize or crop it, "
        + "e.g. to \(nearest(height, multiples.height)) x \(nearest(width, multiples.width))"
    case .tooSmallToReflect(let rows, let columns, let compression):
      return
        "a latent of \(rows) x \(columns) (rows x columns) is too small for a model with reflection padding, which "
        + "needs 2 x 2: use at least \(2 * compression.height) x \(2 * compression.width) pixels, and tiles that leave no "
        + "smaller rest"
    case .tiling(let axis, let problem):
      return "tiles: \(axis) \(problem)"
    case .noiseMissing:
      return "this decoder adds noise; give it a source of standard normal numbers"
    }
  }

  private func nearest(_ size: Int, _ factor: Int) -> Int { max(1, size / factor) * factor }
}
