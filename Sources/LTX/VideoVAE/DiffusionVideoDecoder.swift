// B batch, C latent channels, F H W latent frames, rows, columns, T H W c the size and channels of
// a volume of features [T, H, W, c].

import NN
import Support
import Torch

/// Decodes latents to pixels by diffusion (ltx-core, `video_vae/diffusion_video_decoder.py`).
///
/// Three stages expand the latent. A fourth one expands it to the context of a fifth, which
/// denoises patches of pixels in a few steps. The last two run tile by tile. Tiles overlap by at
/// least the distance over which their borders change the result.
public struct DiffusionVideoDecoder: Sendable {
  public let configuration: VideoVAEConfiguration.DiffusionDecoder
  public let statistics: ChannelStatistics
  private let latentIn: ChannelLinear
  private let stages: [Stage]
  private let pixelsIn: ChannelLinear
  private let time: TimeEmbedding
  private let blocks: [DenoisingBlock]
  private let normOut: VolumeNorm
  private let pixelsOut: ChannelLinear
  private let device: Device
  private var dtype: DType { latentIn.dtype }

  /// One of the stages that expand the latent.
  private struct Stage: Sendable {
    let blocks: [NeighborhoodBlock]
    let upsampling: LinearUpsampling
  }

  /// From the timestep to the modulation of all blocks.
  private struct TimeEmbedding: Sendable {
    let linear1: ChannelLinear
    let linear2: ChannelLinear
    let projection: ChannelLinear
    let scale: Double

    init(_ w: Weights, _ configuration: VideoVAEConfiguration.DiffusionDecoder) throws {
      let (width, channels) = (configuration.timeChannels, configuration.channels)
      let mlp = w / "t_embedder" / "mlp"
      linear1 = try ChannelLinear(mlp / 0, inputs: 256, outputs: width)
      linear2 = try ChannelLinear(mlp / 2, inputs: width, outputs: width)
      projection = try ChannelLinear(
        w / "shared_adaln" / "proj", inputs: width, outputs: 7 * channels)
      scale = configuration.timestepScale
    }

    /// [7, channels], float32.
    func callAsFunction(_ timestep: Double) throws -> Tensor {
      let scaled = try Tensor.full(
        [1], Scalar(timestep * scale), device: linear1.weight.device)
      let sinusoid = try AdaLNSingle.sinusoid(scaled).to(linear1.dtype)
      let embedding = try linear2(linear1(sinusoid).silu())
      return try projection(embedding.silu()).reshape([7, -1]).to(.float32)
    }
  }

  /// - Parameter w: The scope of the VAE, which holds `decoder` and `per_channel_statistics`.
  /// - Throws: `WeightError` if the checkpoint doesn't fit the configuration.
  public init(_ w: Weights, configuration: VideoVAEConfiguration.DiffusionDecoder) throws {
    self.configuration = configuration
    statistics = try ChannelStatistics(w, channels: configuration.latentChannels)
    device = statistics.mean.device
    let w = w / "decoder"
    latentIn = try ChannelLinear(
      w / "conv_in", inputs: configuration.latentChannels,
      outputs: configuration.stages[0].channels)
    let outputs =
      configuration.stages.dropFirst().map(\.channels) + [configuration.contextChannels]
    stages = try configuration.stages.enumerated().map { index, stage in
      Stage(
        blocks: try (0..<stage.depth).map {
          try NeighborhoodBlock(
            w / "det_stages" / index / $0, channels: stage.channels,
            headSize: configuration.headSize)
        },
        upsampling: try LinearUpsampling(
          w / "upsamples" / index, inputs: stage.channels, outputs: outputs[index],
          factors: stage.upsampling))
    }
    let patch =
      configuration.pixelChannels * configuration.patchSize * configuration.patchSize
    let channels = configuration.channels
    pixelsIn = try ChannelLinear(w / "conv_in_x_t", inputs: patch, outputs: channels)
    time = try TimeEmbedding(w, configuration)
    blocks = try (0..<configuration.depth).map {
      try DenoisingBlock(w / "diff_blocks" / $0, configuration)
    }
    normOut = try VolumeNorm(w / "norm_out", channels: channels)
    pixelsOut = try ChannelLinear(w / "conv_out", inputs: channels, outputs: patch)
    // A head for previews, which some files contain.
    try w.requireAllUsed { $0.hasPrefix("coarse_") }
  }

  /// - Parameters:
  ///   - latent: [B, C, F, H, W], normalized as the encoder returns it.
  ///   - tiling: The tiling for videos that are too long or large to be decoded at once.
  ///   - noise: The source of standard normal noise. It is called once for the whole video, with
  ///     its size in pixels; a decoder of one step that predicts pixels calls it for each tile.
  /// - Returns: Pixels [B, 3, (F - 1) * 8 + 1, H * 32, W * 32], about -1 ... 1 but not clamped, in
  ///   the latent's dtype.
  /// - Throws: `Issue` for a latent of another shape, tiles that the decoder can't be tiled by, or
  ///   missing noise.
  public func decode(_ latent: Tensor, tiling: Tiling? = nil, noise: NoiseSource?) throws -> Tensor
  {
    var parts: [Tensor] = []
    try decode(latent, tiling: tiling ?? Tiling(), noise: noise) { parts.append($0) }
    return parts.count == 1 ? parts[0] : try Tensor.cat(parts, 2)
  }

  /// Decodes part by part, so that a long video is never in memory as a whole.
  ///
  /// - Parameter receive: Called with consecutive frames [B, 3, frames, H * 32, W * 32].
  public func decode(
    _ latent: Tensor, tiling: Tiling, noise: NoiseSource?, receive: (Tensor) throws -> Void
  ) throws {
    let sizes = try VideoDecodingSizes(latent, configuration)
    let grid = try configuration.tileGrid(tiling, latent: sizes.padded)
    guard let noise else { throw VideoDecoder.noiseIssue }
    let video = sizes.pixels(sizes.padded)
    let shape = [latent.size(0), configuration.pixelChannels]
    let isDrawnPerTile = configuration.steps == 1 && configuration.output == .pixels
    // Noise stays where it was drawn; each tile takes its part.
    let shared =
      isDrawnPerTile
      ? nil : try noise(shape + [video.frames, video.rows, video.columns]).to(dtype)
    let features = try (0..<latent.size(0)).map { try expand(sizes.pad(latent.select(0, $0))) }

    func tile(_ t: TileSpan, _ h: TileSpan, _ w: TileSpan) throws -> Tensor {
      let shape = shape + [stageFrames(t, sizes), h.pixels.count, w.pixels.count]
      var pixels: Tensor
      if let shared {
        let own = try shared.narrow(2, t.pixels).narrow(3, h.pixels).narrow(4, w.pixels)
        pixels = try own.extendedInTime(to: shape[2]).to(device)
      } else {
        pixels = try noise(shape).to(device, dtype)
      }
      let tiles = try features.enumerated().map { index, features in
        try denoise(pixels.narrow(0, index, 1), context(features, t, h, w, sizes))
      }
      pixels = tiles.count == 1 ? tiles[0] : try Tensor.cat(tiles, 0)
      return try pixels.narrow(2, 0, t.pixels.count).contiguous()
    }

    let wanted = sizes.pixels(sizes.latent)
    let (top, left) = (
      sizes.before.rows * configuration.compression.height,
      sizes.before.columns * configuration.compression.width
    )
    var done = 0
    try grid.decode(
      (shape[0], shape[1], video.rows, video.columns),
      dtype: dtype == .bfloat16 ? .float16 : dtype, device: device, tile: tile,
      receive: { part in
        let count = min(part.size(2), wanted.frames - done)
        guard count > 0 else { return }
        done += count
        try receive(
          part.narrow(2, 0, count).narrow(3, top, wanted.rows).narrow(4, left, wanted.columns)
            .to(latent.dtype).contiguous())
      })
  }

  /// The first three stages.
  ///
  /// - Parameter latent: [C, F, H, W], of at least the min size.
  /// - Returns: The input of the fourth stage. Behind the video, it has the frames of copies of its
  ///   last latent frame.
  private func expand(_ latent: Tensor) throws -> Tensor {
    let frames = latent.size(1)
    var x = try latent.to(device, dtype).permute([1, 2, 3, 0])
    x = try Tensor.cat(
      [x] + [Tensor](repeating: x.narrow(0, frames - 1, 1), count: configuration.ghostFrames), 0)
    x = try latentIn(statistics.restore(x).contiguous())
    for index in 0..<3 { x = try run(index, x, dropsFirst: true) }
    return x
  }

  /// A stage that expands its input, which is changed in place.
  ///
  /// - Parameter frames: The number of frames that are expanded, from the first; nil for all.
  private func run(_ index: Int, _ x: Tensor, dropsFirst: Bool, keeping frames: Int? = nil) throws
    -> Tensor
  {
    let windows = try NeighborhoodWindows(
      x.volumeSize, kernel: configuration.stages[index].kernel, headSize: configuration.headSize,
      dtype: dtype, device: device)
    for block in stages[index].blocks { try block.apply(to: x, windows) }
    return try stages[index].upsampling(
      frames.map { try x.narrow(0, 0, $0) } ?? x, dropsFirst: dropsFirst)
  }

  /// The fourth stage of a tile: the context of its pixels.
  private func context(
    _ features: Tensor, _ t: TileSpan, _ h: TileSpan, _ w: TileSpan, _ sizes: VideoDecodingSizes
  ) throws -> Tensor {
    let endsVideo = t.latent.upperBound == sizes.tiled.frames
    let first = t.latent.lowerBound
    let count = (endsVideo ? features.size(0) : t.latent.upperBound) - first
    // Tiles overlap, so each changes a copy.
    let tile = try features.narrow(0, first, count).narrow(1, h.latent).narrow(2, w.latent)
      .clone().contiguous()
    return try run(
      3, tile, dropsFirst: first == 0,
      keeping: configuration.contextFrames(t.latent.count, endsVideo: endsVideo))
  }

  /// The number of frames of the last stage, which may be more than those of the tile: a window is
  /// never smaller than its kernel.
  private func stageFrames(_ t: TileSpan, _ sizes: VideoDecodingSizes) -> Int {
    let endsVideo = t.latent.upperBound == sizes.tiled.frames
    let cells = configuration.contextFrames(t.latent.count, endsVideo: endsVideo)
    return VolumeSize(frames: cells, rows: 1, columns: 1).upsampled(
      configuration.stages[3].upsampling, dropsFirst: t.latent.lowerBound == 0
    ).frames
  }

  /// The last stage in all of its steps.
  ///
  /// - Parameters:
  ///   - noise: [1, 3, frames, height, width]
  ///   - context: [frames, height / patch, width / patch, context channels]
  /// - Returns: The pixels, as the noise.
  private func denoise(_ noise: Tensor, _ context: Tensor) throws -> Tensor {
    let windows = try NeighborhoodWindows(
      context.volumeSize, kernel: configuration.kernel, headSize: configuration.headSize,
      replicatesColumns: true, dtype: dtype, device: device)
    var pixels = noise
    let steps = configuration.steps
    for step in 0..<steps {
      let timestep = Double(steps - step) / Double(steps)
      let predicted = try predict(pixels, context, timestep, windows)
      switch configuration.output {
      case .pixels where step == steps - 1: return predicted
      case .pixels:
        // The velocity is (pixels - predicted) / timestep.
        let wide = try pixels.to(.float32)
        let velocity = try (wide - predicted.to(.float32)) / timestep
        pixels = try wide.adding(velocity, scale: Scalar(-1 / Double(steps))).to(dtype)
      case .velocity:
        pixels = try pixels.to(.float32).adding(
          predicted.to(.float32), scale: Scalar(-1 / Double(steps))
        ).to(dtype)
      }
    }
    return pixels
  }

  /// The model's prediction at a timestep.
  private func predict(
    _ pixels: Tensor, _ context: Tensor, _ timestep: Double, _ windows: NeighborhoodWindows
  ) throws -> Tensor {
    let modulation = try time(timestep)
    let x = try pixelsIn(PixelPatches.fold(pixels, size: configuration.patchSize).squeeze(0))
    for block in blocks {
      try block.apply(to: x, context: context, modulation: modulation, windows)
    }
    let patches = try pixelsOut(normOut(x))
    return try PixelPatches.unfold(patches.unsqueeze(0), size: configuration.patchSize)
  }
}

/// The sizes of a latent that is decoded by diffusion.
struct VideoDecodingSizes {
  let latent: VolumeSize
  /// At least the size in which every window has all of its positions.
  let padded: VolumeSize
  /// The frames, rows and columns that padding adds before the latent.
  let before: VolumeSize
  /// The size of the fourth stage's input, without the copies behind the video.
  let tiled: VolumeSize
  private let compression: CompressionFactors

  init(_ tensor: Tensor, _ configuration: VideoVAEConfiguration.DiffusionDecoder) throws {
    let shape = tensor.shape
    guard shape.count == 5, shape[1] == configuration.latentChannels, shape.allSatisfy({ $0 > 0 })
    else {
      throw Issue.shape(
        "latent", shape,
        expected: "[batch, \(configuration.latentChannels), frames, rows, columns]")
    }
    self.init(
      VolumeSize(frames: shape[2], rows: shape[3], columns: shape[4]), configuration)
  }

  init(_ latent: VolumeSize, _ configuration: VideoVAEConfiguration.DiffusionDecoder) {
    self.latent = latent
    let floor = configuration.latentFloor
    padded = VolumeSize(
      frames: max(latent.frames, floor.frames), rows: max(latent.rows, floor.rows),
      columns: max(latent.columns, floor.columns))
    before = VolumeSize(
      frames: 0, rows: (padded.rows - latent.rows) / 2,
      columns: (padded.columns - latent.columns) / 2)
    tiled = configuration.tiledSize(latent: padded)
    compression = configuration.compression
  }

  /// The size in pixels of a latent.
  func pixels(_ latent: VolumeSize) -> VolumeSize {
    latent.upsampled(compression, dropsFirst: true)
  }

  /// Extends [C, F, H, W] to the padded size by copies of the last frame and of the edges.
  func pad(_ x: Tensor) throws -> Tensor {
    var x = x
    for (axis, before, size) in [
      (1, before.frames, padded.frames), (2, before.rows, padded.rows),
      (3, before.columns, padded.columns),
    ] {
      let count = x.size(axis)
      guard count < size else { continue }
      x = try Tensor.cat(
        [Tensor](repeating: x.narrow(axis, 0, 1), count: before) + [x]
          + [Tensor](repeating: x.narrow(axis, count - 1, 1), count: size - count - before), axis)
    }
    return x
  }
}

extension Tensor {
  /// The size of a volume [T, H, W, C].
  fileprivate var volumeSize: VolumeSize {
    let shape = shape
    return VolumeSize(frames: shape[0], rows: shape[1], columns: shape[2])
  }

  /// [B, c, frames, H, W] with copies of the last frame.
  fileprivate func extendedInTime(to frames: Int) throws -> Tensor {
    let count = size(2)
    guard count < frames else { return self }
    return try Tensor.cat(
      [self] + [Tensor](repeating: narrow(2, count - 1, 1), count: frames - count), 2)
  }
}
