import Foundation
import NN
import Support
import Torch

/// Adafactor (Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
/// 2018), equal to `Adafactor` in transformers. It stores the row and column means of a matrix's
/// second moment.
///
/// The defaults are those of transformers' `Trainer`: the configured learning rate is used without
/// scaling.
public final class Adafactor: Optimizer {
  public struct Options: Sendable, Equatable {
    /// The first value of `eps`, which is added to squared gradients.
    public var eps = 1e-30
    /// The second value of `eps`, the minimum of a parameter's size.
    public var smallestScale = 1e-3
    /// The limit of the root mean square of a change, before the learning rate.
    public var clipThreshold = 1.0
    /// The exponent of the second moment's decay, 1 - step^decayRate.
    public var decayRate = -0.8
    /// The decay of the first moment; nil for no first moment.
    public var beta1: Double?
    public var weightDecay = 0.0
    /// Whether the learning rate is multiplied by the root mean square of the parameter.
    public var scalesByParameter = false
    /// Whether min(0.01, 1 / sqrt(step)) replaces the learning rate and its schedule.
    public var hasRelativeStep = false
    /// Whether a relative step is limited to 1e-6 * step instead of 0.01.
    public var warmsUp = false

    public init() {}

    init(_ reader: inout OptionReader) {
      var both = [eps, smallestScale]
      reader.numbers("eps", &both, "a number of at least 0") { $0 >= 0 && $0.isFinite }
      (eps, smallestScale) = (both[0], both[1])
      reader.positive("clip_threshold", &clipThreshold)
      reader.number("decay_rate", &decayRate, "a number of at most 0") { $0 <= 0 && $0.isFinite }
      reader.optionalDecay("beta1", &beta1)
      reader.nonNegative("weight_decay", &weightDecay)
      reader.bool("scale_parameter", &scalesByParameter)
      reader.bool("relative_step", &hasRelativeStep)
      reader.bool("warmup_init", &warmsUp)
      if warmsUp, !hasRelativeStep {
        reader.report(
          "warmup_init", "needs relative_step: true; use warmup_steps to warm up to a learning rate"
        )
      }
    }
  }

  public let groups: [ParameterGroup]
  private let options: Options
  private var states: [[State]]

  private struct State: CountedState {
    enum SecondMoment {
      /// The means over the last dimension, and over the one before it.
      case factored(rows: Tensor, columns: Tensor)
      case whole(Tensor)
    }

    let key: String
    let second: SecondMoment
    let first: Tensor?
    var step = 0

    init(_ parameter: Parameter, hasFirstMoment: Bool) throws {
      key = parameter.key
      let shape = parameter.tensor.shape
      let device = parameter.tensor.device
      second =
        shape.count >= 2
        ? .factored(
          rows: try .zeros(shape.dropLast(), device: device),
          columns: try .zeros(shape.dropLast(2) + shape.suffix(1), device: device))
        : .whole(try .zeros(shape, device: device))
      first = hasFirstMoment ? try .zeros(shape, device: device) : nil
    }

    var tensors: [(key: String, tensor: Tensor)] {
      let moments: [(key: String, tensor: Tensor)] =
        switch second {
        case .factored(let rows, let columns):
          [("\(key).exp_avg_sq_row", rows), ("\(key).exp_avg_sq_col", columns)]
        case .whole(let moment): [("\(key).exp_avg_sq", moment)]
        }
      return moments + (first.map { [("\(key).exp_avg", $0)] } ?? [])
    }
  }

  /// - Throws: `Issues` if groups have different learning rates and a relative step would replace
  ///   them.
  public init(_ groups: [ParameterGroup], options: Options = Options()) throws {
    self.groups = groups
    self.options = options
    if options.hasRelativeStep, Set(groups.map(\.learningRate)).count > 1 {
      throw Issues([
        Issue(
          [.name("relative_step")],
          "replaces all learning rates, so modules can't have different ones"
        )
      ])
    }
    states = try groups.map {
      try $0.parameters.map { try State($0, hasFirstMoment: options.beta1 != nil) }
    }
  }

  public func step(_ gradients: [String: Tensor], learningRates: [Double]) throws {
    try withoutGrad {
      for (index, (group, learningRate)) in zip(groups, learningRates).enumerated() {
        for (position, parameter) in group.parameters.enumerated() {
          guard let gradient = gradients[parameter.key] else { continue }
          states[index][position].step += 1
          try update(
            parameter.tensor, gradient.to(.float32), states[index][position],
            learningRate: learningRate)
        }
      }
    }
  }

  private func update(_ tensor: Tensor, _ gradient: Tensor, _ state: State, learningRate: Double)
    throws
  {
    let exact = try tensor.to(.float32)
    let step = Double(state.step)
    var rate: Tensor = try .scalar(
      options.hasRelativeStep
        ? min(options.warmsUp ? 1e-6 * step : 1e-2, 1 / step.squareRoot()) : learningRate,
      device: tensor.device)
    if options.scalesByParameter {
      rate = try rate * Self.rootMeanSquare(exact).clamped(min: Scalar(options.smallestScale))
    }
    let kept = 1 - pow(step, options.decayRate)
    let squares = try gradient.square() + options.eps
    var change: Tensor
    switch state.second {
    case .factored(let rows, let columns):
      try rows.multiply_(by: Scalar(kept))
      try rows.add_(squares.mean([-1]), scale: Scalar(1 - kept))
      try columns.multiply_(by: Scalar(kept))
      try columns.add_(squares.mean([-2]), scale: Scalar(1 - kept))
      let rowFactors = try (rows / rows.mean([-1], keepdim: true)).rsqrt().unsqueeze(-1)
      change = try rowFactors * columns.unsqueeze(-2).rsqrt() * gradient
    case .whole(let moment):
      try moment.multiply_(by: Scalar(kept))
      try moment.add_(squares, scale: Scalar(1 - kept))
      change = try moment.rsqrt() * gradient
    }
    change =
      try change / (Self.rootMeanSquare(change) / options.clipThreshold).clamped(min: 1) * rate
    if let first = state.first, let beta1 = options.beta1 {
      try first.multiply_(by: Scalar(beta1))
      try first.add_(change, scale: Scalar(1 - beta1))
      change = first
    }
    if options.weightDecay != 0 { try exact.multiply_(by: 1 - rate * options.weightDecay) }
    try exact.add_(change, scale: -1)
    if tensor.dtype != .float32 { try tensor.copy_(exact) }
  }

  private static func rootMeanSquare(_ x: Tensor) throws -> Tensor {
    try x.norm() / Double(x.count).squareRoot()
  }

  public var state: [(key: String, tensor: Tensor)] {
    get throws {
      try states.flatMap { try $0.stored }
    }
  }

  public func restore(_ load: @escaping (String) throws -> Tensor) throws {
    let stored = StoredState(load)
    for index in states.indices { try states[index].restore(from: stored) }
  }
}
