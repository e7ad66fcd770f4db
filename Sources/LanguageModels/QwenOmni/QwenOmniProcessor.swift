// B conversations, S tokens, P patches, H rows, W columns of pixels.

import Foundation
import NN
import Support
import Torch

/// Turns conversations with images, clips and audio into a model's inputs (`transformers`,
/// `Qwen2_5OmniProcessor` and `Qwen3OmniMoeProcessor`).
public struct QwenOmniProcessor: Sendable {
  public struct Options: Sendable {
    /// The rate at which frames were taken from clips.
    public var fps = 2.0
    /// Whether the audio of a clip is interleaved with its frames. A clip without audio is not.
    public var isInterleaved = false
    /// False makes Qwen3-Omni answer without thinking; nil leaves it to the model.
    public var thinking: Bool?
    /// The numbers of pixels of an image, and of a frame of a clip; nil for the model's own.
    public var imageBounds: ClosedRange<Int>?
    public var videoBounds: ClosedRange<Int>?

    public init() {}
  }

  public let configuration: QwenOmniConfiguration
  public let tokenizer: Tokenizer
  private let opening: AssistantOpening
  private let imageSizes: ImageSizes
  private let videoSizes: ImageSizes
  /// [3, 1, 1], float32, times 255
  private let mean: Tensor
  private let deviation: Tensor
  private let logMel: LogMelFeatures

  static let configurationName = "preprocessor_config.json"

  /// - Parameter folder: The model's folder, with `preprocessor_config.json` and the tokenizer.
  /// - Throws: `Issue` if a file is missing or damaged, or has a value that is not supported.
  public init(folder: String, configuration: QwenOmniConfiguration) throws {
    let c = try Self.file(in: folder)
    self.configuration = configuration
    tokenizer = try Tokenizer(folder: folder)
    opening = try AssistantOpening(folder: folder, family: configuration.family)
    let vision = configuration.vision
    for (key, value) in [
      ("patch_size", vision.patchSize), ("merge_size", vision.mergeSize),
      ("temporal_patch_size", vision.framesPerPatch),
    ] {
      let found = try c.positive(key, default: value)
      guard found == value else {
        throw c.error(key, "is \(found), but the model's vision tower has \(value)")
      }
    }
    for key in ["do_resize", "do_rescale", "do_normalize", "do_convert_rgb"] {
      guard try c.bool(key, default: true) else {
        throw c.error(key, "is false; only true is supported")
      }
    }
    let size = try c.object("size", isOptional: true)
    func bound(_ key: String, _ newKey: String) throws -> Int {
      try c.has(key) || !size.has(newKey)
        ? c.positive(key, upTo: 1 << 40) : size.positive(newKey, upTo: 1 << 40)
    }
    let (low, high) = (
      try bound("min_pixels", "shortest_edge"), try bound("max_pixels", "longest_edge")
    )
    guard low <= high else {
      throw c.error("min_pixels", "is \(low), which is more than the maximum of \(high)")
    }
    let area = vision.factor * vision.factor
    imageSizes = ImageSizes(factor: vision.factor, bounds: low...high)
    // The files' bounds are those of images; these are the processor's own for frames of clips.
    videoSizes = ImageSizes(factor: vision.factor, bounds: 128 * area...768 * area)
    mean = try Self.channels(c, "image_mean", in: -1...2)
    deviation = try Self.channels(c, "image_std", in: 1e-3...1e3)
    logMel = try LogMelFeatures(c, family: configuration.family)
  }

  /// The seconds of a recording that the model hears; nil for all.
  public var heardSeconds: Int? { logMel.heardSeconds }

  private static func file(in folder: String) throws -> Configuration {
    let path = "\(folder)/\(configurationName)"
    guard isFile(path) else {
      throw Issue(
        ["captionerModel", .file(folder)], "has no \(configurationName)",
        suggestion: "Give a model folder with all of its files.")
    }
    do {
      return try Configuration(
        json: String(contentsOfFile: path, encoding: .utf8), file: path, path: "config")
    } catch let error as CocoaError {
      throw Issue(["captionerModel", .file(path)], "can't be read (\(reason(of: error)))")
    }
  }

  /// [3, 1, 1]: three numbers of the file in units of grey levels.
  private static func channels(
    _ c: Configuration, _ key: String, in range: ClosedRange<Double>
  ) throws -> Tensor {
    let numbers = try c.array(key).compactMap(\.double).filter(range.contains)
    guard numbers.count == 3, try c.array(key).count == 3 else {
      throw c.error(
        key, "must be three numbers between \(range.lowerBound) and \(range.upperBound)")
    }
    return try Tensor(numbers.map { Float($0 * 255) }, shape: [3, 1, 1])
  }

  /// - Returns: The inputs for all conversations, padded on the left.
  /// - Throws: `Issue` for media that can't be used.
  public func callAsFunction(
    _ conversations: [[QwenOmniMessage]], _ options: Options = Options()
  ) throws -> CaptionInputs {
    guard options.fps > 0, options.fps.isFinite else {
      throw Issue(["fps"], "must be a number above 0 (got \(options.fps))")
    }
    var batch = Batch(
      seconds: Float(Double(configuration.vision.framesPerPatch) / options.fps))
    let recordings = conversations.joined().flatMap(\.parts).compactMap { part -> [Float]? in
      switch part {
      case .audio(let samples): samples
      case .video(let clip) where options.isInterleaved: clip.audio
      case .text, .image, .video: nil
      }
    }
    if !recordings.isEmpty {
      let (features, frames) = try logMel(recordings)
      batch.media.inputFeatures = features
      let longest = features.size(2)
      batch.media.featureMask = try Tensor(
        frames.flatMap { count in (0..<longest).map { $0 < count ? 1 : 0 } },
        shape: [frames.count, longest])
      batch.audioFrames = frames
    }
    let prompt = QwenOmniPrompt(
      configuration: configuration, tokenizer: tokenizer, opening: opening)
    var remaining = batch.audioFrames[...]
    let ids = try conversations.map { messages in
      let turns = try messages.map { message in
        (
          role: message.role,
          parts: try message.parts.map { try part($0, options, &batch, &remaining) }
        )
      }
      return try prompt.tokens(of: turns, thinking: options.thinking)
    }
    return try inputs(ids, batch, options)
  }

  /// The media of a request, collected in the order of the prompt.
  private struct Batch {
    let seconds: Float
    var images: [Tensor] = []
    var videos: [Tensor] = []
    var audioFrames: [Int] = []
    var media = MediaInputs()
  }

  private func part(
    _ part: QwenOmniMessage.Part, _ options: Options, _ batch: inout Batch,
    _ audioFrames: inout ArraySlice<Int>
  ) throws -> QwenOmniPrompt.Part {
    func nextAudioTokens() -> Int {
      audioFrames.popFirst().map { configuration.audio.tokens(ofFrames: $0) } ?? 0
    }
    switch part {
    case .text(let text): return .text(text)
    case .audio: return .audio(tokens: nextAudioTokens())
    case .image(let image):
      let scaled = try scaledImage(image, options)
      let (patches, grid) = try patches(Tensor.stack([scaled, scaled]))
      batch.images.append(patches)
      batch.media.imageGrids.append(grid)
      return .image(tokens: patches.size(0) / configuration.vision.patchesPerToken)
    case .video(let clip):
      let (patches, grid) = try patches(scaledFrames(clip.frames, options))
      batch.videos.append(patches)
      batch.media.videoGrids.append(grid)
      let steps = QwenOmniPrompt.VideoSteps(
        count: grid[0],
        tokensPerStep: grid[1] * grid[2] / configuration.vision.patchesPerToken,
        seconds: batch.seconds)
      let hasAudio = options.isInterleaved && clip.audio != nil
      return .video(steps, audioTokens: hasAudio ? nextAudioTokens() : nil)
    }
  }

  private func inputs(
    _ conversations: [[Int]], _ batch: Batch, _ options: Options
  ) throws -> CaptionInputs {
    let length = conversations.reduce(0) { max($0, $1.count) }
    var (ids, mask): ([[Int]], [[Int]]) = ([], [])
    for tokens in conversations {
      let missing = length - tokens.count
      ids.append(Array(repeating: configuration.tokens.pad, count: missing) + tokens)
      mask.append(
        Array(repeating: 0, count: missing) + Array(repeating: 1, count: tokens.count))
    }
    var media = batch.media
    if !batch.images.isEmpty { media.pixelValues = try Tensor.cat(batch.images) }
    if !batch.videos.isEmpty { media.pixelValuesVideos = try Tensor.cat(batch.videos) }
    let seconds = Array(repeating: batch.seconds, count: media.videoGrids.count)
    let (positions, delta) = try QwenOmniPositions.positions(
      ids: ids, mask: mask, imageGrids: media.imageGrids, videoGrids: media.videoGrids,
      secondsPerGrid: seconds, audioFrames: batch.audioFrames,
      isInterleaved: options.isInterleaved, configuration: configuration)
    return CaptionInputs(
      ids: ids, mask: mask, positions: positions, delta: delta, media: media,
      secondsPerGrid: seconds, audioFrames: batch.audioFrames,
      isInterleaved: options.isInterleaved)
  }
}

extension QwenOmniProcessor {
  /// Scales an image to the size that the model sees.
  ///
  /// - Parameter image: [3, H, W], uint8
  public func scaledImage(_ image: Tensor, _ options: Options = Options()) throws -> Tensor {
    try scaled(image.unsqueeze(0), imageSizes, options.imageBounds).squeeze(0)
  }

  /// Scales frames of a clip to the size that the model sees. Frames that already have it are
  /// returned unchanged, so that a reader can scale each frame as soon as it is decoded.
  ///
  /// - Parameter frames: [frames, 3, H, W], uint8
  public func scaledFrames(_ frames: Tensor, _ options: Options = Options()) throws -> Tensor {
    try scaled(frames, videoSizes, options.videoBounds)
  }

  /// Bicubic with antialiasing on 8-bit values, in two passes.
  private func scaled(
    _ frames: Tensor, _ sizes: ImageSizes, _ bounds: ClosedRange<Int>?
  ) throws -> Tensor {
    guard frames.rank == 4, frames.size(1) == 3, frames.dtype == .uint8 else {
      throw Issue(
        ["frames"],
        "have shape \(frames.shape) and dtype \(frames.dtype) (expected [frames, 3, height, width] "
          + "of uint8)")
    }
    var sizes = sizes
    if let bounds { sizes.bounds = bounds }
    let (height, width) = try sizes.size(height: frames.size(2), width: frames.size(3))
    if (height, width) == (frames.size(2), frames.size(3)) { return frames }
    return try frames.contiguous().resizeBicubicAntialiased([height, width], alignCorners: false)
  }

  /// The normalized patches of frames, blocks of merged patches first.
  ///
  /// - Parameter frames: [frames, 3, H, W], uint8; an even number of frames.
  /// - Returns: [P, patchWidth], float32, and the grid: pairs of frames, rows and columns.
  private func patches(_ frames: Tensor) throws -> (patches: Tensor, grid: [Int]) {
    let c = configuration.vision
    let (count, height, width) = (frames.size(0), frames.size(2), frames.size(3))
    guard count > 0, count.isMultiple(of: c.framesPerPatch) else {
      throw Issue(["video"], "has \(count) frames (expected an even number above 0)")
    }
    let grid = [count / c.framesPerPatch, height / c.patchSize, width / c.patchSize]
    let normalized = try (frames.to(.float32) - mean) / deviation
    let blocks = try normalized.reshape([
      grid[0], c.framesPerPatch, 3, grid[1] / c.mergeSize, c.mergeSize, c.patchSize,
      grid[2] / c.mergeSize, c.mergeSize, c.patchSize,
    ])
    let patches = try blocks.permute([0, 3, 6, 4, 7, 2, 1, 5, 8]).reshape([-1, c.patchWidth])
    return (patches, grid)
  }
}
