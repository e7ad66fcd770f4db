// B batch 1, C latent channels, F H W latent frames, rows, columns, T tokens, S text tokens.

import Foundation
import LTX
import LanguageModels
import NN
import TensorFiles
import Torch

/// A part of generation that is timed separately: a small random model in float32, and a call that
/// takes some tenths of a second.
enum Component: String, CaseIterable {
  case videoEncode = "video-vae-encode"
  case videoEncode25 = "video-vae-encode-2.5"
  case videoDecode = "video-vae-decode"
  case videoDiffusionDecode = "video-vae-diffusion-decode"
  case transformer
  case transformer25 = "transformer-2.5"
  case gemma
  case gemma4

  static let videoTokens = 768
  static let audioTokens = 64
  static let textTokens = 256
  /// A prompt, and the tokens to which upstream pads it.
  static let promptTokens = 400
  static let paddedPromptTokens = 512

  static var vaeSize: TinyVideoVAE {
    var vae = TinyVideoVAE()
    vae.latentChannels = 32
    vae.decoderChannels = 32
    return vae
  }

  /// Windows of the published decoder's size, and a fourth of its channels.
  static var diffusionVAESize: TinyDiffusionVideoVAE {
    var vae = TinyDiffusionVideoVAE.split
    vae.hasGates = false
    vae.headSize = 32
    vae.stageChannels = [256, 128, 128, 128, 64]
    vae.stageKernels = [[3, 7, 7], [3, 7, 7], [3, 5, 5], [3, 5, 5], [3, 3, 3]]
    vae.lastKernel = [3, 7, 7]
    vae.lastChannels = 64
    return vae
  }

  /// The sizes of `StepCase.model` with the layers of a split pack.
  static var transformer25Size: TinyTransformer {
    var model = TinyTransformer.ltx25(isSplit: true)
    model.blocks = StepCase.blocks
    (model.heads, model.headWidth, model.audioHeadWidth) = (8, 64, 32)
    return model
  }

  static var gemmaSize: TinyGemma {
    var gemma = TinyGemma()
    gemma.width = 640
    gemma.layers = 8
    gemma.heads = 8
    gemma.keyValueHeads = 4
    gemma.headWidth = 80
    gemma.feedForwardWidth = 2560
    gemma.window = 128
    return gemma
  }

  /// The proportions of Gemma 4 12B: heads of global layers are twice as wide.
  static var gemma4Size: TinyGemma4 {
    var gemma = TinyGemma4()
    gemma.width = 640
    (gemma.layers, gemma.pattern) = (12, 6)
    (gemma.heads, gemma.keyValueHeads, gemma.globalKeyValueHeads) = (8, 4, 1)
    (gemma.headWidth, gemma.globalHeadWidth) = (80, 160)
    gemma.feedForwardWidth = 2560
    gemma.window = 128
    return gemma
  }

  /// Writes the files that both sides load.
  ///
  /// - Returns: the paths of the model and of the inputs.
  func write(to folder: URL) throws -> (model: String, inputs: String) {
    let model = folder.appendingPathComponent("\(rawValue).model")
    let inputs = folder.appendingPathComponent("\(rawValue).inputs.safetensors").path
    let random = try Generator(seed: 5)
    var tensors: [(key: String, tensor: Tensor)] = []
    switch self {
    case .videoEncode, .videoEncode25:
      if self == .videoEncode {
        try Self.vaeSize.write(to: model.path, seed: 1)
      } else {
        var vae = TinyDiffusionVideoVAE.split
        vae.latentChannels = 64
        try vae.write(to: model.path, seed: 1)
      }
      tensors = [("pixels", try random.uniform([1, 3, 17, 192, 192]) * 2 - 1)]
    case .videoDecode:
      try Self.vaeSize.write(to: model.path, seed: 1)
      tensors = [("latent", try random.normal([1, Self.vaeSize.latentChannels, 4, 6, 6]))]
    case .videoDiffusionDecode:
      let vae = Self.diffusionVAESize
      try vae.write(to: model.path, seed: 1)
      tensors = [("latent", try random.normal([1, vae.latentChannels, 2, 7, 7]))]
    case .transformer, .transformer25:
      let size = self == .transformer ? StepCase.model : Self.transformer25Size
      try size.write(to: model.path, seed: 1)
      for (name, tokens, channels) in [
        ("video", Self.videoTokens, size.videoChannels),
        ("audio", Self.audioTokens, size.audioChannels),
      ] {
        tensors.append(("\(name).latent", try random.normal([1, tokens, channels])))
        // LTX-2 projects the text features in the transformer, LTX-2.5 before it.
        let contextWidth =
          self == .transformer ? size.captionWidth : name == "video" ? size.width : size.audioWidth
        tensors.append(
          ("\(name).context", try random.normal([1, Self.textTokens, contextWidth])))
      }
      tensors.append(
        (
          "video.positions",
          try VideoTokens.positions(
            batch: 1, frames: Self.videoTokens / 64, rows: 8, columns: 8, fps: 24, factors: .usual)
        ))
      tensors.append(
        ("audio.positions", try AudioTokens().positions(batch: 1, frames: Self.audioTokens)))
    case .gemma, .gemma4:
      try FileManager.default.createDirectory(at: model, withIntermediateDirectories: true)
      if self == .gemma {
        try Self.gemmaSize.write(to: model, seed: 1)
      } else {
        try Self.gemma4Size.write(to: model, seed: 1)
      }
      let count = Self.paddedPromptTokens
      let isText = (0..<count).map { $0 < count - Self.promptTokens ? 0 : 1 }
      tensors = [
        ("ids", try Tensor(isText.enumerated().map { $1 * (5 + $0 % 250) }, shape: [1, count])),
        ("mask", try Tensor(isText, shape: [1, count])),
      ]
    }
    try writeSafetensors(tensors, to: inputs, isDurable: false)
    return (model.path, inputs)
  }

  /// A repeatable call. It returns the mean magnitude of the outputs, which shows that both sides
  /// compute the same.
  func open(model: String, inputs path: String) throws -> () throws -> Double {
    let inputs = try SafetensorsFile(path: path)
    func size(_ x: Tensor) throws -> Double { try x.abs().mean().item() }
    switch self {
    case .videoEncode, .videoEncode25:
      let encoder = try Checkpoint(path: model).videoEncoder(dtype: .float32)
      let pixels = try inputs.tensor("pixels")
      return { try size(encoder.encode(pixels, tiling: nil)) }
    case .videoDecode:
      let decoder = try Checkpoint(path: model).videoDecoder(dtype: .float32)
      let latent = try inputs.tensor("latent")
      return { try size(decoder.decode(latent)) }
    case .videoDiffusionDecode:
      let decoder = try Checkpoint(path: model).videoDecoder(dtype: .float32)
      let latent = try inputs.tensor("latent")
      return {
        let noise = try Generator(seed: 11)
        return try size(decoder.decode(latent) { try noise.normal($0) })
      }
    case .transformer, .transformer25:
      let transformer = try Checkpoint(path: model).transformer(LoadPolicy(dtype: .float32))
      let sigma = try Tensor([Float(0.7)])
      func modality(_ name: String) throws -> ModalityInput {
        let latent = try inputs.tensor("\(name).latent")
        return ModalityInput(
          latent: latent, timesteps: try .full([1, latent.size(1)], 0.7), sigma: sigma,
          positions: try inputs.tensor("\(name).positions"),
          context: try inputs.tensor("\(name).context"))
      }
      let (video, audio) = (try modality("video"), try modality("audio"))
      return {
        let velocity = try transformer(PerModality(video: video, audio: audio))
        return try (velocity.video.map(size) ?? 0) + (velocity.audio.map(size) ?? 0)
      }
    case .gemma, .gemma4:
      let encoder = try openTextEncoder(at: model, dtype: .float32)
      // Of the padding before the prompt, only the last token is computed, as in `PromptEncoder`.
      let skipped = Self.paddedPromptTokens - Self.promptTokens - 1
      let count = Self.promptTokens + 1
      let ids = try inputs.tensor("ids").narrow(1, skipped, count)
      let mask = try inputs.tensor("mask").narrow(1, skipped, count)
      let isText = try mask.to(.float32).unsqueeze(-1)
      let share = Double(count) / Double(Self.paddedPromptTokens)
      return {
        // All states are kept, as for the text features.
        var states: [Tensor] = []
        try encoder.forEachHiddenState(ids: ids, mask: mask, firstPosition: skipped) {
          states.append($1)
        }
        // Upstream's mean includes zeros for the padding that is skipped here.
        return try states.map { try size($0 * isText) * share }.reduce(0, +)
      }
    }
  }

  /// Answers each line of standard input with one call.
  func serve(model: String, inputs: String) throws {
    let call = try open(model: model, inputs: inputs)
    while readLine() != nil {
      let cpu = ProcessTime.now
      let start = ContinuousClock.now
      let value = try withInference(call)
      let answer = ComponentResult(
        seconds: (ContinuousClock.now - start) / .seconds(1), cpu: ProcessTime.now - cpu,
        value: value,
        peak: try ProcessMemory.peak())
      FileHandle.standardOutput.write(try JSONEncoder().encode(answer) + Data("\n".utf8))
    }
  }
}

struct ComponentResult: Codable {
  let seconds: Double
  /// CPU seconds of all threads.
  let cpu: Double
  let value: Double
  /// The peak memory of the process so far, in bytes.
  let peak: Int
}
