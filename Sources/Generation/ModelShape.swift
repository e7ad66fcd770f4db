// B batch, C latent channels, F H W latent frames, rows, columns.

import LTX
import Media
import NN
import Support

/// The sizes of a model's outputs, from the checkpoint's configuration.
struct ModelShape {
  let transformer: TransformerConfiguration
  let vae: VideoVAEConfiguration.Decoder
  let audioVAE: AudioVAEConfiguration?
  private let file: String

  let factors: CompressionFactors

  init(_ checkpoint: Checkpoint) throws {
    file = checkpoint.source.name
    (transformer, vae, factors) = try Issue.within("checkpoint") {
      (
        try TransformerConfiguration(checkpoint.config),
        try VideoVAEConfiguration.Decoder(checkpoint.config), try checkpoint.videoCompression()
      )
    }
    guard vae.latentChannels == transformer.sizes.video.inputs,
      vae.latentChannels == transformer.sizes.video.outputs
    else {
      throw Issue(
        ["checkpoint", .file(file)],
        "the video VAE has \(vae.latentChannels) latent channels (expected "
          + "\(transformer.sizes.video.inputs), as the transformer)")
    }
    let hasAudio = checkpoint.config.has("audio_vae") && checkpoint.config.has("vocoder")
    audioVAE =
      hasAudio
      ? try Issue.within("checkpoint") { try AudioVAEConfiguration(checkpoint.config) } : nil
    if let audioVAE {
      let width = audioVAE.latentChannels * audioVAE.frequencyBins
      guard width == transformer.sizes.audio.inputs, width == transformer.sizes.audio.outputs else {
        throw Issue(
          ["checkpoint", .file(file)],
          "the audio VAE has \(width) features in a latent frame (expected "
            + "\(transformer.sizes.audio.inputs), as the transformer)")
      }
    }
  }

  /// The modalities of the transformer that a request needs.
  func modalities(_ request: GenerationRequest, _ kind: OutputKind) throws -> Set<Modality> {
    let given = Set(request.conditions.filter(\.isWhole).map(\.modality))
    let wantsAudio = kind == .audio || !given.isEmpty || (kind == .video && request.hasAudio)
    guard wantsAudio, audioVAE == nil else {
      return kind == .audio && !given.contains(.video) ? .audio : wantsAudio ? .both : .video
    }
    guard kind == .video, given.isEmpty else {
      throw Issue(
        ["checkpoint", .file(file)], "has no audio VAE or no vocoder",
        suggestion: "Use a checkpoint that generates audio.")
    }
    return .video
  }

  func grid(_ size: GenerationPlan.OutputSize) -> VideoGrid {
    VideoGrid(
      batch: 1, channels: vae.latentChannels, frames: factors.latentFrames(size.frames),
      rows: size.height / factors.height, columns: size.width / factors.width,
      fps: size.frameRate.value,
      factors: factors)
  }

  func audioGrid(seconds: Double) throws -> AudioGrid {
    guard let audioVAE else {
      throw Issue(
        ["checkpoint", .file(file)], "has no audio VAE",
        suggestion: "Use a checkpoint that generates audio.")
    }
    let frames = audioVAE.tokens.frames(seconds: seconds)
    guard frames > 0 else {
      throw Issue(
        ["frames"], "\(seconds) seconds are too short for audio",
        suggestion: "Use more frames, or leave the audio out.")
    }
    return AudioGrid(
      batch: 1, channels: audioVAE.latentChannels, bins: audioVAE.frequencyBins, frames: frames,
      tokens: audioVAE.tokens)
  }
}

/// The sizes that an upsampler's configuration gives for the stage before it.
struct UpsamplerShape {
  let path: String
  private let configuration: LatentUpsamplerConfiguration

  init(path: String, _ model: ModelShape) throws {
    self.path = path
    do {
      configuration = try LatentUpsampler(path: path).configuration
    } catch {
      throw Issue(describing: error).within("upsampler")
    }
    guard !configuration.isTemporal, configuration.spatialScale.value > 1 else {
      throw Issue(
        ["upsampler", .file(path)], "is not a spatial upsampler",
        suggestion: "Use a spatial latent upsampler.")
    }
    guard configuration.inputChannels == model.vae.latentChannels else {
      throw Issue(
        ["upsampler", .file(path)],
        "has \(configuration.inputChannels) latent channels (expected "
          + "\(model.vae.latentChannels), as the model)")
    }
  }

  /// The number of rows or columns that is upsampled to `count`; nil if there isn't one.
  func before(_ count: Int) -> Int? {
    let scale = configuration.spatialScale
    guard (count * scale.denominator).isMultiple(of: scale.numerator) else { return nil }
    return count * scale.denominator / scale.numerator
  }

  /// The smallest step between sizes after upsampling, in latent cells.
  var step: Int { configuration.spatialScale.numerator }

  func firstGrid(for full: VideoGrid) throws -> VideoGrid {
    guard let rows = before(full.rows), let columns = before(full.columns) else {
      preconditionFailure("a size that was not checked")
    }
    var grid = full
    (grid.rows, grid.columns) = (rows, columns)
    return grid
  }
}
