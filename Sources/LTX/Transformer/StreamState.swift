// B batch, T tokens of the stream, D its width, S text tokens.

import BlockExecution
import Torch

/// The hidden states that travel through the blocks.
public struct HiddenStates: TensorBundle {
  /// [B, T, D], nil where the stream is not there.
  public var video: Tensor?
  public var audio: Tensor?

  public init(video: Tensor?, audio: Tensor?) {
    self.video = video
    self.audio = audio
  }

  public var tensors: [Tensor] { [video, audio].compactMap { $0 } }

  public func replacing(_ tensors: [Tensor]) -> HiddenStates {
    var rest = tensors[...]
    return HiddenStates(video: video == nil ? nil : rest.removeFirst(), audio: audio == nil ? nil : rest.removeFirst())
  }
}

/// What every block reads of one stream.
public struct StreamConditioning: Sendable {
  /// [B, T or 1, N * D] from the per-token timesteps.
  var modulation: Tensor
  /// [B, S, D]
  var context: Tensor
  /// [B, 1, 2 * D] from the sample's sigma; LTX-2.3 only.
  var promptModulation: Tensor?
  /// [B, T or 1, 4 * D] for cross-modal attention, from the per-token timesteps.
  var crossModulation: Tensor?
  /// [B, 1, D] for cross-modal attention, from the other stream's sigma.
  var crossGate: Tensor?

  let contextMask: Tensor?
  let selfAttentionMask: Tensor?
  let positions: RotaryEmbedding
  let crossPositions: RotaryEmbedding?
  /// A disabled stream is not updated, but the other one still attends to it.
  let isEnabled: Bool

  var tensors: [Tensor] { [modulation, context] + [promptModulation, crossModulation, crossGate].compactMap { $0 } }

  func replacing(_ rest: inout ArraySlice<Tensor>) -> StreamConditioning {
    var copy = self
    copy.modulation = rest.removeFirst()
    copy.context = rest.removeFirst()
    if promptModulation != nil { copy.promptModulation = rest.removeFirst() }
    if crossModulation != nil { copy.crossModulation = rest.removeFirst() }
    if crossGate != nil { copy.crossGate = rest.removeFirst() }
    return copy
  }
}

/// What every block reads.
public struct Conditioning: TensorBundle {
  public var video: StreamConditioning?
  public var audio: StreamConditioning?
  public let perturbations: Perturbations

  public var tensors: [Tensor] { (video?.tensors ?? []) + (audio?.tensors ?? []) }

  public func replacing(_ tensors: [Tensor]) -> Conditioning {
    var rest = tensors[...]
    var copy = self
    copy.video = video?.replacing(&rest)
    copy.audio = audio?.replacing(&rest)
    return copy
  }
}

/// Attention that is left out in chosen blocks and samples, for guidance by a worse prediction.
public struct Perturbations: Sendable {
  /// Blocks whose self-attention is replaced by its value projection.
  public var videoSelfAttention: Set<Int> = []
  public var audioSelfAttention: Set<Int> = []
  /// Blocks whose cross-modal attention is left out.
  public var audioToVideo: Set<Int> = []
  public var videoToAudio: Set<Int> = []
  /// [B]: the samples that are perturbed; nil for all of them.
  public var rows: [Bool]?

  public init() {}

  public static let none = Perturbations()

  /// How the given set of blocks applies to one block.
  func bypass(_ blocks: Set<Int>, block: Int, like x: Tensor) throws -> Attention.Bypass {
    guard blocks.contains(block) else { return .none }
    guard let rows else { return .all }
    if rows.allSatisfy({ $0 }) { return .all }
    if !rows.contains(true) { return .none }
    let keep = try Tensor(rows.map { $0 ? Float(0) : 1 }, shape: [rows.count, 1, 1])
    return .samples(keep: try keep.to(x.device, x.dtype))
  }
}
