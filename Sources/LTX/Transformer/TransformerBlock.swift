// B batch, T tokens of a modality, D its width, S text tokens.

import BlockExecution
import NN
import Torch

/// One block of the audio-video transformer (ltx-core 1.2.0, `transformer/transformer.py`).
///
/// Each modality has self-attention, attention to the text, attention to the other modality, and a
/// feed-forward network. The timestep modulates all of them.
public struct TransformerBlock: Block {
  let index: Int
  let modalities: PerModality<ModalityBlock?>
  let cross: CrossModalAttention?
  public let parameters: [Parameter]
  public let weights: [WeightSlot]
  private let adapterFactors: [Tensor]

  public init(
    _ w: Weights, index: Int, configuration c: TransformerConfiguration, modalities: Set<Modality>
  ) throws {
    self.index = index
    self.modalities = try PerModality { modality in
      modalities.contains(modality) ? try ModalityBlock(w, modality, configuration: c) : nil
    }
    cross = modalities == .both ? try CrossModalAttention(w, configuration: c) : nil
    parameters = w.parameters
    weights = w.slots
    adapterFactors = w.lowRankFactors
  }

  public func callAsFunction(_ state: HiddenStates, _ shared: Conditioning) throws -> HiddenStates {
    let device = state.tensors.first?.device ?? .cpu
    return try Tensor.withCasts(of: adapterFactors, on: device) { try run(state, shared) }
  }

  private func run(_ state: HiddenStates, _ shared: Conditioning) throws -> HiddenStates {
    var state = state
    var modulations = PerModality<BlockModulation?>()
    for modality in Modality.allCases {
      guard let block = modalities[modality], let c = shared.modalities[modality], c.isEnabled,
        let x = state[modality]
      else { continue }
      let modulation = try block.modulation(c)
      modulations[modality] = modulation
      state[modality] = try block.attend(
        x, c, modulation,
        bypass: shared.perturbations.bypass(.selfAttention(modality), block: index, like: x))
    }
    if let cross { try attend(cross, &state, shared) }
    for modality in Modality.allCases {
      guard let block = modalities[modality], let modulation = modulations[modality],
        let x = state[modality]
      else { continue }
      state[modality] = try block.feedForward(x, modulation)
    }
    return state
  }

  /// Both directions read the states from before either was applied.
  private func attend(
    _ cross: CrossModalAttention, _ state: inout HiddenStates, _ shared: Conditioning
  ) throws {
    let before = state
    for modality in Modality.allCases {
      guard let x = before[modality], let y = before[modality.other],
        let cx = shared.modalities[modality], let cy = shared.modalities[modality.other],
        cx.isEnabled
      else { continue }
      let bypass = try shared.perturbations.bypass(
        .crossAttention(from: modality.other), block: index, like: x)
      state[modality] = try cross(x, of: modality, cx, context: y, cy, bypass: bypass)
    }
  }
}

/// The part of a block that belongs to one modality.
struct ModalityBlock: Sendable {
  private let selfAttention: Attention
  private let textAttention: Attention
  private let feedForward: FeedForward
  /// [6 or 9, D]: see `BlockModulation`.
  private let table: WeightSlot
  /// [2, D]: shift and scale of the text; LTX-2.3 only.
  private let promptTable: WeightSlot?
  private let eps: Double

  init(_ w: Weights, _ modality: Modality, configuration c: TransformerConfiguration) throws {
    let (sizes, prefix) = (c.sizes[modality], modality.keyPrefix)
    selfAttention = try Attention(
      w / "\(prefix)attn1", width: sizes.width, contextWidth: sizes.width, heads: sizes.heads,
      headWidth: sizes.headWidth, eps: c.normEps, isGated: c.hasGatedAttention)
    textAttention = try Attention(
      w / "\(prefix)attn2", width: sizes.width, contextWidth: sizes.contextWidth,
      heads: sizes.heads, headWidth: sizes.headWidth, eps: c.normEps,
      isGated: c.hasGatedAttention)
    feedForward = try FeedForward(
      w / "\(prefix)ff", width: sizes.width, bias: sizes.feedForwardBias)
    table = try w.slot(
      "\(prefix)scale_shift_table",
      shape: [BlockModulation.rowCount(modulatesText: c.hasPromptModulation), sizes.width])
    promptTable =
      c.hasPromptModulation
      ? try w.slot("\(prefix)prompt_scale_shift_table", shape: [2, sizes.width]) : nil
    eps = c.normEps
  }

  /// The table plus the timestep's modulation.
  func modulation(_ c: ModalityConditioning) throws -> BlockModulation {
    let table = table.tensor
    return BlockModulation(
      rows: try c.modulation.unflatten(-1, table.shape).adding(table.to(c.modulation.dtype))
        .unbind(2))
  }

  /// Self-attention, then attention to the text.
  func attend(
    _ x: Tensor, _ c: ModalityConditioning, _ modulation: BlockModulation, bypass: Attention.Bypass
  ) throws -> Tensor {
    let own = modulation.selfAttention
    let attended = try selfAttention(
      x.modulatedRMSNorm(scale: own.scale, shift: own.shift, eps: eps), mask: c.selfAttentionMask,
      positions: c.positions, bypass: bypass)
    let x = try x.addingProduct(attended, own.gate)
    let query = try x.rmsNorm(eps: eps)
    guard let promptTable = promptTable?.tensor, let text = modulation.textAttention else {
      return try x + textAttention(query, context: c.context, mask: c.contextMask)
    }
    var promptRows = try promptTable.to(query.dtype).unsqueeze(0).unsqueeze(0)  // [1, 1, 2, D]
    if let prompt = c.promptModulation {
      promptRows = try promptRows + prompt.unflatten(-1, [2, -1])
    }
    let prompt = try promptRows.unbind(2)
    let (promptShift, promptScale) = (prompt[0], prompt[1])
    let read = try textAttention(
      query.modulated(scale: text.scale, shift: text.shift),
      context: c.context.modulated(scale: promptScale, shift: promptShift), mask: c.contextMask)
    return try x.addingProduct(read, text.gate)
  }

  func feedForward(_ x: Tensor, _ modulation: BlockModulation) throws -> Tensor {
    let own = modulation.feedForward
    let normed = try x.modulatedRMSNorm(scale: own.scale, shift: own.shift, eps: eps)
    return try x.addingProduct(feedForward(normed), own.gate)
  }
}

/// Attention of each modality to the other, over time only. It has as many heads as the audio.
struct CrossModalAttention: Sendable {
  /// Keyed by the modality that is updated.
  private let attention: PerModality<Attention>
  /// [5, D]: see `Row`.
  private let tables: PerModality<WeightSlot>
  private let eps: Double

  /// The rows of a table. Scale and shift of one direction are neighbors.
  private enum Row {
    static let gate = 4

    /// The scale of a modality's states, queries or context, in attention that updates one of them.
    static func scale(updating modality: Modality) -> Int { modality == .video ? 0 : 2 }
  }

  init(_ w: Weights, configuration c: TransformerConfiguration) throws {
    attention = try PerModality { modality in
      try Attention(
        w / "\(modality.other)_to_\(modality)_attn", width: c.sizes[modality].width,
        contextWidth: c.sizes[modality.other].width, heads: c.sizes.audio.heads,
        headWidth: c.sizes.audio.headWidth, eps: c.normEps, isGated: c.hasGatedAttention)
    }
    tables = try PerModality { modality in
      try w.slot("scale_shift_table_a2v_ca_\(modality)", shape: [5, c.sizes[modality].width])
    }
    eps = c.normEps
  }

  /// The states of one modality after its attention to the other.
  ///
  /// - Parameters:
  ///   - x: The states of `modality`, [B, T, D].
  ///   - y: The states of the other one.
  func callAsFunction(
    _ x: Tensor, of modality: Modality, _ cx: ModalityConditioning, context y: Tensor,
    _ cy: ModalityConditioning, bypass: Attention.Bypass
  ) throws -> Tensor {
    if case .all = bypass { return x }
    guard let gateRow = cx.crossGate else { return x }
    let row = Row.scale(updating: modality)
    let (queryTable, contextTable) = (tables[modality].tensor, tables[modality.other].tensor)
    let attended = try attention[modality](
      modulate(x, cx, queryTable, row), context: modulate(y, cy, contextTable, row),
      positions: cx.crossPositions, keyPositions: cy.crossPositions)
    var gate = try gateRow + queryTable.select(0, Row.gate).to(gateRow.dtype)
    if case .samples(let keep) = bypass { gate = try gate * keep }
    return try x.addingProduct(attended, gate)
  }

  private func modulate(
    _ x: Tensor, _ c: ModalityConditioning, _ table: Tensor, _ row: Int
  ) throws -> Tensor {
    guard let modulation = c.crossModulation else { return try x.rmsNorm(eps: eps) }
    let rows = try modulation.unflatten(-1, [4, -1]).slice(2, from: row, to: row + 2)
      .adding(table.slice(0, from: row, to: row + 2).to(modulation.dtype)).unbind(2)
    let (scale, shift) = (rows[0], rows[1])
    return try x.modulatedRMSNorm(scale: scale, shift: shift, eps: eps)
  }
}

extension Modality {
  /// The prefix of the modality's own layers in a checkpoint.
  var keyPrefix: String { self == .video ? "" : "audio_" }
}
