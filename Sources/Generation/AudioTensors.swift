// B batch, C channels, N samples.

import LTX
import Media
import Support
import Torch

/// Conversions between audio and tensors.
public enum AudioTensors {
  /// Audio as a model's input: [1, 2, N], float32.
  public static func waveform(_ clip: AudioClip) throws -> Tensor {
    try Tensor(clip.channels[0] + clip.channels[1], shape: [1, 2, clip.sampleCount])
  }

  /// The channels of a waveform, in the form that writers accept.
  ///
  /// - Parameter waveform: [1, C, N], any floating-point type, any device.
  /// - Throws: `Issue` for another shape.
  public static func channels(_ waveform: Tensor) throws -> [[Float]] {
    let shape = waveform.shape
    guard shape.count == 3, shape[0] == 1, shape[1] > 0, shape[2] > 0 else {
      throw Issue.shape("waveform", shape, expected: "[1, channels, samples]")
    }
    return try waveform.squeeze(0).unbind(0).map { try $0.to(.float32).array() }
  }
}
