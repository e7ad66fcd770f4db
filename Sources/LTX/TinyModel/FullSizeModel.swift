import Foundation
import TensorFiles
import Torch

/// LTX-2.3 or LTX-2.5 and Gemma 3 12B at their published sizes, without their weights: the files of
/// the tiny model with the published numbers of blocks and channels. Small tensors are random; large
/// ones are holes, which read as zeros, so the files take a few megabytes of the disk.
///
/// The encoder of LTX-2.5's video VAE has the channels of the latent throughout.
///
/// With them, the memory and the operations of a run can be counted without a GPU and without the
/// published weights.
package enum FullSizeModel {
  package static let checkpointName = "ltx-full-size.safetensors"
  package static let textEncoderName = "gemma-3-full-size"

  /// The most elements of a tensor that is random.
  private static let drawnElements = 1 << 12

  private static func transformer(_ generation: TinyModel.Generation, blocks: Int)
    -> TinyTransformer
  {
    var sizes = TinyTransformer(generation: generation)
    (sizes.blocks, sizes.heads, sizes.headWidth, sizes.audioHeadWidth) = (blocks, 32, 128, 64)
    sizes.captionWidth = textEncoder.width
    sizes.connectorBlocks = 8
    (sizes.videoChannels, sizes.audioChannels) = (128, audioVAE.patchChannels)
    return sizes
  }

  private static var videoVAE: TinyVideoVAE {
    var sizes = TinyVideoVAE(generation: .ltx23)
    (sizes.latentChannels, sizes.decoderChannels) = (128, 128)
    (sizes.encoderLayers, sizes.decoderLayers) = ([4, 6, 4, 2, 2], [4, 6, 4, 2, 2])
    return sizes
  }

  /// The default sizes of upstream's decoder.
  private static var diffusionVideoVAE: TinyDiffusionVideoVAE {
    var sizes = TinyDiffusionVideoVAE(
      output: .velocity, steps: 2, hasGates: false, hasPreviewHead: false)
    (sizes.latentChannels, sizes.headSize, sizes.timeChannels) = (128, 64, 384)
    sizes.stageChannels = [1024, 512, 256, 256, 128]
    sizes.stageDepths = [4, 6, 4, 2, 8]
    sizes.stageKernels = [[3, 7, 7], [3, 7, 7], [3, 5, 5], [3, 5, 5], [3, 7, 7]]
    (sizes.lastKernel, sizes.lastChannels) = ([3, 7, 7], 128)
    sizes.upsamplings = [([1, 2, 2], 2), ([2, 1, 1], 2), ([2, 2, 2], 1), ([2, 2, 2], 2)]
    return sizes
  }

  private static var audioVAE: TinyAudioVAE { TinyAudioVAE(latentChannels: 8) }

  private static let vocoder = TinyBandwidthExtendingVocoder(
    channels: 1536, extenderChannels: 512, fftLength: 512)

  private static var textEncoder: TinyGemma {
    var sizes = TinyGemma()
    (sizes.width, sizes.layers, sizes.feedForwardWidth) = (3840, 48, 15360)
    (sizes.heads, sizes.keyValueHeads, sizes.headWidth) = (16, 8, 256)
    (sizes.window, sizes.vocabulary) = (1024, 262_208)
    return sizes
  }

  /// Writes `checkpointName` into a folder that exists.
  ///
  /// - Parameters:
  ///   - generation: LTX-2.3 or LTX-2.5.
  ///   - blocks: The number of the transformer's blocks; fewer than the published 48 load faster.
  package static func writeCheckpoint(
    to folder: String, generation: TinyModel.Generation = .ltx23, blocks: Int = 48
  ) throws {
    let transformer = transformer(generation, blocks: blocks)
    let drawn = RandomWeights.Drawn(try Generator(seed: 1), limit: drawnElements)
    let root = RandomWeights(into: drawn)
    try transformer.draw(root / "model" / "diffusion_model")
    try transformer.drawProjections(
      root / Checkpoint.Prefix.textProjection, states: textEncoder.layers + 1)
    let videoConfig: String
    if generation == .ltx25 {
      try diffusionVideoVAE.draw(root / Checkpoint.Prefix.videoVAE)
      videoConfig = diffusionVideoVAE.config
    } else {
      try videoVAE.draw(root / Checkpoint.Prefix.videoVAE)
      videoConfig = videoVAE.config
    }
    try audioVAE.draw(root / Checkpoint.Prefix.audioVAE, .ltx23)
    try vocoder.draw(root / Checkpoint.Prefix.vocoder)
    try writeSparseSafetensors(
      drawn.tensors, holes: drawn.holes,
      metadata: [
        "config": """
        {"transformer": \(transformer.config), "vae": \(videoConfig),
        "audio_vae": \(audioVAE.config), "vocoder": \(vocoder.config)}
        """,
        "model_version": generation.version ?? "",
      ], to: "\(folder)/\(checkpointName)")
  }

  /// Writes `textEncoderName/` into a folder that exists.
  package static func writeTextEncoder(to folder: String) throws {
    let place = URL(fileURLWithPath: folder).appendingPathComponent(textEncoderName)
    try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
    let tokenizer = TinyTokenizer()
    try textEncoder.writeSmallFiles(to: place, tokenizer)
    let drawn = RandomWeights.Drawn(try Generator(seed: 2), limit: drawnElements)
    try textEncoder.draw(RandomWeights(into: drawn), tokenizer: tokenizer)
    try writeSparseSafetensors(
      drawn.tensors, holes: drawn.holes, metadata: ["format": "pt"],
      to: place.appendingPathComponent("model.safetensors").path)
  }
}
