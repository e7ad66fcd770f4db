import NN

/// The shape of a latent upsampler, from the `config` of its file (ltx-core,
/// `upsampler/model_configurator.py`).
public struct LatentUpsamplerConfiguration: Sendable, Equatable {
  /// The scale of height and width: `numerator / denominator`.
  public struct Scale: Sendable, Equatable {
    public var numerator: Int
    public var denominator: Int

    public static let one = Scale(numerator: 1, denominator: 1)

    public var value: Double { Double(numerator) / Double(denominator) }

    /// The number of rows or columns after upsampling, rounded up.
    public func callAsFunction(_ size: Int) -> Int {
      (size * numerator + denominator - 1) / denominator
    }
  }

  /// The axes that are upsampled, and the method.
  public enum Method: Sendable, Equatable {
    /// Each frame separately: one position becomes `numerator` positions, which are then blurred
    /// and subsampled by `denominator`.
    case rational
    /// Each frame separately: one position becomes 2 x 2 positions.
    case space
    /// One frame becomes two; the first of all is dropped.
    case time
    /// Space and time together.
    case spaceAndTime
  }

  /// The latent's channels.
  public var inputChannels: Int
  /// The channels between the convolutions; a multiple of 32.
  public var middleChannels: Int
  /// The number of residual blocks before the upsampling, and after it.
  public var blocksPerStage: Int
  /// 3: convolutions see neighboring frames; 2: each frame is a separate image.
  public var dimensions: Int
  public var method: Method
  public var spatialScale: Scale
  /// Whether the output has twice as many frames, less one: the first latent frame stands for one
  /// frame, the others for several.
  public var isTemporal: Bool { method == .time || method == .spaceAndTime }

  /// The number of channel groups that are normalized together.
  static let normGroups = 32

  /// The size of the output, in latent frames, rows and columns.
  public func outputSize(frames: Int, rows: Int, columns: Int) -> (
    frames: Int, rows: Int, columns: Int
  ) {
    (isTemporal ? 2 * frames - 1 : frames, spatialScale(rows), spatialScale(columns))
  }

  /// - Parameter c: The complete `config` of the upsampler's file.
  /// - Throws: `Issue` for a value that is of the wrong type or not supported.
  public init(_ c: Configuration) throws {
    inputChannels = try c.positive("in_channels", default: 128)
    middleChannels = try c.positive("mid_channels", default: 512)
    guard middleChannels.isMultiple(of: Self.normGroups) else {
      throw c.error(
        "mid_channels", "is \(middleChannels); it must be a multiple of \(Self.normGroups)")
    }
    blocksPerStage = try c.positive(
      "num_blocks_per_stage", default: 4, upTo: Configuration.maxLayers)
    dimensions = try c.int("dims", default: 3, in: 2...3)
    let isSpatial = try c.bool("spatial_upsample", default: true)
    let isTemporal = try c.bool("temporal_upsample", default: false)
    let isRational = try c.bool("rational_resampler", default: false)
    let scale = try c.positiveDouble("spatial_scale", default: 2)
    switch (isSpatial, isTemporal) {
    case (true, true): method = .spaceAndTime
    case (false, true): method = .time
    case (true, false): method = isRational ? .rational : .space
    case (false, false):
      throw c.error(
        "spatial_upsample", "and temporal_upsample are both false: nothing would become larger")
    }
    // A single image has no frames to double, and the rational resampler splits a video into frames
    // itself.
    guard dimensions == 3 || method == .space else {
      throw c.error("dims", "is 2, which is supported only when height and width are doubled")
    }
    switch method {
    case .time: spatialScale = .one
    case .space, .spaceAndTime: spatialScale = Scale(numerator: 2, denominator: 1)
    case .rational:
      let known: [Double: Scale] = [
        0.75: Scale(numerator: 3, denominator: 4), 1.5: Scale(numerator: 3, denominator: 2),
        2: Scale(numerator: 2, denominator: 1), 4: Scale(numerator: 4, denominator: 1),
      ]
      guard let found = known[scale] else {
        throw c.error(
          "spatial_scale", "is \(scale); a rational resampler scales by 0.75, 1.5, 2 or 4")
      }
      spatialScale = found
    }
  }
}
