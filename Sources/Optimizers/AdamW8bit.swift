import Torch

/// AdamW with moments of 8 bits per element (Dettmers et al., "8-bit Optimizers via Block-wise
/// Quantization", 2022), equal to bitsandbytes' `AdamW8bit`: dynamic maps, blocks of 256, float32
/// for small parameters.
///
/// On the CPU, a step is one kernel with the results of bitsandbytes on the CPU. On a GPU,
/// libtorch's operations do the same.
public final class AdamW8bit: Optimizer {
  public struct Options: Sendable, Equatable {
    public var beta1 = 0.9
    public var beta2 = 0.999
    public var eps = 1e-8
    public var weightDecay = 0.01
    /// The minimum number of elements for 8-bit moments: `min_8bit_size`. Smaller parameters have
    /// float32 moments.
    public var smallestQuantized = 4096

    public init() {}

    init(_ reader: inout OptionReader) {
      reader.betas("betas", &beta1, &beta2)
      reader.nonNegative("eps", &eps)
      reader.nonNegative("weight_decay", &weightDecay)
      reader.integer("min_8bit_size", &smallestQuantized, in: 0 ... .max)
    }

    func isQuantized(_ count: Int) -> Bool { count >= smallestQuantized && count > 0 }
  }

  private static let blockSize = 256
  static func blockCount(_ count: Int) -> Int { (count + blockSize - 1) / blockSize }

  public let groups: [ParameterGroup]
  private let options: Options
  private var states: [[State]]

  /// The state of one parameter, under bitsandbytes' names.
  private struct State: CountedState {
    enum Moments {
      case quantized(Tensor.BlockwiseMoment, Tensor.BlockwiseMoment)
      case plain(Tensor, Tensor)
    }

    let key: String
    let moments: Moments
    var step = 0

    var tensors: [(key: String, tensor: Tensor)] {
      switch moments {
      case .quantized(let first, let second):
        [
          ("\(key).state1", first.codes), ("\(key).absmax1", first.largest),
          ("\(key).state2", second.codes), ("\(key).absmax2", second.largest),
        ]
      case .plain(let first, let second): [("\(key).state1", first), ("\(key).state2", second)]
      }
    }
  }

  public init(_ groups: [ParameterGroup], options: Options = Options()) throws {
    self.groups = groups
    self.options = options
    var maps: [Device: (first: DynamicMap, second: DynamicMap)] = [:]
    states = try groups.map { group in
      try group.parameters.map { parameter in
        let tensor = parameter.tensor
        let device = tensor.device
        guard options.isQuantized(tensor.count) else {
          return State(
            key: parameter.key,
            moments: .plain(
              try .zeros(tensor.shape, device: device), try .zeros(tensor.shape, device: device)))
        }
        let (first, second) =
          try maps[device] ?? (
            DynamicMap(isSigned: true, device: device), DynamicMap(isSigned: false, device: device)
          )
        maps[device] = (first, second)
        func moment(_ map: DynamicMap) throws -> Tensor.BlockwiseMoment {
          Tensor.BlockwiseMoment(
            codes: try .zeros(tensor.shape, dtype: .uint8, device: device),
            largest: try .zeros([Self.blockCount(tensor.count)], device: device), map: map.map,
            table: map.table)
        }
        return State(key: parameter.key, moments: .quantized(try moment(first), try moment(second)))
      }
    }
  }

  public func step(_ gradients: [String: Tensor], learningRates: [Double]) throws {
    try withoutGrad {
      for (index, (group, learningRate)) in zip(groups, learningRates).enumerated() {
        for (position, parameter) in group.parameters.enumerated() {
          guard let gradient = gradients[parameter.key] else { continue }
          states[index][position].step += 1
          try update(
            parameter.tensor, gradient, states[index][position], learningRate: learningRate)
        }
      }
    }
  }

  private func update(_ tensor: Tensor, _ gradient: Tensor, _ state: State, learningRate: Double)
    throws
  {
    switch state.moments {
    case .quantized(let first, let second):
      try tensor.takeAdamW8bitStep(
        gradient: gradient, firstMoment: first, secondMoment: second, number: state.step,
        learningRate: learningRate, beta1: options.beta1, beta2: options.beta2, eps: options.eps,
        weightDecay: options.weightDecay)
    case .plain(let first, let second):
      let exact = try tensor.to(.float32)
      try Tensor.fusedAdamW_(
        parameters: [exact], gradients: [gradient.to(.float32)], firstMoments: [first],
        secondMoments: [second], maxSecondMoments: [],
        steps: [.scalar(Double(state.step), device: tensor.device)], lr: learningRate,
        beta1: options.beta1,
        beta2: options.beta2, weightDecay: options.weightDecay, eps: options.eps, amsgrad: false,
        maximize: false)
      if tensor.dtype != .float32 { try tensor.copy_(exact) }
    }
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
