import NN
import Support

extension VideoVAEConfiguration {
  /// The shape of a diffusion decoder, from `vae.decoder` of the configuration, or from `vae` itself
  /// (ltx-core, `video_vae/diffusion_video_decoder.py`).
  ///
  /// Four stages expand the latent to a context. A fifth denoises patches of pixels that attend to
  /// their neighborhood and read the context.
  public struct DiffusionDecoder: Sendable, Equatable {
    /// A stage that attends within neighborhoods at one resolution.
    public struct Stage: Sendable, Equatable {
      public var channels: Int
      public var depth: Int
      public var kernel: Kernel
      /// The growth of the volume behind the stage.
      public var upsampling: CompressionFactors
    }

    /// The size of a neighborhood, in positions.
    public struct Kernel: Sendable, Equatable {
      public var time: Int
      public var height: Int
      public var width: Int
    }

    /// The prediction of the last stage.
    public enum Output: String, Sendable, CaseIterable {
      case velocity = "v"
      case pixels = "x0"
    }

    public var pixelChannels: Int
    public var latentChannels: Int
    public var patchSize: Int
    public var headSize: Int
    /// The four stages before the last one.
    public var stages: [Stage]
    public var contextChannels: Int
    /// The channels, blocks and neighborhoods of the last stage.
    public var channels: Int
    public var depth: Int
    public var kernel: Kernel
    public var timeChannels: Int
    /// The factor of the timestep, which is 1 for pure noise.
    public var timestepScale: Double
    public var output: Output
    /// The number of steps of the last stage.
    public var steps: Int

    /// Positions, masks and tiles of the whole pipeline count on these factors, so a decoder with
    /// others is refused.
    public var compression: CompressionFactors { .usual }

    public static let maxSteps = 1000
  }
}

extension VideoVAEConfiguration.DiffusionDecoder {
  /// - Parameter config: The complete `config` of the checkpoint.
  /// - Throws: `Issue` for a value of the wrong type, or one that is not supported.
  public init(_ config: Configuration) throws {
    let vae = try config.object("vae")
    let c = vae.has("decoder") ? try vae.object("decoder") : vae
    output = try vae.choice("model_output_type", default: .velocity)
    latentChannels = try c.positive(
      "in_channels", default: vae.positive("latent_channels", default: 128))
    pixelChannels = try c.positive("out_channels", default: 3)
    patchSize = try c.positive("patch_size", default: 4, upTo: 32)
    let headKey = c.has("head_dim") ? "head_dim" : "na_head_dim"
    headSize = try c.positive(headKey, default: 64, upTo: 4096)
    guard headSize.isMultiple(of: 8), RotaryVolume.split(headSize).time > 0 else {
      throw c.error(
        headKey,
        "must be a multiple of 8 and at least 16 (got \(headSize)): a head is divided "
          + "among time, rows and columns")
    }
    let widths = try c.ints(
      "stage_channels", default: [1024, 512, 256, 256, 128],
      in: 1...Configuration.maxSize, count: 5...5)
    let depths = try c.ints(
      "stage_depths", default: [4, 6, 4, 2, 8], in: 1...Configuration.maxLayers, count: 5...5)
    let kernels =
      try Kernel.list(c, "stage_kernels", count: 5) ?? [
        Kernel(time: 3, height: 7, width: 7), Kernel(time: 3, height: 7, width: 7),
        Kernel(time: 3, height: 5, width: 5), Kernel(time: 3, height: 5, width: 5),
        Kernel(time: 3, height: 3, width: 3),
      ]
    let upsamplings = try Self.upsamplings(c)
    kernel =
      try c.has("stage5_kernel")
      ? Kernel(c, "stage5_kernel", c.ints("stage5_kernel"))
      : Kernel(time: 3, height: 7, width: 7)
    stages = zip(zip(widths, depths), zip(kernels, upsamplings)).map { sizes, shape in
      Stage(channels: sizes.0, depth: sizes.1, kernel: shape.0, upsampling: shape.1.factors)
    }
    contextChannels = widths[4]
    channels = try c.positive("stage5_channels", default: widths[4])
    depth = depths[4]
    timeChannels = try c.positive("t_emb_dim", default: 384)
    timestepScale = try c.double("timestep_scale_multiplier", default: 1, in: -1e6...1e6)
    steps = try c.positive("default_num_inference_steps", default: 2, upTo: Self.maxSteps)

    for (stage, (width, upsampling)) in zip(widths, upsamplings).enumerated() {
      guard width.isMultiple(of: upsampling.reduction),
        width / upsampling.reduction == widths[stage + 1]
      else {
        throw c.error(
          "upsamples[\(stage)]",
          "divides \(width) channels by \(upsampling.reduction), but the next stage has "
            + "\(widths[stage + 1])")
      }
    }
    for (index, width) in widths.prefix(4).enumerated() {
      try requireHeads(c, "stage_channels[\(index)]", width)
    }
    try requireHeads(c, "stage5_channels", channels)
    var total = CompressionFactors(time: 1, height: patchSize, width: patchSize)
    for upsampling in upsamplings {
      total.time *= upsampling.factors.time
      total.height *= upsampling.factors.height
      total.width *= upsampling.factors.width
    }
    guard total == compression else {
      throw c.error(
        "upsamples",
        "expands a latent cell to \(total.time) frames of \(total.height) x \(total.width) pixels "
          + "(expected 8 of 32 x 32, with a patch_size of \(patchSize))")
    }
  }

  private func requireHeads(_ c: Configuration, _ key: String, _ width: Int) throws {
    guard width.isMultiple(of: headSize) else {
      throw c.error(key, "is \(width), which heads of \(headSize) channels can't share evenly")
    }
  }

  private static func upsamplings(_ c: Configuration) throws -> [(
    factors: CompressionFactors, reduction: Int
  )] {
    guard c.has("upsamples") else {
      return [
        (CompressionFactors(time: 1, height: 2, width: 2), 2),
        (CompressionFactors(time: 2, height: 1, width: 1), 2),
        (CompressionFactors(time: 2, height: 2, width: 2), 1),
        (CompressionFactors(time: 2, height: 2, width: 2), 2),
      ]
    }
    let entries = try c.array("upsamples", upTo: 4)
    guard entries.count == 4 else {
      throw c.error("upsamples", "has \(entries.count) entries, expected 4")
    }
    return try entries.enumerated().map { index, entry in
      guard let pair = entry.array, pair.count == 2, let reduction = pair[1].int,
        (1...4096).contains(reduction), let strides = pair[0].array?.compactMap(\.int),
        strides.count == 3, (1...2).contains(strides[0]),
        strides[1...].allSatisfy({ (1...32).contains($0) })
      else {
        throw c.error(
          "upsamples[\(index)]",
          "must be a pair: three strides (1 or 2 in time, 1 to 32 in space) and the number that "
            + "the channels are divided by")
      }
      return (
        CompressionFactors(time: strides[0], height: strides[1], width: strides[2]), reduction
      )
    }
  }
}

extension VideoVAEConfiguration.DiffusionDecoder.Kernel {
  fileprivate init(_ c: Configuration, _ key: String, _ sizes: [Int]) throws {
    guard sizes.count == 3, sizes.allSatisfy({ (1...255).contains($0) && !$0.isMultiple(of: 2) })
    else {
      throw c.error(key, "must be three odd sizes between 1 and 255 (got \(sizes))")
    }
    self.init(time: sizes[0], height: sizes[1], width: sizes[2])
  }

  /// A list of kernels; nil if it is missing.
  fileprivate static func list(_ c: Configuration, _ key: String, count: Int) throws -> [Self]? {
    guard c.has(key) else { return nil }
    let entries = try c.array(key, upTo: count)
    guard entries.count == count else {
      throw c.error(key, "has \(entries.count) entries, expected \(count)")
    }
    return try entries.enumerated().map { index, entry in
      let sizes = entry.array?.compactMap(\.int) ?? []
      return try Self(c, "\(key)[\(index)]", sizes)
    }
  }
}

extension VideoVAEConfiguration.DiffusionDecoder {
  /// The copies of the last latent frame that are appended: windows shift inwards at the end of the
  /// volume, which would show in the last frames.
  var ghostFrames: Int { stages[0].kernel.time / 2 * 2 }

  /// The least latent size, in which every window has all of its positions.
  var latentFloor: VolumeSize {
    var floor = VolumeSize(frames: 1, rows: 1, columns: 1)
    var stride = CompressionFactors(time: 1, height: 1, width: 1)
    func raise(_ kernel: Kernel) {
      floor.frames = max(floor.frames, ceilDivide(kernel.time, stride.time))
      floor.rows = max(floor.rows, ceilDivide(kernel.height, stride.height))
      floor.columns = max(floor.columns, ceilDivide(kernel.width, stride.width))
    }
    for stage in stages {
      raise(stage.kernel)
      stride.time *= stage.upsampling.time
      stride.height *= stage.upsampling.height
      stride.width *= stage.upsampling.width
    }
    raise(kernel)
    return floor
  }

  /// The size of the fourth stage's input, which tiles are cut from.
  func tiledSize(latent: VolumeSize) -> VolumeSize {
    stages.prefix(3).reduce(latent) { $0.upsampled($1.upsampling, dropsFirst: true) }
  }
}

/// The size of a volume of features.
struct VolumeSize: Sendable, Equatable {
  var frames: Int
  var rows: Int
  var columns: Int

  var count: Int { frames * rows * columns }

  /// The size behind an upsampling. One that doubles time makes two of the first frame, the first
  /// of which is dropped at the beginning of a video.
  func upsampled(_ factors: CompressionFactors, dropsFirst: Bool) -> VolumeSize {
    VolumeSize(
      frames: frames * factors.time - (dropsFirst ? factors.time - 1 : 0),
      rows: rows * factors.height, columns: columns * factors.width)
  }
}

/// a / b, rounded up.
func ceilDivide(_ a: Int, _ b: Int) -> Int { (a + b - 1) / b }
