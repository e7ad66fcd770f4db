import Foundation
import NN
import Support
import Torch

/// Parameters that share a learning rate.
public struct ParameterGroup: Sendable {
  public let parameters: [Parameter]
  /// The learning rate before a schedule changes it.
  public let learningRate: Double

  public init(_ parameters: [Parameter], learningRate: Double) {
    self.parameters = parameters
    self.learningRate = learningRate
  }

  /// Groups parameters by the modules that they belong to.
  ///
  /// A pattern is one or more names, joined by dots, and matches if these names appear
  /// consecutively in a parameter's key: `attn2`, `attn1.to_q`, `transformer_blocks.0`. Within a
  /// name, `*`, `?` and `[…]` match characters as in a shell: `audio_*`. The first pattern that
  /// matches is used.
  ///
  /// - Parameters:
  ///   - learningRate: The rate of parameters that no pattern matches.
  ///   - rates: Learning rates by pattern.
  /// - Returns: The group of the unmatched parameters, if there are any, and one for each pattern.
  /// - Throws: `Issues` that name each pattern that is not the first match of any parameter.
  public static func groups(
    of parameters: [Parameter], learningRate: Double,
    rates: [(pattern: String, learningRate: Double)] = []
  ) throws(Issues) -> [ParameterGroup] {
    var matched = [[Parameter]](repeating: [], count: rates.count)
    var others: [Parameter] = []
    for parameter in parameters {
      if let index = rates.firstIndex(where: { matches(parameter.key, $0.pattern) }) {
        matched[index].append(parameter)
      } else {
        others.append(parameter)
      }
    }
    let problems = zip(rates, matched).filter { $1.isEmpty }.map { rate, _ in
      Issue(
        [.name(rate.pattern)],
        "matches no trained parameter that an earlier pattern has left; there are parameters like "
          + parameters.prefix(3).map(\.key).joined(separator: ", "))
    }
    if !problems.isEmpty { throw Issues(problems) }
    return (others.isEmpty ? [] : [ParameterGroup(others, learningRate: learningRate)])
      + zip(rates, matched).map { ParameterGroup($1, learningRate: $0.learningRate) }
  }

  /// Splits the parameters that have a gradient into chunks.
  func withGradients(_ gradients: [String: Tensor]) -> [Batch] {
    let indices = parameters.indices.filter { gradients[parameters[$0].key] != nil }
    return indices.inParts { parameters[$0].tensor.count }.map { indices in
      Batch(
        indices: indices, tensors: indices.map { parameters[$0].tensor },
        gradients: indices.compactMap { gradients[parameters[$0].key] })
    }
  }

  /// The parameters of a group that a step updates.
  struct Batch {
    /// The index in the group.
    let indices: [Int]
    let tensors: [Tensor]
    let gradients: [Tensor]
  }

  private static func matches(_ key: String, _ pattern: String) -> Bool {
    let names = key.split(separator: ".")
    let wanted = pattern.split(separator: ".")
    guard !wanted.isEmpty, wanted.count <= names.count else { return false }
    return (0...names.count - wanted.count).contains { start in
      zip(names[start...], wanted).allSatisfy { fnmatch(String($1), String($0), 0) == 0 }
    }
  }
}

extension Collection {
  /// Splits tensors into chunks, large enough to keep a device busy but small enough that
  /// intermediate results are small compared to a model.
  ///
  /// - Parameters:
  ///   - limit: The number of elements at which a chunk is full; one more tensor may exceed it.
  ///   - size: Returns the number of elements of an item.
  func inParts(limit: Int = 1 << 26, size: (Element) -> Int) -> [[Element]] {
    var parts: [[Element]] = []
    var total = limit
    for item in self {
      if total >= limit {
        parts.append([])
        total = 0
      }
      parts[parts.count - 1].append(item)
      total += size(item)
    }
    return parts
  }
}
