import NN
import Support
import Torch

/// Updates parameters from their gradients.
///
/// Gradients are passed by parameter key; a parameter without one is unchanged, and so is its
/// state. A run depends only on the parameters, the state and the gradients: after `restore` with
/// the tensors of `state`, training continues bit for bit.
public protocol Optimizer: AnyObject {
  /// The groups, in the order of the learning rates of `step`.
  var groups: [ParameterGroup] { get }

  /// Updates the parameters.
  ///
  /// - Parameters:
  ///   - gradients: by the parameters' keys, with their shapes.
  ///   - learningRates: one for each group.
  func step(_ gradients: [String: Tensor], learningRates: [Double]) throws

  /// The state to resume from, besides the parameters, under keys that begin with the parameters'
  /// keys. The tensors belong to the optimizer: a later step changes them.
  var state: [(key: String, tensor: Tensor)] { get throws }

  /// The tensors that hold the memory of `state`, whose own tensors may be views of them.
  var stateMemory: [Tensor] { get throws }

  /// Restores a stored state.
  ///
  /// - Parameter load: Returns a tensor of the state by its key.
  /// - Throws: `Issue` for a tensor that doesn't match this optimizer's shape or dtype, and the
  ///   errors of `load`.
  func restore(_ load: @escaping (String) throws -> Tensor) throws
}

extension Optimizer {
  public var parameters: [Parameter] { groups.flatMap(\.parameters) }

  public var stateMemory: [Tensor] { get throws { try state.map(\.tensor) } }

  /// The bytes of the state's tensors.
  public var stateBytes: Int {
    get throws { try state.reduce(0) { $0 + $1.tensor.byteCount } }
  }

  /// Updates the parameters, all at one learning rate.
  public func step(_ gradients: [String: Tensor], learningRate: Double) throws {
    try step(gradients, learningRates: groups.map { _ in learningRate })
  }

  /// Updates the parameters at each group's learning rate under a schedule.
  ///
  /// - Parameter number: the number of the step, from 0.
  public func step(_ gradients: [String: Tensor], schedule: LearningRateSchedule, at number: Int)
    throws
  {
    try step(
      gradients,
      learningRates: groups.map { schedule.learningRate(base: $0.learningRate, at: number) })
  }

  /// Runs `body` while the state is in host memory, so that validation can use the device's memory.
  /// `body` must not train.
  ///
  /// - Throws: The errors of `body`; `TorchError` if the host lacks memory for the state, or the
  ///   device lacks it afterwards.
  public func withStateOnHost<R>(_ body: () throws -> R) throws -> R {
    let homes = try stateMemory.map { (tensor: $0, device: $0.device) }
    let result = Result {
      for (tensor, _) in homes { try tensor.move(to: .cpu) }
      return try body()
    }
    for (tensor, device) in homes { try tensor.move(to: device) }
    return try result.get()
  }
}
