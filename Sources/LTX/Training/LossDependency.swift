import NN
import Torch

/// The part of a transformer that the loss of a modality depends on.
extension Set<Modality> {
  /// Whether the velocities of these modalities depend on a layer or tensor.
  ///
  /// A modality that is only attended to ends early: nothing reads its output of the last block, so
  /// the layers after the attention to it, and its output layers, don't affect the loss.
  ///
  /// - Parameters:
  ///   - name: A layer or a tensor below the transformer, `transformer_blocks.0.attn1.to_q`.
  ///   - built: The modalities of the transformer.
  ///   - blocks: The number of blocks.
  func depend(on name: some StringProtocol, built: Set<Modality>, blocks: Int) -> Bool {
    guard built == .both, self != .both else { return true }
    // The layers of the modality that has no loss.
    let (prefix, attention, gate) =
      contains(.video)
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
  /// All tensors of a checkpoint's transformer except the text connectors, or those that the
  /// patterns match.
  public static func transformer(_ patterns: [String]? = nil, dtype: DType = .float32)
    -> TrainedWeights
  {
    TrainedWeights(patterns: patterns, below: Checkpoint.Prefix.transformer, dtype: dtype)
  }
}
