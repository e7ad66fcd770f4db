import NN
import Torch

/// Which part of a transformer the loss of a stream depends on.
extension Streams {
  /// Whether the velocities of these streams depend on a layer or tensor.
  ///
  /// A stream that is there only to be attended to ends early: in the last block nothing reads what
  /// becomes of it after the attention to it, and its way out has no loss.
  ///
  /// - Parameters:
  ///   - name: below the transformer, `transformer_blocks.0.attn1.to_q`, or a tensor's.
  ///   - built: the streams of the transformer.
  ///   - blocks: how many it has.
  func depend(on name: some StringProtocol, built: Streams, blocks: Int) -> Bool {
    guard built == .both, self != .both else { return true }
    // Of the stream without a loss.
    let (prefix, attention, gate) =
      hasVideo
      ? ("audio_", "video_to_audio_attn", "av_ca_v2a_gate_adaln_single")
      : ("", "audio_to_video_attn", "av_ca_a2v_gate_adaln_single")
    let parts = name.split(separator: ".")
    guard let first = parts.first else { return true }
    if first == "\(prefix)proj_out" || first == "\(prefix)scale_shift_table" { return false }
    if first == gate { return blocks > 1 }
    guard parts.count > 2, first == "transformer_blocks", Int(parts[1]) == blocks - 1 else {
      return true
    }
    return parts[2] != "\(prefix)ff" && parts[2] != attention
  }
}

extension TrainedWeights {
  /// All of a checkpoint's transformer without the text connectors, or what of it the patterns
  /// match.
  public static func transformer(_ patterns: [String]? = nil, dtype: DType = .float32)
    -> TrainedWeights
  {
    TrainedWeights(patterns: patterns, below: Checkpoint.Prefix.transformer, dtype: dtype)
  }
}
