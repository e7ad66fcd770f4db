// N prompts, S tokens, L layers, D width of the text encoder.

import Foundation
import LTX
import LanguageModels
import NN
import Support
import TensorFiles
import Torch

/// `tokenize`: prompts to token IDs and masks.
func probeTokenize(
  _ options: Probe.Options, _ inputs: ProbeInputs
) throws -> [(key: String, tensor: Tensor)] {
  guard let path = options.inputs else {
    throw Issue(["inputs"], "is missing, but tokenize needs a file of prompts")
  }
  guard let data = FileManager.default.contents(atPath: path) else {
    throw Issue([.file(path)], "can't be read; does it exist?")
  }
  let prompts: [String]
  do {
    prompts = try JSON.decode([String].self, from: data)
  } catch {
    throw Issue([.file(path)], "expected a JSON array of strings")
  }
  let (ids, mask) = try openTokenizer(at: options.requireTextEncoder()).tensors(prompts)
  return [("ids", ids), ("mask", mask)]
}

/// Token IDs to all hidden states, and to the features that a dataset's cache stores.
func probeTextEncoder(
  _ options: Probe.Options, _ inputs: ProbeInputs
) throws -> [(key: String, tensor: Tensor)] {
  let ids = try inputs.int("ids", "N S")
  let mask = try inputs.int("mask", "N S")
  let checkpoint = try options.checkpoint()
  let (encoder, extractor) = try checkpoint.textEncoder(
    at: options.requireTextEncoder(), dtype: options.dtype, device: options.device)
  var states: [Tensor] = []
  let features = try withoutGrad {
    try extractor(encoder, ids: ids, mask: mask) { _, state in
      // The model's outputs for padding are meaningless.
      states.append(try state.maskedFill(mask.to(state.device).equal(to: 0).unsqueeze(-1), 0))
    }
  }
  return [
    ("hidden_states", try Tensor.stack(states)), ("video_features", features.byModality.video),
    ("audio_features", features.byModality.audio),
  ]
}

/// Features to the contexts that the transformer attends to.
func probeConnectors(
  _ options: Probe.Options, _ inputs: ProbeInputs
) throws -> [(key: String, tensor: Tensor)] {
  let checkpoint = try options.checkpoint()
  let configuration = try TextConfiguration(checkpoint.config)
  inputs.fix("Wv", configuration.connectors.video.width)
  inputs.fix("Wa", configuration.connectors.audio.width)
  let video = try inputs.float("video_features", "B S Wv")
  let audio = try inputs.optionalFloat("audio_features", "B S Wa") ?? video
  let mask = try inputs.int("mask", "B S")
  let connectors = try checkpoint.textConnectors(dtype: options.dtype, device: options.device)
  let contexts = try withoutGrad {
    try connectors(
      TextFeatures(
        PerModality(
          video: video.to(options.device, options.dtype),
          audio: audio.to(options.device, options.dtype)),
        mask: mask.to(options.device)))
  }
  let outputs = [
    ("video_context", contexts.byModality.video), ("audio_context", contexts.byModality.audio),
    ("context_mask", try contexts.mask),
  ]
  return outputs.compactMap { name, tensor in tensor.map { (key: name, tensor: $0) } }
}

extension Probe.Options {
  /// The checkpoint of `--model`, which must hold a transformer's configuration, because text
  /// features depend on it.
  fileprivate func checkpoint() throws -> Checkpoint {
    let checkpoint = try Checkpoint(path: requireModel())
    try checkpoint.require("transformer")
    return checkpoint
  }
}
