// B batch, Z latent channels, T latent frames, N frequency bins.

import LTX
import Media
import Support
import Torch

/// Reads audio files and encodes them to the audio conditions of samplings.
struct AudioConditionEncoder {
  /// The result of encoding a file.
  enum Encoded {
    case condition(LatentCondition)
    /// The latent of audio that stays unchanged, and the audio itself.
    case frozen(Tensor, AudioClip)
  }

  let encoder: AudioEncoder

  /// - Throws: `MediaError` for a file that changed after it was checked, and errors of the
  ///   encoder.
  func callAsFunction(_ encoding: GenerationPlan.AudioEncoding) throws -> Encoded {
    let grid = encoding.grid
    let condition = encoding.condition
    switch condition.kind {
    case .whole:
      // As in preprocessing, no frames of the encoder's result are cut or repeated.
      let audio = try read(
        condition.path, from: condition.source.start, seconds: encoding.seconds)
      return .frozen(try latent(audio), audio)
    case .retake(let from, let to):
      let audio = try read(condition.path, from: 0, seconds: encoding.seconds)
      let kept = grid.frames(from: from, to: to).map { $0 ? Float(0) : 1 }
      return .condition(
        .masked(
          latent: try latent(audio, grid), mask: try Tensor(kept, shape: [1, grid.frames])))
    case .prefix:
      let audio = try AudioClip.read(
        path: condition.path, duration: condition.seconds ?? encoding.seconds)
      let latent = try latent(audio)
      return .condition(
        .replace(
          latent: try latent.narrow(2, 0, min(latent.size(2), grid.frames)).contiguous(),
          latentFrame: 0))
    case .suffix:
      let latent = try latent(
        end(of: condition.path, seconds: condition.seconds ?? encoding.seconds))
      let count = min(latent.size(2), grid.frames)
      return .condition(
        .replace(
          latent: try latent.narrow(2, latent.size(2) - count, count).contiguous(),
          latentFrame: grid.frames - count))
    case .mask(let mask, _):
      let audio = try read(condition.path, from: 0, seconds: encoding.seconds)
      return .condition(
        .masked(
          latent: try latent(audio, grid),
          mask: try AudioMask(path: mask.path).steps(grid.frames).unsqueeze(0)))
    case .reference:
      return .condition(
        .reference(
          latent: try latent(AudioClip.read(path: condition.path, duration: encoding.seconds))))
    case .image, .firstFrame, .crop:
      throw Issue([.file(condition.path)], "has no frames, which the condition needs")
    }
  }

  /// Stereo audio, cut or padded with silence to the length of the result.
  private func read(_ path: String, from start: Double, seconds: Double) throws -> AudioClip {
    let clip = try AudioClip.read(path: path, from: start, duration: seconds)
    let missing = Int((seconds * Double(clip.sampleRate)).rounded()) - clip.sampleCount
    guard missing > 0 else { return clip }
    let silence = [Float](repeating: 0, count: missing)
    return AudioClip(
      left: clip.channels[0] + silence, right: clip.channels[1] + silence,
      sampleRate: clip.sampleRate)
  }

  /// The last seconds of an audio file, or all of it.
  private func end(of path: String, seconds: Double) throws -> AudioClip {
    let clip = try AudioClip.read(path: path)
    let count = min(clip.sampleCount, Int((seconds * Double(clip.sampleRate)).rounded()))
    return AudioClip(
      left: Array(clip.channels[0].suffix(count)), right: Array(clip.channels[1].suffix(count)),
      sampleRate: clip.sampleRate)
  }

  /// [1, Z, t, N]
  private func latent(_ audio: AudioClip) throws -> Tensor {
    let latent = try encoder(AudioTensors.waveform(audio), sampleRate: audio.sampleRate)
    try latent.requireFinite(from: "audio encoder")
    return try latent.to(.cpu, .float32)
  }

  /// The latent with as many frames as the grid has: [1, Z, T, N].
  private func latent(_ audio: AudioClip, _ grid: AudioGrid) throws -> Tensor {
    let latent = try latent(audio)
    let count = latent.size(2)
    if count >= grid.frames { return try latent.narrow(2, 0, grid.frames).contiguous() }
    // If rounding has omitted the last frame, the one before it is repeated.
    let last = try latent.narrow(2, count - 1, 1)
      .expand([latent.size(0), latent.size(1), grid.frames - count, latent.size(3)])
    return try Tensor.cat([latent, last], 2)
  }
}
