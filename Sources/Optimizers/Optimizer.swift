import NN
import Support
import Torch

/// What turns gradients into changes of parameters.
///
/// Gradients are handed over by the parameters' keys; a parameter without one is left as it is,
/// with its state. Numbers of a run are a function of the parameters, the state and the gradients:
/// what `state` gives, `restore` takes, and training goes on bit for bit.
public protocol Optimizer: AnyObject {
  /// In the order of the learning rates that `step` takes.
  var groups: [ParameterGroup] { get }

  /// Updates the parameters.
  ///
  /// - Parameters:
  ///   - gradients: by the parameters' keys, shaped as they are.
  ///   - learningRates: one a group.
  func step(_ gradients: [String: Tensor], learningRates: [Double]) throws

  /// All that a run needs to go on besides the parameters, under keys that begin with the
  /// parameters' own. The tensors are the optimiser's: a later step changes them.
  var state: [(key: String, tensor: Tensor)] { get throws }

  /// Continues from a stored state.
  ///
  /// - Parameter load: gives a tensor of the state by its key.
  /// - Throws: `Issue` where a tensor is not as this optimiser stores it; what `load`
  ///   throws.
  func restore(_ load: @escaping (String) throws -> Tensor) throws
}

extension Optimizer {
  public var parameters: [Parameter] { groups.flatMap(\.parameters) }

  /// Bytes that the state's tensors take.
  public var stateBytes: Int {
    get throws { try state.reduce(0) { $0 + $1.tensor.byteCount } }
  }

  /// Updates the parameters, all at one learning rate.
  public func step(_ gradients: [String: Tensor], learningRate: Double) throws {
    try step(gradients, learningRates: groups.map { _ in learningRate })
  }

  /// Updates the parameters at each group's learning rate, changed as a schedule says.
  ///
  /// - Parameter number: of the step, from 0.
  public func step(_ gradients: [String: Tensor], schedule: LearningRateSchedule, at number: Int)
    throws
  {
    try step(
      gradients,
      learningRates: groups.map { schedule.learningRate(base: $0.learningRate, at: number) })
  }

  /// Runs `body` while the state lies in the host's memory, to leave the device's to validation.
  /// `body` must not train.
  ///
  /// - Throws: what `body` throws; `TorchError` when the host has no room for the state, or the
  ///   device has none any more.
  public func withStateOnHost<R>(_ body: () throws -> R) throws -> R {
    let homes = try state.map { (tensor: $0.tensor, device: $0.tensor.device) }
    let result = Result {
      for (tensor, _) in homes { try tensor.move(to: .cpu) }
      return try body()
    }
    for (tensor, device) in homes { try tensor.move(to: device) }
    return try result.get()
  }
}
