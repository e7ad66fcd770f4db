// B batch, Z latent channels, T latent frames, N frequency bins.

import LTX
import Media
import Torch

/// Reads sounds and encodes them to what samplings know of their sound.
struct AudioConditionEncoder {
  /// What becomes of a file.
  enum Encoded {
    case condition(AudioCondition)
    /// The whole sound, which stays as it is: its latent, and itself.
    case frozen(Tensor, AudioClip)
  }

  let encoder: AudioEncoder

  /// - Throws: `MediaError` for a file that changed since it was checked, and what the encoder
  ///   throws.
  func callAsFunction(_ encoding: GenerationStage.AudioEncoding) throws -> Encoded {
    let grid = encoding.grid
    switch encoding.condition {
    case .audio(let path, let start):
      // As in preprocessing, the latent has as many frames as the encoder makes of it, and none is
      // cut or repeated.
      let audio = try read(path, from: start, seconds: encoding.seconds)
      return .frozen(try latent(audio), audio)
    case .retake(let path, let from, let to):
      let audio = try read(path, from: 0, seconds: encoding.seconds)
      let kept = grid.frames(from: from, to: to).map { $0 ? Float(0) : 1 }
      return .condition(
        .masked(
          latent: try latent(audio, grid), mask: try Tensor(kept, shape: [1, grid.frames]),
          strength: 1))
    case .audioPrefix(let path, let seconds):
      let audio = try AudioClip.read(path: path, duration: seconds ?? encoding.seconds)
      let latent = try latent(audio)
      return .condition(
        .replace(
          latent: try latent.narrow(2, 0, min(latent.size(2), grid.frames)).contiguous(), frame: 0))
    case .audioSuffix(let path, let seconds):
      let latent = try latent(end(of: path, seconds: seconds ?? encoding.seconds))
      let count = min(latent.size(2), grid.frames)
      return .condition(
        .replace(
          latent: try latent.narrow(2, latent.size(2) - count, count).contiguous(),
          frame: grid.frames - count
        ))
    case .audioKeep(let path, let mask):
      let audio = try read(path, from: 0, seconds: encoding.seconds)
      return .condition(
        .masked(
          latent: try latent(audio, grid), mask: try AudioMask(path: mask).frames(grid.frames),
          strength: 1))
    case .audioReference(let path):
      return .condition(
        .reference(latent: try latent(AudioClip.read(path: path, duration: encoding.seconds))))
    case .image, .firstFrame, .prefix, .suffix, .inpaint, .keep, .crop, .reference, .video:
      preconditionFailure("a picture among sounds")
    }
  }

  /// Stereo, as long as the result: cut, or filled up with silence.
  private func read(_ path: String, from start: Double, seconds: Double) throws -> AudioClip {
    let clip = try AudioClip.read(path: path, from: start, duration: seconds)
    let missing = Int((seconds * Double(clip.sampleRate)).rounded()) - clip.sampleCount
    guard missing > 0 else { return clip }
    let silence = [Float](repeating: 0, count: missing)
    return AudioClip(
      left: clip.channels[0] + silence, right: clip.channels[1] + silence,
      sampleRate: clip.sampleRate)
  }

  /// The last seconds of a sound, or all of it.
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

  /// [1, Z, T, N]: as many frames as the grid has.
  private func latent(_ audio: AudioClip, _ grid: AudioGrid) throws -> Tensor {
    let latent = try latent(audio)
    let count = latent.size(2)
    if count >= grid.frames { return try latent.narrow(2, 0, grid.frames).contiguous() }
    // Rounding may leave the last frame out; it is as the one before.
    let last = try latent.narrow(2, count - 1, 1)
      .expand([latent.size(0), latent.size(1), grid.frames - count, latent.size(3)])
    return try Tensor.cat([latent, last], 2)
  }
}
