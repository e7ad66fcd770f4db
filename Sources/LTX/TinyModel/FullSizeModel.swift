import Foundation
import TensorFiles
import Torch

/// LTX-2.3 and Gemma 3 12B at their published sizes, without their weights: the files of the tiny
/// model with the published numbers of blocks and channels. Small tensors are random; large ones
/// are holes, which read as zeros, so the files take a few megabytes of the disk.
///
/// With them, the memory and the operations of a run can be counted without a GPU and without the
/// published weights.
package enum FullSizeModel {
  package static let checkpointName = "ltx-2.3-full-size.safetensors"
  package static let textEncoderName = "gemma-3-full-size"

  /// The most elements of a tensor that is random.
  private static let drawnElements = 1 << 12

  private static func transformer(blocks: Int) -> TinyTransformer {
    var sizes = TinyTransformer(generation: .ltx23)
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
  /// - Parameter blocks: The number of the transformer's blocks; fewer than the published 48 load
  ///   faster.
  package static func writeCheckpoint(to folder: String, blocks: Int = 48) throws {
    let transformer = transformer(blocks: blocks)
    let drawn = RandomWeights.Drawn(try Generator(seed: 1), limit: drawnElements)
    let root = RandomWeights(into: drawn)
    try transformer.draw(root / "model" / "diffusion_model")
    try transformer.drawProjections(
      root / Checkpoint.Prefix.textProjection, states: textEncoder.layers + 1)
    try videoVAE.draw(root / "vae")
    try audioVAE.draw(root / Checkpoint.Prefix.audioVAE, .ltx23)
    try vocoder.draw(root / Checkpoint.Prefix.vocoder)
    try writeSparseSafetensors(
      drawn.tensors, holes: drawn.holes,
      metadata: [
        "config": """
        {"transformer": \(transformer.config), "vae": \(videoVAE.config),
        "audio_vae": \(audioVAE.config), "vocoder": \(vocoder.config)}
        """,
        "model_version": TinyModel.Generation.ltx23.version ?? "",
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
