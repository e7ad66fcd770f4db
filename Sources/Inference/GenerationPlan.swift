import Foundation
import LTX
import Media
import NN
import Torch

/// A request that has been checked against its models, as stages to run.
///
/// Whatever can be known without loading a model is known when a plan exists: headers, configurations, shapes, names and
/// pictures have been read, and every component has been built once on the files' memory maps.
public struct GenerationPlan: Sendable {
  public let models: GenerationModels
  public let seed: UInt64
  public let output: String
  public let width: Int
  public let height: Int
  public let frames: Int
  public let frameRate: Rational
  public let stages: [GenerationStage]
  /// What the user should know, though it is no error.
  public let notes: [String]
  let checkpoint: Checkpoint

  /// One stage of sampling, of video alone: text, and pictures if any, to video.
  ///
  /// - Throws: `GenerationError` for a request that can't be fulfilled; `ConfigurationError`, `WeightError`,
  ///   `TensorFileError` or `TextEncoderError` for models that can't be used; `TorchError` for a device that isn't there.
  public init(_ request: GenerationRequest, models: GenerationModels, output: String) throws {
    try Self.check(request)
    guard let frameRate = Rational(approximating: request.frameRate) else {
      throw GenerationError(.frameRate, "\(request.frameRate) frames a second are not possible")
    }
    let checkpoint: Checkpoint
    do {
      checkpoint = try Checkpoint(path: models.checkpoint)
      try checkpoint.require("transformer", "vae")
    } catch {
      throw GenerationError(.checkpoint, "\(error)")
    }
    let transformer = try TransformerConfiguration(checkpoint.config)
    let vae = try Self.decoderConfiguration(checkpoint, transformer)
    let factors = vae.compression
    try Self.checkSize(request, vae)
    try FrameSink.check(path: output, frames: request.frames, width: request.width, height: request.height)
    let stgBlocks = try Self.stgBlocks(request, transformer)
    let loras = try models.loras.map { try CheckedLoRA($0, checkpoint: checkpoint, streams: .video) }
    let images = try request.images.map { try Self.fit($0, to: request) }
    try models.device.prepare()
    try Self.checkComponents(models, checkpoint, loras, hasImages: !images.isEmpty)

    self.models = models
    self.checkpoint = checkpoint
    self.output = output
    self.frameRate = frameRate
    seed = request.seed
    (width, height, frames) = (request.width, request.height, request.frames)
    notes = loras.flatMap(\.notes)
    let grid = VideoGrid(
      batch: 1, channels: vae.latentChannels, frames: factors.latentFrames(frames),
      rows: height / factors.height,
      columns: width / factors.width, fps: request.frameRate, factors: factors)
    let sampling = GenerationStage.Sampling(
      grid: grid, sigmas: try NoiseSchedule.shifted(steps: request.steps), guidance: request.guidance,
      stgBlocks: stgBlocks, loras: loras)
    let prompts = request.guidance.cfg == 1 ? [request.prompt] : [request.prompt, request.negativePrompt]
    stages =
      [.encodePrompts(prompts)] + (images.isEmpty ? [] : [.encodeImages(images)])
      + [.sample(sampling), .decode(.usual(for: factors))]
  }

  /// What H.264 holds in pixels, and more frames than memory holds; counts of tokens stay far from overflowing.
  private static let largestSide = 16384
  private static let mostFrames = 1_000_000
  /// A scale beyond this is noise, and not far from overflowing.
  private static let largestScale = 1e6

  /// What can be judged without the models.
  private static func check(_ request: GenerationRequest) throws {
    guard !request.prompt.allSatisfy(\.isWhitespace) else {
      throw GenerationError(.prompt, "is empty; say what the video should show")
    }
    guard (1...NoiseSchedule.maximumSteps).contains(request.steps) else {
      throw GenerationError(
        .steps, "\(request.steps) steps are not possible; use 1 to \(NoiseSchedule.maximumSteps)")
    }
    for (option, value, most) in [
      (GenerationError.Option.width, request.width, largestSide), (.height, request.height, largestSide),
      (.frames, request.frames, mostFrames),
    ] where value > most {
      throw GenerationError(option, "\(value) is not possible; use at most \(most)")
    }
    guard request.frameRate.isFinite, request.frameRate > 0, request.frameRate <= 1000 else {
      throw GenerationError(
        .frameRate, "\(request.frameRate) frames a second are not possible; use a rate above 0 and up to 1000"
      )
    }
    let guidance = request.guidance
    for (option, value) in [(GenerationError.Option.cfg, guidance.cfg), (.stg, guidance.stg)]
    where !(abs(value) <= largestScale) {
      throw GenerationError(option, "\(value) is no scale; use a number such as 3")
    }
    guard (0...1).contains(guidance.rescale) else {
      throw GenerationError(.rescale, "\(guidance.rescale) is out of range; use 0 to 1")
    }
  }

  private static func decoderConfiguration(
    _ checkpoint: Checkpoint, _ transformer: TransformerConfiguration
  ) throws -> VideoVAEConfiguration.Decoder {
    let vae = try VideoVAEConfiguration.Decoder(checkpoint.config)
    guard vae.latentChannels == transformer.video.inputs, vae.latentChannels == transformer.video.outputs
    else {
      throw GenerationError(
        .checkpoint,
        "\(checkpoint.source.name): the transformer works on \(transformer.video.inputs) latent channels, but the video "
          + "VAE on \(vae.latentChannels)")
    }
    return vae
  }

  private static func checkSize(_ request: GenerationRequest, _ vae: VideoVAEConfiguration.Decoder) throws {
    let factors = vae.compression
    // A model that pads by reflection needs something to reflect.
    let leastCells = vae.padding == .reflect ? 2 : 1
    let sides = [
      (GenerationError.Option.width, request.width, factors.width), (.height, request.height, factors.height),
    ]
    for (option, value, factor) in sides {
      guard value >= leastCells * factor, value.isMultiple(of: factor) else {
        let below = max(leastCells, value / factor) * factor
        let choices = value > below ? "\(below) or \(below + factor)" : "\(below) or more"
        throw GenerationError(
          option,
          "\(value) is not possible: this model makes pictures in multiples of \(factor); use \(choices)")
      }
    }
    let frames = request.frames
    guard frames >= 1, (frames - 1).isMultiple(of: factors.time) else {
      let below = max(0, frames - 1) / factors.time * factors.time + 1
      throw GenerationError(
        .frames,
        "\(frames) is not possible: this model makes \(factors.time)k + 1 frames; use \(below) or \(below + factors.time)"
      )
    }
  }

  private static func stgBlocks(
    _ request: GenerationRequest, _ transformer: TransformerConfiguration
  ) throws -> Set<Int> {
    guard let blocks = request.stgBlocks else {
      return [GenerationRequest.defaultSTGBlock(of: transformer.blocks)]
    }
    if let wrong = blocks.sorted().first(where: { !(0..<transformer.blocks).contains($0) }) {
      throw GenerationError(
        .stgBlocks,
        "there is no block \(wrong); this transformer has the blocks 0 to \(transformer.blocks - 1)")
    }
    return blocks
  }

  private static func fit(
    _ image: ImageCondition, to request: GenerationRequest
  ) throws -> GenerationStage.FittedImage {
    func fail(_ problem: String) -> GenerationError { GenerationError(.image, "\(image.path): \(problem)") }
    guard (0..<request.frames).contains(image.frame) else {
      throw fail(
        "there is no frame \(image.frame) in a video of \(request.frames); use 0 to \(request.frames - 1)")
    }
    guard (0...1).contains(image.strength) else {
      throw fail("a strength of \(image.strength) is not from 0 to 1")
    }
    let picture: RGBFrame?
    do {
      let reader = try VideoReader(path: image.path)
      guard reader.isImage else { throw fail("is a video; give a picture") }
      picture = try reader.next()
    } catch let error as MediaError {
      throw GenerationError(.image, "\(error)")
    }
    guard let picture else { throw fail("holds no picture") }
    return GenerationStage.FittedImage(
      condition: image,
      pixels: try FrameTensors.filled(picture, (width: request.width, height: request.height)))
  }

  /// Builds each component on the memory map of its file, in the file's own element type: that reads next to nothing, and
  /// finds every weight that is missing or does not fit.
  private static func checkComponents(
    _ models: GenerationModels, _ checkpoint: Checkpoint, _ loras: [CheckedLoRA], hasImages: Bool
  ) throws {
    guard FileManager.default.fileExists(atPath: models.textEncoder) else {
      throw GenerationError(
        .textEncoder, "\(models.textEncoder) does not exist; give the folder of a Gemma 3 model")
    }
    _ = try checkpoint.promptEncoder(textEncoder: models.textEncoder)
    _ = try checkpoint.textConnectors(streams: .video)
    _ = try checkpoint.transformer(loras, streams: .video)
    _ = try checkpoint.videoDecoder()
    if hasImages { _ = try checkpoint.videoEncoder() }
  }
}
