// T tokens, H heads, E width of a head.

import Torch

/// A division of a sequence into spans, each of which attends only to itself.
///
/// Neighboring spans of one length are computed together, as a batch.
struct AttentionSpans: Sendable {
  private struct Run: Sendable {
    let length: Int
    var count: Int
  }

  private var runs: [Run] = []

  /// - Parameter lengths: The lengths of the spans, in order; empty spans are ignored.
  init(_ lengths: [Int]) {
    for length in lengths where length > 0 {
      if let last = runs.last, last.length == length {
        runs[runs.count - 1].count += 1
      } else {
        runs.append(Run(length: length, count: 1))
      }
    }
  }

  /// - Parameters: q, k, v: [T, H, E]
  /// - Returns: [T, H * E]
  func attend(_ q: Tensor, _ k: Tensor, _ v: Tensor) throws -> Tensor {
    var start = 0
    var parts: [Tensor] = []
    for run in runs {
      func spans(_ x: Tensor) throws -> Tensor {
        try x.narrow(0, start, run.count * run.length).unflatten(0, [run.count, run.length])
          .transpose(1, 2)
      }
      let out = try Tensor.scaledDotProductAttention(spans(q), spans(k), spans(v))
      parts.append(
        try out.transpose(1, 2).flatten(from: 2, through: 3).flatten(from: 0, through: 1))
      start += run.count * run.length
    }
    return parts.count == 1 ? parts[0] : try Tensor.cat(parts)
  }
}
