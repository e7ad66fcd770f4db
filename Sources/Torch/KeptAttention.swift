// B batch, H heads, T query tokens, S key tokens, D head width.

import CTorch

/// The results of attentions, kept from a pass without a graph until the same computation is
/// repeated with one. The repetition then differentiates them without computing them again.
///
/// The gradients are those of `scaledDotProductAttention`, bit for bit. Used by one thread at a time.
public final class KeptAttention: @unchecked Sendable {
  private enum Use {
    case keeping
    case reusing
  }

  private struct Scope: Sendable {
    let kept: KeptAttention
    let use: Use
  }

  @TaskLocal private static var scope: Scope?

  /// In the order of the calls; nil for attentions without a fused kernel, which are computed again.
  private var items: [OpaquePointer?] = []
  private var reused = 0

  public init() {}

  deinit {
    for case let item? in items { ct_kept_attention_free(item) }
  }

  /// Runs a closure, and keeps the results of its calls of `attention`.
  public func keep<R>(_ body: () throws -> R) rethrows -> R {
    try Self.$scope.withValue(Scope(kept: self, use: .keeping), operation: body)
  }

  /// Runs the closure that `keep` ran again, with the kept results.
  public func reuse<R>(_ body: () throws -> R) rethrows -> R {
    reused = 0
    return try Self.$scope.withValue(Scope(kept: self, use: .reusing), operation: body)
  }

  /// Scaled dot-product attention without a mask. Its result is kept in a closure of `keep`.
  ///
  /// - Parameters:
  ///   - query: [B, H, T, D]
  ///   - key: [B, H, S, D]
  ///   - value: [B, H, S, D]
  /// - Returns: [B, H, T, D]
  public static func attention(_ query: Tensor, _ key: Tensor, _ value: Tensor) throws -> Tensor {
    guard let scope else { return try Tensor.scaledDotProductAttention(query, key, value) }
    return switch scope.use {
    case .keeping: try scope.kept.keep(query, key, value)
    case .reusing: try scope.kept.next(query, key, value)
    }
  }

  private func keep(_ query: Tensor, _ key: Tensor, _ value: Tensor) throws -> Tensor {
    var item: OpaquePointer?
    let result = try produce {
      ct_attention_keep(query.handle, key.handle, value.handle, $0, &item)
    }
    items.append(item)
    return result
  }

  private func next(_ query: Tensor, _ key: Tensor, _ value: Tensor) throws -> Tensor {
    precondition(reused < items.count, "the repeated computation has more attentions")
    defer { reused += 1 }
    guard let item = items[reused] else {
      return try Tensor.scaledDotProductAttention(query, key, value)
    }
    return try produce {
      ct_attention_reuse(item, query.handle, key.handle, value.handle, $0)
    }
  }
}
