import NN
import Support
import Torch

/// The optimizers, by their names in a configuration.
public enum OptimizerKind: String, Sendable, CaseIterable {
  case adamw, adamw8bit, prodigy, lion, adafactor, muon
}

/// An optimizer and its options, with the names and defaults of its best-known implementation:
/// PyTorch (AdamW, Muon), bitsandbytes (AdamW8bit), prodigyopt, lion-pytorch, transformers
/// (Adafactor).
public enum OptimizerOptions: Sendable, Equatable {
  case adamw(AdamW.Options)
  case adamw8bit(AdamW8bit.Options)
  case prodigy(Prodigy.Options)
  case lion(Lion.Options)
  case adafactor(Adafactor.Options)
  case muon(Muon.Options)

  /// - Parameter params: The options by name; missing ones have their defaults.
  /// - Throws: `Issues` that name each unknown option and each invalid value, with the allowed
  ///   ones.
  public init(_ kind: OptimizerKind, params: [String: JSON] = [:]) throws(Issues) {
    var reader = OptionReader(params, of: kind.rawValue)
    switch kind {
    case .adamw: self = .adamw(AdamW.Options(&reader))
    case .adamw8bit: self = .adamw8bit(AdamW8bit.Options(&reader))
    case .prodigy: self = .prodigy(Prodigy.Options(&reader))
    case .lion: self = .lion(Lion.Options(&reader))
    case .adafactor: self = .adafactor(Adafactor.Options(&reader))
    case .muon: self = .muon(Muon.Options(&reader))
    }
    try reader.finish()
  }

  public var kind: OptimizerKind {
    switch self {
    case .adamw: .adamw
    case .adamw8bit: .adamw8bit
    case .prodigy: .prodigy
    case .lion: .lion
    case .adafactor: .adafactor
    case .muon: .muon
    }
  }

  /// - Throws: `Issues` for learning rates that the optimizer can't use; `TorchError`.
  public func optimizer(_ groups: [ParameterGroup]) throws -> any Optimizer {
    switch self {
    case .adamw(let options): try AdamW(groups, options: options)
    case .adamw8bit(let options): try AdamW8bit(groups, options: options)
    case .prodigy(let options): try Prodigy(groups, options: options)
    case .lion(let options): try Lion(groups, options: options)
    case .adafactor(let options): try Adafactor(groups, options: options)
    case .muon(let options): try Muon(groups, options: options)
    }
  }

  /// Returns the bytes that a step needs besides the state, for a memory plan: 8-bit AdamW
  /// dequantizes the moments of the largest tensors.
  public func updateBytes(shapes: [[Int]]) -> Int {
    guard case .adamw8bit = self else { return 0 }
    return 16 * (shapes.map { $0.reduce(1, *) }.max() ?? 0)
  }

  /// Returns the bytes of the optimizer's state for a parameter, for a memory plan. Counters of a
  /// few bytes are not included.
  ///
  /// - Parameter dtype: The dtype of the parameter.
  public func stateBytes(shape: [Int], dtype: DType = .float32) -> Int {
    let count = shape.reduce(1, *)
    switch self {
    case .adamw: return 2 * count * dtype.size
    case .adamw8bit(let options):
      return options.isQuantized(count)
        ? 2 * (count + AdamW8bit.blockCount(count) * DType.float32.size)
        : 2 * count * DType.float32.size
    case .prodigy(let options):
      let sliced = (count + options.slice - 1) / options.slice
      return ((options.beta1 > 0 ? 2 : 1) * count + 2 * sliced) * dtype.size
    case .lion: return count * dtype.size
    case .adafactor(let options):
      let moment = options.beta1 == nil ? 0 : count
      guard let columns = shape.last, let rows = shape.dropLast().last, columns * rows > 0 else {
        return (moment + count) * DType.float32.size
      }
      return (moment + count / columns + count / rows) * DType.float32.size
    case .muon: return (shape.count == 2 ? 1 : 2) * count * dtype.size
    }
  }
}
