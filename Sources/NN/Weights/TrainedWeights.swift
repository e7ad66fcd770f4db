import Foundation
import Torch

/// The tensors of a checkpoint that are trained: weights, biases, norms and tables.
///
/// They are kept in float32, whatever the file's dtype, as leaves that record gradients. All others
/// are loaded according to the policy.
public struct TrainedWeights: Sendable {
  /// The names of the trained tensors; nil for all that a model reads below the scope.
  ///
  /// A pattern is one or more names with dots between them, and matches where they are consecutive
  /// parts of a tensor's key: `attn1`, `to_out.0`, `transformer_blocks.0`, `bias`. In a name, `*`
  /// stands for any characters, `?` for one and `[0-3]` for one of several, but never for a dot:
  /// `transformer_blocks.[0-3].audio_*`.
  public let patterns: [String]?
  public let dtype: DType
  private let scope: String
  private var isExcluded: @Sendable (String) -> Bool = { _ in false }

  /// - Parameter scope: the prefix of the keys, `model.diffusion_model`; no other tensor is
  ///   trained.
  public init(patterns: [String]? = nil, below scope: String, dtype: DType = .float32) {
    self.patterns = patterns
    self.scope = scope
    self.dtype = dtype
  }

  /// The same without some tensors, given by their keys.
  public func excluding(_ isExcluded: @escaping @Sendable (String) -> Bool) -> TrainedWeights {
    var copy = self
    let before = self.isExcluded
    copy.isExcluded = { before($0) || isExcluded($0) }
    return copy
  }

  package func matches(_ key: String) -> Bool {
    guard key.hasPrefix("\(scope)."), !isExcluded(key) else { return false }
    return patterns?.contains { matches(key, pattern: $0) } ?? true
  }

  private func matches(_ key: String, pattern: String) -> Bool {
    let names = key.dropFirst(scope.count + 1).split(separator: ".")
    let wanted = pattern.split(separator: ".", omittingEmptySubsequences: false)
    guard !wanted.isEmpty, wanted.count <= names.count else { return false }
    return (0...(names.count - wanted.count)).contains { start in
      zip(wanted, names[start...]).allSatisfy { fnmatch(String($0), String($1), 0) == 0 }
    }
  }

  /// The patterns that match no tensor that was read, and whether they match an excluded one.
  func unmatched(in keys: Set<String>) -> [(name: String, isExcluded: Bool)] {
    (patterns ?? []).compactMap { pattern in
      let found = keys.filter { $0.hasPrefix("\(scope).") && matches($0, pattern: pattern) }
      return found.allSatisfy(isExcluded) ? (pattern, !found.isEmpty) : nil
    }
  }
}
