import Foundation

/// A summary of how far a run has moved its trained weights, and how the validation loss changed.
public struct LearningSummary: Sendable, Equatable {
  /// The kind of trained tensors.
  public enum Subject: String, Sendable, Equatable {
    case adapters
    /// The weights themselves, in full fine-tuning.
    case weights
  }

  /// A group of modules.
  public struct Group: Sendable, Equatable {
    /// `video`, `audio`, `cross` (the attention between both), or `all`.
    public var name: String
    public var modules: Int
    /// Modules that did not move at all.
    public var unmoved: Int
    /// Modules with NaN or infinity.
    public var nonFinite: Int
    /// The norm of the change relative to that of the base weights, over the finite modules: 0.01
    /// is 1 %. Nil if unknown.
    public var change: Double?
    /// Whether the change is too small to matter.
    public var isBarelyMoved: Bool

    /// Whether the change is larger than the base weights themselves: training has diverged.
    public var isTooFar: Bool { change.map { $0 > 1 } ?? false }

    public init(
      name: String, modules: Int, unmoved: Int = 0, nonFinite: Int = 0, change: Double? = nil,
      isBarelyMoved: Bool = false
    ) {
      self.name = name
      self.modules = modules
      self.unmoved = unmoved
      self.nonFinite = nonFinite
      self.change = change
      self.isBarelyMoved = isBarelyMoved
    }
  }

  /// The modules of a group in one transformer block.
  public struct Block: Sendable, Equatable {
    public var group: String
    public var index: Int
    /// Frobenius norms of the change and of the base weights.
    public var norm: Double
    public var baseNorm: Double

    public init(group: String, index: Int, norm: Double, baseNorm: Double) {
      self.group = group
      self.index = index
      self.norm = norm
      self.baseNorm = baseNorm
    }
  }

  public var subject: Subject
  public var total: Group
  /// The modalities that have modules.
  public var groups: [Group]
  /// The blocks, in ascending order within each group.
  public var blocks: [Block]
  /// The paths of modules that did not move, and of those that are not finite.
  public var unmovedModules: [String]
  public var nonFiniteModules: [String]
  /// Whether the run started from trained weights; changes are then measured from those.
  public var continues: Bool
  /// `video` or `audio`, if the model has the modality and the run does not train it.
  public var untrained: [String]
  /// The first and the last validation of the run; nil if none was measured.
  public var before: ValidationRecord?
  public var after: ValidationRecord?

  public init(
    subject: Subject, total: Group, groups: [Group], blocks: [Block] = [],
    unmovedModules: [String] = [],
    nonFiniteModules: [String] = [], continues: Bool = false, untrained: [String] = [],
    before: ValidationRecord? = nil, after: ValidationRecord? = nil
  ) {
    self.subject = subject
    self.total = total
    self.groups = groups
    self.blocks = blocks
    self.unmovedModules = unmovedModules
    self.nonFiniteModules = nonFiniteModules
    self.continues = continues
    self.untrained = untrained
    self.before = before
    self.after = after
  }

  // MARK: In words

  /// `audio adapters barely moved: 0.02 % of the base weights; audio loss fell from 1.2100 to
  /// 1.2000`
  public var sentence: String {
    var clauses: [String] = []
    if total.nonFinite > 0 {
      clauses.append(
        "\(total.nonFinite) of \(total.modules) \(subject.rawValue) are not finite, so the result can't be used"
      )
    }
    if total.unmoved == total.modules {
      clauses.append("none of the \(total.modules) \(subject.rawValue) moved")
    }
    for name in ["video", "audio", "cross"] {
      if let group = groups.first(where: { $0.name == name }), total.unmoved < total.modules,
        name != "cross" || group.isBarelyMoved
      {
        clauses.append(words(group))
      }
      if let loss = loss(name) { clauses.append(loss) }
      if untrained.contains(name) { clauses.append("\(name) was not trained") }
    }
    if before == nil { clauses.append("no validation loss was measured") }
    return clauses.joined(separator: "; ")
  }

  /// Whether the user should check the run: something did not move or is not finite, or the
  /// validation loss did not fall.
  public var isSuspicious: Bool {
    total.nonFinite > 0 || total.unmoved > 0 || groups.contains { $0.isBarelyMoved || $0.isTooFar }
      || (before.map { before in after.map { !($0.loss < before.loss) } ?? false } ?? false)
  }

  /// The sentence and its details, for a terminal.
  public var lines: [String] {
    var lines = ["learned: \(sentence)"]
    for group in groups {
      let finite = group.nonFinite == 0 ? "all finite" : "\(group.nonFinite) not finite"
      lines.append(
        "  \(group.name): \(group.modules) \(subject.rawValue), \(finite), \(group.unmoved) unmoved"
          + (group.change.map {
            ", \(percentText($0)) of the base weights\(continues ? " since the start" : "")"
          }
            ?? ""))
      let depth = depth(of: group.name)
      if depth.count > 1, group.unmoved < group.modules {
        lines.append(
          "    by depth: "
            + depth.map { "\($0.name): \(percentText($0.change))" }.joined(separator: ", "))
      }
    }
    for (what, modules) in [("not finite", nonFiniteModules), ("unmoved", unmovedModules)]
    where !modules.isEmpty && modules.count < total.modules {
      let more = modules.count > 3 ? " and \(modules.count - 3) more" : ""
      lines.append("  \(what): \(modules.prefix(3).joined(separator: ", "))\(more)")
    }
    if before == nil {
      lines.append(
        "  Set `heldOut` to measure the loss on samples that are not trained on.")
    }
    return lines
  }

  /// The values for trackers at the end of the run.
  public var scalars: [(name: String, value: Double)] {
    groups.compactMap { group in
      group.change.flatMap { $0.isFinite ? ("stats/change_\(group.name)", $0) : nil }
    }
  }

  private func words(_ group: Group) -> String {
    let name = group.name == "cross" ? "cross-modal" : group.name
    if group.unmoved == group.modules { return "\(name) \(subject.rawValue) did not move" }
    let verb = group.isBarelyMoved ? "barely moved" : group.isTooFar ? "moved too far" : "moved"
    let change = group.change.map { ": \(percentText($0)) of the base weights" } ?? ""
    let still = group.unmoved == 0 ? "" : " (\(group.unmoved) of \(group.modules) did not move)"
    return "\(name) \(subject.rawValue) \(verb)\(change)\(still)"
  }

  /// The change of a modality's validation loss; nil if it was not measured twice.
  private func loss(_ name: String) -> String? {
    let key: KeyPath<ValidationRecord, Double?> = name == "video" ? \.videoLoss : \.audioLoss
    guard name != "cross", let before, let after, after.step > before.step,
      let first = before[keyPath: key], let last = after[keyPath: key]
    else { return nil }
    guard last.isFinite else { return "\(name) loss is not finite after training" }
    let (from, to) = (measured(first), measured(last))
    if from == to { return "\(name) loss stayed at \(to)" }
    return "\(name) loss \(last < first ? "fell" : "rose") from \(from) to \(to)"
  }

  /// Returns the change of a group in up to four ranges of blocks.
  func depth(of group: String) -> [(name: String, change: Double)] {
    let own = blocks.filter { $0.group == group }
    let parts = min(4, own.count)
    return (0..<parts).map { part in
      let some = own[(part * own.count / parts)..<((part + 1) * own.count / parts)]
      func root(_ value: (Block) -> Double) -> Double {
        some.reduce(0) { $0 + value($1) * value($1) }.squareRoot()
      }
      let (first, last) = (some.first?.index ?? 0, some.last?.index ?? 0)
      let base = root(\.baseNorm)
      return (
        first == last ? "block \(first)" : "blocks \(first)-\(last)",
        base > 0 ? root(\.norm) / base : 0
      )
    }
  }
}

/// A share of the base weights: 12 %, 1.2 %, 0.02 %, 3.1e-07 %, 1.6e+60 %.
func percentText(_ share: Double) -> String {
  guard share.isFinite else { return "an unknown share" }
  let percent = share * 100
  if percent == 0 { return "0 %" }
  if percent < 0.001 || percent >= 1e5 { return String(format: "%.1e %%", percent) }
  return percent < 9.95 ? String(format: "%.2g %%", percent) : String(format: "%.0f %%", percent)
}
