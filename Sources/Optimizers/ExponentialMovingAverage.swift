import NN
import Support
import Torch

/// The exponential moving average of trained parameters, in float32, which validation and saving
/// can use instead of the values of the last step (Polyak and Juditsky, "Acceleration of Stochastic
/// Approximation by Averaging", 1992).
///
/// Update n, from 0, keeps min(decay, (1 + n) / (10 + n)) of the average and takes the rest from
/// the parameters, so that the first values are soon forgotten.
public final class ExponentialMovingAverage {
  public let parameters: [Parameter]
  public let decay: Double
  /// The number of updates so far.
  public private(set) var updates = 0
  private let averages: [Tensor]

  /// - Parameter decay: from 0 to below 1, such as 0.999.
  public init(decay: Double, _ parameters: [Parameter]) throws {
    guard decay >= 0, decay < 1 else {
      throw Issues([
        Issue([.name("decay")], "is \(decay); it must be from 0 to below 1")
      ])
    }
    self.decay = decay
    self.parameters = parameters
    averages = try withoutGrad {
      try parameters.map { try $0.tensor.detach().to(.float32).clone() }
    }
  }

  /// Updates the average with the parameters after a step.
  public func update() throws {
    let kept = min(decay, Double(1 + updates) / Double(10 + updates))
    try withoutGrad {
      for part in parameters.indices.inParts(size: { parameters[$0].tensor.count }) {
        try Tensor.lerp_(
          part.map { averages[$0] }, to: part.map { try parameters[$0].tensor.to(.float32) },
          Scalar(1 - kept)
        )
      }
    }
    updates += 1
  }

  /// Runs `body` with the averages in place of the parameters. Afterwards the parameters have their
  /// previous bits, even if `body` throws. `body` must not train.
  public func withAverages<R>(_ body: () throws -> R) throws -> R {
    let tensors = parameters.map(\.tensor)
    let trained = try withoutGrad { try tensors.map { try $0.detach().clone() } }
    func fill(from values: [Tensor]) throws {
      try withoutGrad {
        for (tensor, value) in zip(tensors, values) { try tensor.copy_(value) }
      }
    }
    let result: Result<R, any Error>
    do {
      try fill(from: averages)
      result = .success(try body())
    } catch {
      result = .failure(error)
    }
    try fill(from: trained)
    return try result.get()
  }

  /// The averages under the parameters' own keys, for saving. A later update changes them.
  public var averaged: [Parameter] {
    zip(parameters, averages).map { Parameter(key: $0.key, tensor: $1, shard: $0.shard) }
  }

  private static let countKey = "ema.updates"

  /// The state to resume from, under keys that begin with the parameters' own.
  public var state: [(key: String, tensor: Tensor)] {
    get throws {
      try zip(parameters, averages).map { (Self.key($0), $1) }
        + [(Self.countKey, Tensor([updates], shape: []))]
    }
  }

  /// Restores a stored state.
  ///
  /// - Parameter load: Returns a tensor of the state by its key.
  /// - Throws: `Issue` for a tensor of another shape or dtype, and the errors of `load`.
  public func restore(_ load: @escaping (String) throws -> Tensor) throws {
    let stored = StoredState(load)
    try stored.fill(zip(parameters, averages).map { (Self.key($0), $1) })
    updates = try stored.count(Self.countKey)
  }

  private static func key(_ parameter: Parameter) -> String { "\(parameter.key).ema" }
}
