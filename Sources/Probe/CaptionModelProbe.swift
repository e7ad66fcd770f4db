// B conversations, S tokens, V vocabulary, M merged tokens, P patches, A audio tokens.

import Captions
import Foundation
import LanguageModels
import NN
import Support
import TensorFiles
import Torch

/// Tokens and the towers' outputs to logits at all positions.
func probeCaptionLogits(
  _ options: Probe.Options, _ inputs: ProbeInputs
) throws -> [(key: String, tensor: Tensor)] {
  let model = try options.captioner()
  inputs.fix("W", model.configuration.text.width)
  var media = MediaInputs()
  var embeddings = MediaEmbeddings()
  if let image = try inputs.optionalFloat("image_embeds", "M W") {
    embeddings.image = image
    media.imageGrids = try inputs.captionGrid("image_grid_thw", "Ni 3")
  }
  if let video = try inputs.optionalFloat("video_embeds", "L W") {
    embeddings.video = video
    media.videoGrids = try inputs.captionGrid("video_grid_thw", "Nv 3")
  }
  embeddings.audio = try inputs.optionalFloat("audio_embeds", "A W")
  let frames: [Int] =
    embeddings.audio == nil ? [] : try inputs.int("audio_frames", "N").array()
  if model.configuration.family == .qwen3 {
    embeddings.deepstackImage = try inputs.deepstack("image", "M W")
    embeddings.deepstackVideo = try inputs.deepstack("video", "L W")
  }
  let prompt = try inputs.prompt(media, audioFrames: frames, model.configuration)
  return [
    ("logits", try model.logits(prompt, media: embeddings)), ("position_ids", prompt.positions),
    ("delta", prompt.delta),
  ]
}

/// Tokens and media to an answer, with the logits of each step.
func probeCaptionGenerate(
  _ options: Probe.Options, _ inputs: ProbeInputs
) throws -> [(key: String, tensor: Tensor)] {
  let model = try options.captioner()
  let configuration = model.configuration
  let media = try inputs.captionMedia(configuration)
  let frames: [Int] = try media.featureMask?.sum([1]).array() ?? []
  let ends: [Int] =
    try inputs.optionalInt("eos", "E")?.array() ?? configuration.tokens.ends
  var settings = GenerationOptions(
    limit: try inputs.integer("max_new_tokens"),
    repetitionPenalty: try inputs.number("repetition_penalty", default: 1), ends: Set(ends),
    pad: configuration.tokens.pad)
  settings.keepsLogits = true
  let prompt = try inputs.prompt(media, audioFrames: frames, configuration)
  let answer = try model.generate(prompt, settings)
  let steps = answer.logits.count
  let tokens = answer.tokens.flatMap {
    $0 + Array(repeating: configuration.tokens.pad, count: steps - $0.count)
  }
  return [
    ("tokens", try Tensor(tokens, shape: [answer.tokens.count, steps])),
    ("logits", try Tensor.stack(answer.logits, 1)),
  ]
}

/// Ids to text, and text to captions.
func probeCaptionText(
  _ options: Probe.Options, _ inputs: ProbeInputs
) throws -> [(key: String, tensor: Tensor)] {
  guard let path = options.inputs else {
    throw Issue(["inputs"], "is missing, but caption-text needs a JSON file")
  }
  guard let data = FileManager.default.contents(atPath: path) else {
    throw Issue([.file(path)], "can't be read; does it exist?")
  }
  let request = try Configuration(
    json: String(decoding: data, as: UTF8.self), file: path, path: "request")
  let texts: [String]
  if request.has("ids") {
    let tokenizer = try Tokenizer(folder: options.requireCaptionerModel())
    texts = try request.array("ids").map { row in
      let ids = row.array?.compactMap(\.int)
      guard let ids, ids.count == row.array?.count else {
        throw request.error("ids", "must be a list of lists of integers")
      }
      return tokenizer.decode(ids, skipSpecialTokens: true)
    }
  } else {
    texts = try request.strings("texts")
  }
  return [
    ("text", try bytes(texts)), ("caption", try bytes(texts.map { CaptionAnswer($0).caption })),
  ]
}

/// The UTF-8 of texts, filled with -1 to the longest.
private func bytes(_ texts: [String]) throws -> Tensor {
  let longest = texts.map(\.utf8.count).max() ?? 0
  let values = texts.flatMap { text in
    text.utf8.map(Int.init) + Array(repeating: -1, count: longest - text.utf8.count)
  }
  return try Tensor(values, shape: [texts.count, longest])
}

extension Probe.Options {
  fileprivate func captioner() throws -> QwenOmniModel {
    try QwenOmniModel(
      folder: requireCaptionerModel(), device: device, dtype: dtype, use8Bit: use8Bit)
  }
}

extension ProbeInputs {
  /// The numbered additions to the first layers of one kind of media.
  fileprivate func deepstack(_ kind: String, _ shape: String) throws -> [Tensor] {
    var tensors: [Tensor] = []
    while let tensor = try optionalFloat("deepstack.\(kind).\(tensors.count)", shape) {
      tensors.append(tensor)
    }
    return tensors
  }

  /// The tokens of the conversations with their positions.
  fileprivate func prompt(
    _ media: MediaInputs, audioFrames: [Int], _ configuration: QwenOmniConfiguration
  ) throws -> CaptionInputs {
    func rows(_ name: String) throws -> [[Int]] {
      try int(name, "B S").unbind(0).map { try $0.array() }
    }
    let (ids, mask) = (try rows("input_ids"), try rows("attention_mask"))
    let isInterleaved = try integer("use_audio_in_video", default: 0) != 0
    let seconds: [Float] =
      media.videoGrids.isEmpty ? [] : try float("video_second_per_grid", "C").array()
    let (positions, delta) = try QwenOmniPositions.positions(
      ids: ids, mask: mask, imageGrids: media.imageGrids, videoGrids: media.videoGrids,
      secondsPerGrid: seconds, audioFrames: audioFrames, isInterleaved: isInterleaved,
      configuration: configuration)
    return CaptionInputs(
      ids: ids, mask: mask, positions: positions, delta: delta, media: media,
      secondsPerGrid: seconds, audioFrames: audioFrames, isInterleaved: isInterleaved)
  }
}
