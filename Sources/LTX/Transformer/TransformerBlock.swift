// B batch, Tv/Ta video/audio tokens, Dv/Da the streams' widths, S text tokens.

import BlockExecution
import NN
import Torch

/// One block of the audio-video transformer: per stream self-attention, attention to the text,
/// attention to the other stream, feed-forward, each modulated by the timestep (ltx-core 1.2.0,
/// `transformer/transformer.py`).
public struct TransformerBlock: Block {
  let index: Int
  let video: ModalityBlock?
  let audio: ModalityBlock?
  let cross: CrossModalAttention?
  public let parameters: [Parameter]
  public let weights: [WeightSlot]

  public init(
    _ w: Weights, index: Int, configuration c: TransformerConfiguration, modalities: Set<Modality>
  )
    throws
  {
    self.index = index
    video =
      modalities.contains(.video)
      ? try ModalityBlock(w, stream: c.video, prefix: "", configuration: c) : nil
    audio =
      modalities.contains(.audio)
      ? try ModalityBlock(w, stream: c.audio, prefix: "audio_", configuration: c) : nil
    cross = modalities == .both ? try CrossModalAttention(w, configuration: c) : nil
    parameters = w.parameters
    weights = w.slots
  }

  public func callAsFunction(_ state: HiddenStates, _ shared: Conditioning) throws -> HiddenStates {
    var v = state.video
    var a = state.audio
    let perturbations = shared.perturbations
    // The timestep's modulation of each stream: shift, scale, gate for each part.
    var videoModulation: [Tensor] = []
    var audioModulation: [Tensor] = []
    if let block = video, let c = shared.video, c.isEnabled, let x = v {
      videoModulation = try block.modulation(c)
      v = try block.attend(
        x, c, videoModulation,
        bypass: perturbations.bypass(.videoSelfAttention, block: index, like: x))
    }
    if let block = audio, let c = shared.audio, c.isEnabled, let x = a {
      audioModulation = try block.modulation(c)
      a = try block.attend(
        x, c, audioModulation,
        bypass: perturbations.bypass(.audioSelfAttention, block: index, like: x))
    }
    if let cross, let cv = shared.video, let ca = shared.audio, let xv = v, let xa = a {
      // Both directions read the streams as they were before either was applied.
      if cv.isEnabled {
        let bypass = try perturbations.bypass(.audioToVideo, block: index, like: xv)
        v = try cross.audioToVideo(xv, xa, cv, ca, bypass: bypass)
      }
      if ca.isEnabled {
        let bypass = try perturbations.bypass(.videoToAudio, block: index, like: xa)
        a = try cross.videoToAudio(xv, xa, cv, ca, bypass: bypass)
      }
    }
    if let block = video, !videoModulation.isEmpty, let x = v {
      v = try block.feedForward(x, videoModulation)
    }
    if let block = audio, !audioModulation.isEmpty, let x = a {
      a = try block.feedForward(x, audioModulation)
    }
    return HiddenStates(video: v, audio: a)
  }
}

/// The part of a block that belongs to one stream.
struct ModalityBlock: Sendable {
  private let selfAttention: Attention
  private let textAttention: Attention
  private let feedForward: FeedForward
  /// [6, D], with prompt modulation [9, D]: shift, scale, gate of self-attention, feed-forward,
  /// text attention.
  private let table: WeightSlot
  /// [2, D]: shift and scale of the text; LTX-2.3 only.
  private let promptTable: WeightSlot?
  private let eps: Double

  init(
    _ w: Weights, stream: TransformerConfiguration.Stream, prefix: String,
    configuration c: TransformerConfiguration
  ) throws {
    let width = stream.width
    selfAttention = try Attention(
      w / "\(prefix)attn1", width: width, contextWidth: width, heads: stream.heads,
      headWidth: stream.headWidth,
      eps: c.normEps, isGated: c.hasGatedAttention)
    textAttention = try Attention(
      w / "\(prefix)attn2", width: width, contextWidth: stream.contextWidth, heads: stream.heads,
      headWidth: stream.headWidth, eps: c.normEps, isGated: c.hasGatedAttention)
    feedForward = try FeedForward(w / "\(prefix)ff", width: width, bias: stream.feedForwardBias)
    table = try w.slot(
      "\(prefix)scale_shift_table", shape: [c.hasPromptModulation ? 9 : 6, width])
    promptTable =
      c.hasPromptModulation
      ? try w.slot("\(prefix)prompt_scale_shift_table", shape: [2, width]) : nil
    eps = c.normEps
  }

  /// The rows of the table plus the timestep's modulation, each [B, T or 1, D].
  func modulation(_ c: ModalityConditioning) throws -> [Tensor] {
    let table = table.tensor
    return try c.modulation.unflatten(-1, table.shape)
      .adding(table.to(c.modulation.dtype)).unbind(2)
  }

  /// Self-attention, then attention to the text.
  func attend(
    _ x: Tensor, _ c: ModalityConditioning, _ modulation: [Tensor], bypass: Attention.Bypass
  ) throws -> Tensor {
    let normed = try x.modulatedRMSNorm(scale: modulation[1], shift: modulation[0], eps: eps)
    let attended = try selfAttention(
      normed, mask: c.selfAttentionMask, positions: c.positions, bypass: bypass)
    let x = try x.addingProduct(attended, modulation[2])
    let query = try x.rmsNorm(eps: eps)
    guard let promptTable = promptTable?.tensor else {
      return try x + textAttention(query, context: c.context, mask: c.contextMask)
    }
    var promptRows = try promptTable.to(query.dtype).unsqueeze(0).unsqueeze(0)  // [1, 1, 2, D]
    if let prompt = c.promptModulation {
      promptRows = try promptRows + prompt.unflatten(-1, [2, -1])
    }
    let prompt = try promptRows.unbind(2)
    let read = try textAttention(
      query.modulated(scale: modulation[7], shift: modulation[6]),
      context: c.context.modulated(scale: prompt[1], shift: prompt[0]), mask: c.contextMask)
    return try x.addingProduct(read, modulation[8])
  }

  func feedForward(_ x: Tensor, _ modulation: [Tensor]) throws -> Tensor {
    let normed = try x.modulatedRMSNorm(scale: modulation[4], shift: modulation[3], eps: eps)
    return try x.addingProduct(feedForward(normed), modulation[5])
  }
}

/// Attention of each stream to the other, over time alone. Its heads are the audio stream's.
struct CrossModalAttention: Sendable {
  private let audioToVideo: Attention
  private let videoToAudio: Attention
  /// [5, D]: scale and shift for audio-to-video, scale and shift for video-to-audio, gate.
  private let videoTable: WeightSlot
  private let audioTable: WeightSlot
  private let eps: Double

  init(_ w: Weights, configuration c: TransformerConfiguration) throws {
    audioToVideo = try Attention(
      w / "audio_to_video_attn", width: c.video.width, contextWidth: c.audio.width,
      heads: c.audio.heads,
      headWidth: c.audio.headWidth, eps: c.normEps, isGated: c.hasGatedAttention)
    videoToAudio = try Attention(
      w / "video_to_audio_attn", width: c.audio.width, contextWidth: c.video.width,
      heads: c.audio.heads,
      headWidth: c.audio.headWidth, eps: c.normEps, isGated: c.hasGatedAttention)
    videoTable = try w.slot("scale_shift_table_a2v_ca_video", shape: [5, c.video.width])
    audioTable = try w.slot("scale_shift_table_a2v_ca_audio", shape: [5, c.audio.width])
    eps = c.normEps
  }

  func audioToVideo(
    _ v: Tensor, _ a: Tensor, _ cv: ModalityConditioning, _ ca: ModalityConditioning,
    bypass: Attention.Bypass
  ) throws -> Tensor {
    try attend(
      audioToVideo, query: v, context: a, cv, ca, queryTable: videoTable.tensor,
      contextTable: audioTable.tensor, row: 0,
      bypass: bypass)
  }

  func videoToAudio(
    _ v: Tensor, _ a: Tensor, _ cv: ModalityConditioning, _ ca: ModalityConditioning,
    bypass: Attention.Bypass
  ) throws -> Tensor {
    try attend(
      videoToAudio, query: a, context: v, ca, cv, queryTable: audioTable.tensor,
      contextTable: videoTable.tensor, row: 2,
      bypass: bypass)
  }

  /// - Parameter row: of the scale in the tables; the shift is in the next one.
  private func attend(
    _ attention: Attention, query x: Tensor, context y: Tensor, _ cx: ModalityConditioning,
    _ cy: ModalityConditioning,
    queryTable: Tensor, contextTable: Tensor, row: Int, bypass: Attention.Bypass
  ) throws -> Tensor {
    if case .all = bypass { return x }
    guard let gateRow = cx.crossGate else { return x }
    let attended = try attention(
      modulate(x, cx, queryTable, row), context: modulate(y, cy, contextTable, row),
      positions: cx.crossPositions,
      keyPositions: cy.crossPositions)
    var gate = try gateRow + queryTable.select(0, 4).to(gateRow.dtype)
    if case .samples(let keep) = bypass { gate = try gate * keep }
    return try x.addingProduct(attended, gate)
  }

  private func modulate(_ x: Tensor, _ c: ModalityConditioning, _ table: Tensor, _ row: Int) throws
    -> Tensor
  {
    guard let modulation = c.crossModulation else { return try x.rmsNorm(eps: eps) }
    let rows = try modulation.unflatten(-1, [4, -1]).slice(2, from: row, to: row + 2)
      .adding(table.slice(0, from: row, to: row + 2).to(modulation.dtype)).unbind(2)
    return try x.modulatedRMSNorm(scale: rows[0], shift: rows[1], eps: eps)
  }
}
