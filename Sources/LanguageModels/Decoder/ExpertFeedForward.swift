// N prompts, T new tokens, R = N * T rows, D width, P experts per token.

import NN
import Torch

/// A mixture of experts: a router chooses a few feed-forward networks for each token, whose outputs
/// are added with the router's weights (Shazeer et al., "Outrageously Large Neural Networks", 2017).
struct ExpertFeedForward: Sendable {
  /// The place of the experts' matrices.
  private enum Storage: Sendable {
    /// Only experts in use are read.
    case cached([DeferredExpert], ExpertCache)
    /// All experts are on the device.
    case resident(StackedExperts)
  }

  /// [E, D] in float32: a choice that is close must not depend on the rounding of logits.
  private let router: WeightSlot
  private let storage: Storage
  private let sizes: DecoderConfiguration.Experts
  private let layer: Int

  /// - Parameter cache: The experts in memory. Without a limit, a GPU holds all experts from the start.
  init(
    _ w: Weights, width: Int, _ sizes: DecoderConfiguration.Experts, layer: Int, cache: ExpertCache
  ) throws {
    router = try (w / "gate").slot("weight", shape: [sizes.count, width]) { try $0.to(.float32) }
    let experts = try (0..<sizes.count).map {
      try DeferredExpert(w / "experts" / $0, width: width, inner: sizes.width)
    }
    // On the CPU, experts are views of the file, and the host knows the router's choice anyway.
    let isResident = cache.limit == nil && w.device != .cpu
    if isResident, let stacked = try StackedExperts(experts) {
      storage = .resident(stacked)
    } else {
      storage = .cached(experts, cache)
    }
    self.sizes = sizes
    self.layer = layer
  }

  /// The max number of pairs of a row and an expert for which matrices are copied, instead of asking
  /// for the router's choice.
  private static let fewPairs = 32

  /// - Parameter x: [N, T, D]
  /// - Returns: [N, T, D]
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let rows = try x.flatten(from: 0, through: 1)
    let (weights, choices) = try route(rows)
    if case .resident(let experts) = storage, choices.count <= Self.fewPairs {
      let inputs = try rows.repeatInterleave(sizes.perToken, 0)
      let outputs = try experts(inputs, choices: choices.flatten())
      return try combined(outputs, weights).reshape(x.shape)
    }
    let assignment = ExpertAssignment(try choices.array(), perToken: sizes.perToken)
    if case .cached(let experts, let cache) = storage {
      for (expert, _) in assignment.groups where !cache.contains(name(expert)) {
        experts[expert].prepareToLoad()
      }
    }
    let inputs = try rows.indexSelect(0, Tensor(assignment.rows).uploaded(to: x.device))
    let outputs = try assignment.groups.map { index, range in
      try expert(index)(inputs.narrow(0, range.lowerBound, range.count))
    }
    let places = try Tensor(assignment.places).uploaded(to: x.device)
    return try combined(Tensor.cat(outputs, 0).indexSelect(0, places), weights).reshape(x.shape)
  }

  /// Adds the outputs of each row's experts.
  ///
  /// - Parameters:
  ///   - outputs: [R * P, D]
  ///   - weights: [R, P]
  /// - Returns: [R, 1, D]
  private func combined(_ outputs: Tensor, _ weights: Tensor) throws -> Tensor {
    try weights.unsqueeze(1).matmul(outputs.unflatten(0, [-1, sizes.perToken]))
  }

  /// The weights of the chosen experts and their indices, [R, P] each.
  private func route(_ rows: Tensor) throws -> (weights: Tensor, choices: Tensor) {
    let (sorted, order) = try rows.to(.float32).linear(router.tensor).softmax(-1)
      .sort(stable: nil, -1, descending: true)
    var weights = try sorted.narrow(1, 0, sizes.perToken)
    if sizes.isNormalized { weights = try weights / weights.sum([-1], keepdim: true) }
    return (try weights.to(rows.dtype), try order.narrow(1, 0, sizes.perToken))
  }

  private func expert(_ index: Int) throws -> Expert {
    switch storage {
    case .cached(let experts, let cache): try cache.expert(name(index), from: experts[index])
    case .resident(let experts): try experts.expert(index)
    }
  }

  private func name(_ expert: Int) -> ExpertCache.Name { .init(layer: layer, expert: expert) }
}

/// All experts of a layer on the device.
struct StackedExperts: Sendable {
  private let gate: StackedWeight
  private let up: StackedWeight
  private let down: StackedWeight

  /// - Returns: Nil if the matrices are in a format that can't be stacked.
  init?(_ experts: [DeferredExpert]) throws {
    guard let gate = try StackedWeight(experts.map(\.gate)),
      let up = try StackedWeight(experts.map(\.up)),
      let down = try StackedWeight(experts.map(\.down))
    else { return nil }
    (self.gate, self.up, self.down) = (gate, up, down)
  }

  func expert(_ index: Int) throws -> Expert {
    Expert(gate: try gate.weight(index), up: try up.weight(index), down: try down.weight(index))
  }

  /// - Parameters:
  ///   - x: [R * P, D]
  ///   - choices: [R * P], the expert of each row.
  /// - Returns: [R * P, D]
  func callAsFunction(_ x: Tensor, choices: Tensor) throws -> Tensor {
    let gated = try gate.matmul(x, choices: choices)
    try gated.silu_()
    try gated.multiply_(by: up.matmul(x, choices: choices))
    return try down.matmul(gated, choices: choices)
  }
}

/// The pairs of a row and one of its experts, ordered by expert, so that each expert runs once.
struct ExpertAssignment {
  /// The row of each pair.
  private(set) var rows: [Int]
  /// The place of each pair in that order; pairs by row, and for a row in the order of its choices.
  private(set) var places: [Int]
  /// The experts in use, ascending, with the places of their pairs.
  private(set) var groups: [(expert: Int, places: Range<Int>)] = []

  /// - Parameter choices: The experts of all rows, row by row.
  init(_ choices: [Int], perToken: Int) {
    rows = Array(repeating: 0, count: choices.count)
    places = rows
    var starts = Array(repeating: 0, count: (choices.max() ?? -1) + 2)
    for expert in choices { starts[expert + 1] += 1 }
    for expert in starts.indices.dropFirst() {
      if starts[expert] > 0 {
        groups.append((expert - 1, starts[expert - 1]..<starts[expert - 1] + starts[expert]))
      }
      starts[expert] += starts[expert - 1]
    }
    for (pair, expert) in choices.enumerated() {
      places[pair] = starts[expert]
      rows[starts[expert]] = pair / perToken
      starts[expert] += 1
    }
  }
}
