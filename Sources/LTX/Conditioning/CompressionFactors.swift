import NN
import Support

/// The number of pixels and pixel frames in a latent cell.
public struct CompressionFactors: Sendable, Equatable {
  public var time: Int
  public var height: Int
  public var width: Int

  public init(time: Int, height: Int, width: Int) {
    self.time = time
    self.height = height
    self.width = width
  }

  /// The factors of the published LTX-2 checkpoints.
  public static let usual = CompressionFactors(time: 8, height: 32, width: 32)

  /// The number of latent frames of a clip of `8k + 1` pixel frames. The first latent frame is a
  /// single pixel frame.
  public func latentFrames(_ frames: Int) -> Int { (frames - 1) / time + 1 }
}

extension CompressionFactors {
  /// The factors by which everything but the video VAE itself counts frames and pixels: positions,
  /// masks, sizes of clips (ltx-core, `types.py`).
  ///
  /// They follow from the blocks of a flat configuration, `vae.encoder_blocks`, or without them
  /// `vae.decoder_blocks`. A nested configuration and one without a video VAE give the usual ones.
  ///
  /// - Parameter config: The complete `config` of the checkpoint.
  /// - Throws: `Issue` for values of the wrong type, and for factors beyond `maxFactor`.
  public init(_ config: Configuration) throws {
    self = .usual
    guard config.has("vae") else { return }
    let vae = try config.object("vae")
    for key in ["encoder_blocks", "decoder_blocks"] {
      let blocks = try vae.array(key, default: [], upTo: Configuration.maxLayers)
      guard !blocks.isEmpty else { continue }
      let patch = try vae.positive("patch_size", default: 4, upTo: Self.maxFactor)
      (time, height, width) = (1, patch, patch)
      for (index, block) in blocks.enumerated() {
        guard let name = block.array?.first?.string else {
          throw vae.error(
            "\(key)[\(index)]", "must be a pair: the name of a block and its settings")
        }
        let isAll = name.hasPrefix("compress_all")
        if isAll || name.hasPrefix("compress_time") { time *= 2 }
        if isAll || name.hasPrefix("compress_space") { (height, width) = (2 * height, 2 * width) }
        guard max(time, height, width) <= Self.maxFactor else {
          throw vae.error(
            key,
            "compresses by more than \(Self.maxFactor) along an axis; the configuration is damaged")
        }
      }
      return
    }
  }

  /// The max number of pixels along an axis, or frames, per latent cell.
  static let maxFactor = 4096
}

extension CompressionFactors {
  /// Pixels whose size is not a multiple of the compression.
  func sizeIssue(height: Int, width: Int) -> Issue {
    func nearest(_ size: Int, _ factor: Int) -> Int { max(1, size / factor) * factor }
    return Issue(
      ["pixels"],
      "the height must be a multiple of \(self.height) and the width one of \(self.width) "
        + "(got \(height) x \(width))",
      suggestion: "Resize or crop them, for example to \(nearest(height, self.height)) x "
        + "\(nearest(width, self.width)).")
  }

  /// A latent of one row or column, in a model that pads by reflection.
  func reflectionIssue(rows: Int, columns: Int) -> Issue {
    Issue(
      ["latent"],
      "is too small for reflection padding (got \(rows) x \(columns), expected at least 2 x 2)",
      suggestion:
        "Use at least \(2 * height) x \(2 * width) pixels, and tiles that leave no smaller "
        + "remainder.")
  }
}
