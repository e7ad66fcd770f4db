import Foundation
import NN
import Support
import Torch

/// Prodigy (Mishchenko and Defazio, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner",
/// 2024), equal to prodigyopt: Adam that estimates its own step size d. The learning rate
/// multiplies d, and should be 1 with any schedule.
public final class Prodigy: Optimizer {
  public struct Options: Sendable, Equatable {
    public var beta1 = 0.9
    public var beta2 = 0.999
    /// The decay of the sums that d is estimated from; nil for the square root of beta2.
    public var beta3: Double?
    public var eps = 1e-8
    public var weightDecay = 0.0
    /// Whether weights decay as in AdamW; otherwise the decay is part of the gradient.
    public var isDecayDecoupled = true
    public var hasBiasCorrection = false
    /// Whether the estimate's denominator ignores the learning rate, for schedules with a warm-up.
    public var safeguardsWarmup = false
    /// The first estimate, `d0`.
    public var initialEstimate = 1e-6
    /// The factor of estimates, `d_coef`.
    public var coefficient = 1.0
    /// The limit of the estimate's growth in a step.
    public var growthRate = Double.infinity
    /// Estimates use only every `slice_p`-th element.
    public var slice = 1

    public init() {}

    init(_ reader: inout OptionReader) {
      reader.betas("betas", &beta1, &beta2)
      reader.optionalDecay("beta3", &beta3)
      reader.positive("eps", &eps)
      reader.nonNegative("weight_decay", &weightDecay)
      reader.bool("decouple", &isDecayDecoupled)
      reader.bool("use_bias_correction", &hasBiasCorrection)
      reader.bool("safeguard_warmup", &safeguardsWarmup)
      reader.positive("d0", &initialEstimate)
      reader.positive("d_coef", &coefficient)
      reader.number("growth_rate", &growthRate, "a number of at least 1, or .inf") { $0 >= 1 }
      reader.integer("slice_p", &slice, in: 1 ... .max)
    }
  }

  public let groups: [ParameterGroup]
  /// The estimate of the step size, the factor of the learning rate.
  public private(set) var estimate: Double
  private let options: Options
  private var largestEstimate: Double
  private var numerator = 0.0
  private var stepCount = 0
  private var states: [[State]]

  private struct State {
    let parameter: Parameter
    let first: Tensor?
    let second: Tensor
    /// The average of every `slice`-th gradient, weighted by d.
    let sum: Tensor
    /// Every `slice`-th initial value; 0 if all initial values were zero.
    var start: Tensor

    init(_ parameter: Parameter, _ options: Options) throws {
      self.parameter = parameter
      let tensor = parameter.tensor
      first = options.beta1 > 0 ? try .zeros(like: tensor) : nil
      second = try .zeros(like: tensor)
      let sliced = try Prodigy.sliced(tensor, options.slice)
      sum = try .zeros(like: sliced)
      start = try withoutGrad {
        let isZero = try tensor.count == 0 || tensor.abs().amax().item() == 0
        return try isZero ? .zeros([], dtype: tensor.dtype, device: tensor.device) : sliced.clone()
      }
    }
  }

  /// - Throws: `Issues` if groups have different learning rates.
  public init(_ groups: [ParameterGroup], options: Options = Options()) throws {
    self.groups = groups
    self.options = options
    estimate = options.initialEstimate
    largestEstimate = options.initialEstimate
    _ = try Self.commonRate(groups.map(\.learningRate))
    states = try groups.map { try $0.parameters.map { try State($0, options) } }
  }

  /// The one learning rate above 0; 0 if there is none.
  private static func commonRate(_ rates: [Double]) throws(Issues) -> Double {
    let largest = rates.max() ?? 0
    guard let other = rates.first(where: { $0 != largest && $0 != 0 }) else { return largest }
    throw Issues([
      Issue(
        [.name("learning_rate")],
        "is \(largest) and \(other), but Prodigy estimates one step size for everything. "
          + "Give each module the same learning rate, or 0 to leave it unchanged")
    ])
  }

  private static func sliced(_ tensor: Tensor, _ slice: Int) throws -> Tensor {
    let flat = try tensor.detach().flatten()
    return slice == 1 ? flat : try flat.slice(0, step: slice)
  }

  /// Updates the parameters; those of groups with a learning rate of 0 are unchanged.
  ///
  /// - Throws: `Issues` if groups have different learning rates.
  public func step(_ gradients: [String: Tensor], learningRates: [Double]) throws {
    let rate = try Self.commonRate(learningRates)
    let chosen = zip(states, learningRates).filter { $1 > 0 }.flatMap { $0.0 }
      .filter { gradients[$0.parameter.key] != nil }
    guard !chosen.isEmpty else { return }
    let parts = chosen.inParts { $0.second.count }
    try withoutGrad {
      let correction =
        options.hasBiasCorrection
        ? (1 - pow(options.beta2, Double(stepCount + 1))).squareRoot()
          / (1 - pow(options.beta1, Double(stepCount + 1))) : 1
      let scaledRate = estimate * rate * correction
      let sums = try parts.flatMap {
        try average($0, decayed(gradients, of: $0), scaledRate: scaledRate)
      }
      guard try updateEstimate(sums, scaledRate: scaledRate) else { return }
      for part in parts { try move(part, decayed(gradients, of: part), scaledRate: scaledRate) }
      stepCount += 1
    }
  }

  /// Returns the gradients, plus the weight decay that is part of them.
  private func decayed(_ gradients: [String: Tensor], of part: [State]) throws -> [Tensor] {
    try part.compactMap { state in
      guard options.weightDecay != 0, !options.isDecayDecoupled else {
        return gradients[state.parameter.key]
      }
      return try gradients[state.parameter.key]?.adding(
        state.parameter.tensor, scale: Scalar(options.weightDecay))
    }
  }

  /// Adds gradients to the averages.
  ///
  /// - Parameter scaledRate: d times the learning rate.
  /// - Returns: For each parameter, float64 [2]: the dot product of its gradient with its initial
  ///   minus its current value, and the 1-norm of the sum of its gradients.
  private func average(_ part: [State], _ gradients: [Tensor], scaledRate: Double) throws
    -> [Tensor]
  {
    let d = estimate
    let slices = try gradients.map { try Self.sliced($0, options.slice) }
    let ways = try Tensor.subtracting(
      part.map(\.start), part.map { try Self.sliced($0.parameter.tensor, options.slice) })
    let products = try Tensor.multiplied(slices, by: ways).map { try $0.sum() }

    if options.beta1 > 0 {
      let first = part.compactMap(\.first)
      try Tensor.multiply_(first, by: Scalar(options.beta1))
      try Tensor.add_(first, gradients, scale: Scalar(d * (1 - options.beta1)))
    }
    let second = part.map(\.second)
    try Tensor.multiply_(second, by: Scalar(options.beta2))
    try Tensor.addProduct_(second, gradients, gradients, scale: Scalar(d * d * (1 - options.beta2)))

    let sums = part.map(\.sum)
    let weight = d / options.initialEstimate * (options.safeguardsWarmup ? d : scaledRate)
    try Tensor.multiply_(sums, by: Scalar(beta3))
    try Tensor.add_(sums, slices, scale: Scalar(weight))
    return try zip(products, Tensor.norms(sums, ord: 1)).map {
      try Tensor.stack([$0, $1]).to(.float64)
    }
  }

  private var beta3: Double { options.beta3 ?? options.beta2.squareRoot() }

  /// - Parameter sums: The results of `average` for each parameter.
  /// - Returns: False if all gradients have been zero, so that nothing can be estimated.
  private func updateEstimate(_ sums: [Tensor], scaledRate: Double) throws -> Bool {
    // This is the only place that synchronizes with the device.
    let totals: [Double] = try Tensor.stack(sums).sum([0]).array()
    guard totals[1] != 0 else { return false }
    numerator = numerator * beta3 + estimate / options.initialEstimate * scaledRate * totals[0]
    let found = options.coefficient * numerator / totals[1]
    let before = estimate == options.initialEstimate ? max(estimate, found) : estimate
    largestEstimate = max(largestEstimate, found)
    estimate = min(largestEstimate, before * options.growthRate)
    return true
  }

  /// Applies the step to the parameters.
  private func move(_ part: [State], _ gradients: [Tensor], scaledRate: Double) throws {
    let tensors = part.map(\.parameter.tensor)
    let roots = try Tensor.squareRoots(part.map(\.second))
    try Tensor.add_(roots, Scalar(estimate * options.eps))
    if options.weightDecay != 0, options.isDecayDecoupled {
      try Tensor.multiply_(tensors, by: Scalar(1 - options.weightDecay * scaledRate))
    }
    if options.beta1 > 0 {
      try Tensor.addQuotient_(
        tensors, part.compactMap(\.first), over: roots, scale: Scalar(-scaledRate))
    } else {
      try Tensor.addQuotient_(
        tensors, gradients, over: roots, scale: Scalar(-scaledRate * estimate))
    }
  }

  private static let estimateKey = "prodigy.d", largestKey = "prodigy.d_max"
  private static let numeratorKey = "prodigy.d_numerator", countKey = "prodigy.k"

  public var state: [(key: String, tensor: Tensor)] {
    get throws {
      let shared = try [
        (Self.estimateKey, Tensor([estimate], shape: [])),
        (Self.largestKey, Tensor([largestEstimate], shape: [])),
        (Self.numeratorKey, Tensor([numerator], shape: [])),
        (Self.countKey, Tensor([stepCount], shape: [])),
      ]
      return states.joined().flatMap { state in
        Self.moments(state) + [("\(state.parameter.key).p0", state.start)]
      } + shared
    }
  }

  private static func moments(_ state: State) -> [(key: String, tensor: Tensor)] {
    let key = state.parameter.key
    return (state.first.map { [("\(key).exp_avg", $0)] } ?? [])
      + [("\(key).exp_avg_sq", state.second), ("\(key).s", state.sum)]
  }

  public func restore(_ load: @escaping (String) throws -> Tensor) throws {
    let stored = StoredState(load)
    for index in states.indices {
      for position in states[index].indices {
        let state = states[index][position]
        try stored.fill(Self.moments(state))
        // Only the stored run knows whether training began at zeros.
        states[index][position].start = try stored.tensor(
          "\(state.parameter.key).p0", shapes: [state.sum.shape, []]
        ).to(state.sum.device, state.sum.dtype)
      }
    }
    estimate = try stored.number(Self.estimateKey)
    largestEstimate = try stored.number(Self.largestKey)
    numerator = try stored.number(Self.numeratorKey)
    stepCount = try stored.count(Self.countKey)
  }
}
