import LTX
import Support
import Torch

/// `duration`: the length that the duration head predicts for contexts.
func probeDuration(_ options: Probe.Options, _ inputs: ProbeInputs) throws -> [(
  key: String, tensor: Tensor
)] {
  let checkpoint = try Checkpoint(path: options.requireModel())
  let widths = try DurationHeadConfiguration(checkpoint.config).contextWidths
  inputs.fix("Wv", widths.video)
  inputs.fix("Wa", widths.audio)
  // The two contexts of a prompt may differ in length.
  let contexts = PerModality(
    video: try inputs.optionalFloat("video_context", "B S Wv"),
    audio: try inputs.optionalFloat("audio_context", "B Sa Wa"))
  guard !contexts.present().isEmpty else {
    throw Issue(
      "the inputs video_context and audio_context are both missing. Give at least one of them")
  }
  let rate = inputs.has("frame_rate") ? try inputs.number("frame_rate") : nil
  let limits = (
    min: try inputs.number("min_seconds", default: 1),
    max: try inputs.number("max_seconds", default: 20)
  )
  if let rate, rate <= 0 { throw Issue(["frame_rate"], "must be above 0 (got \(rate))") }
  guard limits.min > 0, limits.max >= limits.min else {
    throw Issue(
      ["max_seconds"],
      "must be at least min_seconds, above 0 (got \(limits.min) and \(limits.max))")
  }
  let head = try checkpoint.durationHead(dtype: options.dtype, device: options.device)
  let seconds = try withInference {
    try head(
      TextContexts(contexts.map { try $0.map { try $0.to(options.device, options.dtype) } }))
  }
  guard let rate else { return [("seconds", seconds)] }
  let frames = try seconds.array(of: Float.self).map {
    DurationHead.frames(
      seconds: Double($0), frameRate: rate, minSeconds: limits.min, maxSeconds: limits.max,
      factors: .usual)
  }
  return [("seconds", seconds), ("frames", try Tensor(frames))]
}
