// B batch, T tokens of the modality, D its width, S text tokens.

import BlockExecution
import Torch

/// The hidden states that travel through the blocks: [B, T, D], nil for an absent modality.
public typealias HiddenStates = PerModality<Tensor?>

extension PerModality: TensorBundle where Value == Tensor? {
  public var tensors: [Tensor] { values() }

  public func replacing(_ tensors: [Tensor]) -> Self {
    var rest = tensors[...]
    return map { $0 == nil ? nil : rest.removeFirst() }
  }
}

/// The inputs that every block reads for one modality.
public struct ModalityConditioning: Sendable {
  /// [B, T or 1, N * D] from the per-token timesteps.
  var modulation: Tensor
  /// [B, S, D]
  var context: Tensor
  /// [B, 1, 2 * D] from the sample's sigma; LTX-2.3 only.
  var promptModulation: Tensor?
  /// [B, T or 1, 4 * D] for cross-modal attention, from the per-token timesteps.
  var crossModulation: Tensor?
  /// [B, 1, D] for cross-modal attention, from the other modality's sigma.
  var crossGate: Tensor?

  let contextMask: Tensor?
  let selfAttentionMask: Tensor?
  let positions: RotaryEmbedding
  let crossPositions: RotaryEmbedding?
  /// A disabled modality is not updated, but the other one still attends to it.
  let isEnabled: Bool

  var tensors: [Tensor] {
    [modulation, context] + [promptModulation, crossModulation, crossGate].compactMap { $0 }
  }

  func replacing(_ rest: inout ArraySlice<Tensor>) -> ModalityConditioning {
    var copy = self
    copy.modulation = rest.removeFirst()
    copy.context = rest.removeFirst()
    if promptModulation != nil { copy.promptModulation = rest.removeFirst() }
    if crossModulation != nil { copy.crossModulation = rest.removeFirst() }
    if crossGate != nil { copy.crossGate = rest.removeFirst() }
    return copy
  }
}

/// The inputs that every block reads.
public struct Conditioning: TensorBundle {
  public var modalities: PerModality<ModalityConditioning?>
  public let perturbations: Perturbations

  public var tensors: [Tensor] { modalities.values().flatMap(\.tensors) }

  public func replacing(_ tensors: [Tensor]) -> Conditioning {
    var rest = tensors[...]
    var copy = self
    copy.modalities = modalities.map { $0?.replacing(&rest) }
    return copy
  }
}

/// Attention that is skipped in some blocks and samples, for guidance by a worse prediction.
public struct Perturbations: Sendable {
  public enum Kind: Sendable, Equatable {
    /// Self-attention of a modality is replaced by its value projection.
    case selfAttention(Modality)
    /// Cross-modal attention to a modality, which updates the other one, is skipped.
    case crossAttention(from: Modality)
  }

  private struct Entry: Sendable {
    let kind: Kind
    let blocks: Set<Int>?
    let rows: [Bool]?
  }

  private var entries: [Entry] = []
  /// The factors of `Attention.Bypass.samples` by the samples that are bypassed, on the device.
  private var factors: [[Bool]: Tensor] = [:]

  public init() {}

  public static let none = Perturbations()

  /// - Parameters:
  ///   - blocks: the blocks that are perturbed; nil for all.
  ///   - rows: one flag per sample of the batch; nil for all samples.
  public mutating func add(_ kind: Kind, blocks: Set<Int>? = nil, rows: [Bool]? = nil) {
    entries.append(Entry(kind: kind, blocks: blocks, rows: rows))
  }

  /// Returns the same perturbations with their factors on the device of a batch. Otherwise each
  /// block would upload its own.
  ///
  /// - Parameters:
  ///   - x: a tensor of the batch, [B, ...].
  ///   - blocks: the number of blocks.
  func placed(like x: Tensor, blocks: Int) throws -> Perturbations {
    var copy = self
    for entry in entries {
      for block in 0..<blocks {
        let rows = bypassed(entry.kind, block: block, batch: x.size(0))
        guard rows.contains(true), rows.contains(false), copy.factors[rows] == nil else { continue }
        copy.factors[rows] = try Self.factor(rows).uploaded(to: x.device)
      }
    }
    return copy
  }

  /// The bypass of one kind of attention in one block.
  func bypass(_ kind: Kind, block: Int, like x: Tensor) throws -> Attention.Bypass {
    let rows = bypassed(kind, block: block, batch: x.size(0))
    if !rows.contains(true) { return .none }
    if !rows.contains(false) { return .all }
    return .samples(keep: try (factors[rows] ?? Self.factor(rows)).to(x.device, x.dtype))
  }

  private func bypassed(_ kind: Kind, block: Int, batch: Int) -> [Bool] {
    var rows = [Bool](repeating: false, count: batch)
    for entry in entries where entry.kind == kind && entry.blocks?.contains(block) ?? true {
      for row in 0..<batch where entry.rows?[row] ?? true { rows[row] = true }
    }
    return rows
  }

  private static func factor(_ rows: [Bool]) throws -> Tensor {
    try Tensor(rows.map { $0 ? Float(0) : 1 }, shape: [rows.count, 1, 1])
  }
}
