// C latent channels, F H W latent frames, rows, columns, S text tokens, Wv/Wa widths of the text features.

import Foundation
import LTX
import Media
import TensorFiles
import Torch

/// Turns clips and captions into the latents and text features that training reads (the reference's dataset scripts).
///
/// `OUTPUT/latents/NAME.safetensors`: `latents` [C, F, H, W], normalised; `num_frames`, `height`, `width`, the sizes of the
/// latents, I64 [1]; `fps`, F64 [1]. `OUTPUT/conditions/NAME.safetensors`: `video_prompt_embeds` [S, Wv] and
/// `audio_prompt_embeds` [S, Wa], features before the connectors; `prompt_attention_mask`, I64 [S].
///
/// Each file appears whole or not at all and carries its `Fingerprint`, so that a run which was cut off goes on where
/// it stood. The text encoder is gone before the video VAE is loaded.
public struct Preprocessor {
  private let plan: PreprocessingPlan
  private let report: (PreprocessingEvent) -> Void

  public init(_ plan: PreprocessingPlan, report: @escaping (PreprocessingEvent) -> Void = { _ in }) {
    self.plan = plan
    self.report = report
  }

  /// - Throws: what loading the models throws; `PreprocessingError` of kind `.writing`; `TorchError` when memory runs
  ///   out. A clip that can't be used is no error: it is in the summary.
  public func run() throws -> PreprocessingSummary {
    for note in plan.notes { report(.note(note)) }
    for folder in ["latents", "conditions"] { try makeFolder("\(plan.outputFolder)/\(folder)") }
    let captions = plan.items.filter(\.needsConditions)
    let clips = plan.items.filter(\.needsLatents)
    if !captions.isEmpty { try encodeCaptions(captions) }
    let failures = clips.isEmpty ? [] : try encodeClips(clips)
    return PreprocessingSummary(
      outputFolder: plan.outputFolder, samples: plan.sampleCount, captionsEncoded: captions.count,
      clipsEncoded: clips.count - failures.count,
      upToDate: plan.items.count { !$0.needsLatents && !$0.needsConditions },
      failures: (plan.failures + failures).sorted { $0.line < $1.line })
  }

  // MARK: Captions

  private func encodeCaptions(_ items: [PreprocessingPlan.Item]) throws {
    report(.loading(.captions, total: items.count))
    let options = plan.options
    let encoder = try plan.checkpoint.promptEncoder(
      dtype: options.dtype, device: options.device, storage: options.textEncoder8bit ? .int8 : .asStored)
    report(.began(.captions, total: items.count))
    for (done, item) in items.enumerated() {
      let features = try encoder([item.prompt])
      try requireFinite(features.video, "the text features of \"\(item.sample.media)\"")
      try write(
        [
          ("video_prompt_embeds", features.video.squeeze(0)),
          ("audio_prompt_embeds", features.audio.squeeze(0)),
          ("prompt_attention_mask", features.mask.squeeze(0)),
        ], item.conditions, to: item.conditionsPath)
      report(.advanced(.captions, done: done + 1, total: items.count))
    }
  }

  // MARK: Clips

  /// - Returns: the clips that could not be encoded.
  private func encodeClips(_ items: [PreprocessingPlan.Item]) throws -> [PreprocessingFailure] {
    report(.loading(.clips, total: items.count))
    let options = plan.options
    let encoder = try plan.checkpoint.videoEncoder(dtype: options.dtype, device: options.device)
    report(.began(.clips, total: items.count))
    let reader = ClipReader(buckets: options.buckets)
    let clips = ReadAhead(count: items.count) { index in
      Result { try reader.read(items[index].sample.mediaPath) }
    }
    var failures: [PreprocessingFailure] = []
    for (done, item) in items.enumerated() {
      do {
        try encode(clips.next().get(), encoder, item)
      } catch let error as MediaError where error.kind != .system {
        failures.append(
          PreprocessingFailure(item.sample, of: options, error, olderLatents: item.latentsPath))
      }
      report(.advanced(.clips, done: done + 1, total: items.count))
    }
    return failures
  }

  private func encode(_ clip: Clip, _ encoder: VideoEncoder, _ item: PreprocessingPlan.Item) throws {
    let latents = try withoutGrad {
      try encoder.encode(clip.pixels, tiling: plan.options.tiling).squeeze(0).to(.cpu)
    }
    try requireFinite(latents, "the latents of \"\(item.sample.media)\"")
    let shape = latents.shape
    try write(
      [
        ("latents", latents), ("num_frames", Tensor([shape[1]])), ("height", Tensor([shape[2]])),
        ("width", Tensor([shape[3]])), ("fps", Tensor([clip.frameRate])),
      ], item.latents, to: item.latentsPath)
  }

  // MARK: Files

  private func requireFinite(_ x: Tensor, _ what: String) throws {
    guard try x.to(.float32).abs().amax().isFinite().item() != 0 else {
      throw PreprocessingError(
        .model, file: plan.options.models.name,
        "\(what) are not finite numbers: the weights are damaged, or too large for \(plan.options.dtype)")
    }
  }

  private func write(_ tensors: [(String, Tensor)], _ fingerprint: Fingerprint, to path: String) throws {
    try makeFolder((path as NSString).deletingLastPathComponent)
    do {
      try writeSafetensors(
        tensors.map { (key: $0, tensor: $1) }, metadata: fingerprint.fields, to: path)
    } catch let error as TensorFileError {
      throw PreprocessingError(.writing, "\(error)")
    }
  }

  private func makeFolder(_ path: String) throws {
    do {
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    } catch {
      throw PreprocessingError(
        .writing, file: path,
        "the folder can't be made: \(error.localizedDescription); choose another --output-dir")
    }
  }
}
