import NN
import Torch

/// AdamW with moments of 8 bits per element (Dettmers et al., "8-bit Optimizers via Block-wise
/// Quantization", 2022), equal to bitsandbytes' `AdamW8bit`: dynamic maps, blocks of 256, float32
/// for small parameters.
///
/// On the CPU, a step is one kernel with the results of bitsandbytes on the CPU. On a GPU,
/// libtorch's operations do the same, for many parameters at once: the moments of all parameters are
/// one tensor each, in which every parameter begins a new block.
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

  fileprivate static let blockSize = 256
  static func blockCount(_ count: Int) -> Int { (count + blockSize - 1) / blockSize }

  public let groups: [ParameterGroup]
  private let options: Options
  private var states: [[State]]
  /// The 8-bit moments by device.
  private let moments: [Device: Moments]

  /// The 8-bit moments of all parameters on a device, one after another.
  private struct Moments {
    let first: Tensor.BlockwiseMoment
    let second: Tensor.BlockwiseMoment

    init(blocks: Int, device: Device) throws {
      func moment(isSigned: Bool) throws -> Tensor.BlockwiseMoment {
        let map = try DynamicMap(isSigned: isSigned, device: device)
        return Tensor.BlockwiseMoment(
          codes: try .zeros([blocks * AdamW8bit.blockSize], dtype: .uint8, device: device),
          largest: try .zeros([blocks], device: device), map: map.map, table: map.table)
      }
      (first, second) = (try moment(isSigned: true), try moment(isSigned: false))
    }

    func part(_ blocks: Range<Int>) throws -> Moments {
      Moments(first: try first.part(blocks), second: try second.part(blocks))
    }

    private init(first: Tensor.BlockwiseMoment, second: Tensor.BlockwiseMoment) {
      (self.first, self.second) = (first, second)
    }
  }

  /// The state of one parameter, under bitsandbytes' names.
  private struct State {
    enum Kind {
      case quantized(Range<Int>, Device)
      case plain(Tensor, Tensor)
    }

    let parameter: Parameter
    let kind: Kind
    var step = 0
  }

  public init(_ groups: [ParameterGroup], options: Options = Options()) throws {
    self.groups = groups
    self.options = options
    var blocks: [Device: Int] = [:]
    states = try groups.map { group in
      try group.parameters.map { parameter in
        let tensor = parameter.tensor
        let device = tensor.device
        guard options.isQuantized(tensor.count) else {
          return State(
            parameter: parameter,
            kind: .plain(
              try .zeros(tensor.shape, device: device), try .zeros(tensor.shape, device: device)))
        }
        let first = blocks[device] ?? 0
        let last = first + Self.blockCount(tensor.count)
        blocks[device] = last
        return State(parameter: parameter, kind: .quantized(first..<last, device))
      }
    }
    moments = try Dictionary(
      uniqueKeysWithValues: blocks.map { ($0, try Moments(blocks: $1, device: $0)) })
  }

  public func step(_ gradients: [String: Tensor], learningRates: [Double]) throws {
    try withoutGrad {
      for (index, learningRate) in zip(groups.indices, learningRates) {
        for position in states[index].indices
        where gradients[states[index][position].parameter.key] != nil {
          states[index][position].step += 1
        }
        for run in runs(of: states[index], gradients) {
          try update(run, learningRate: learningRate)
        }
      }
    }
  }

  /// Parameters that are updated together: the same number of steps, and either moments that follow
  /// each other or plain ones.
  private struct Run {
    let device: Device
    let step: Int
    /// Nil for plain moments.
    var blocks: Range<Int>?
    var states: [State] = []
    var gradients: [Tensor] = []
    var count = 0
  }

  /// The most elements that are updated together, which bounds the memory of intermediate results.
  private static let elementsAtOnce = 1 << 24

  private func runs(of states: [State], _ gradients: [String: Tensor]) -> [Run] {
    var quantized: [Run] = []
    var plain: [Run] = []
    func add(_ state: State, _ gradient: Tensor, _ run: Run, to runs: inout [Run], joins: Bool) {
      if !joins { runs.append(run) }
      let last = runs.count - 1
      runs[last].states.append(state)
      runs[last].gradients.append(gradient)
      runs[last].count += gradient.count
      if let blocks = run.blocks, let own = runs[last].blocks {
        runs[last].blocks = own.lowerBound..<blocks.upperBound
      }
    }
    for state in states {
      guard let gradient = gradients[state.parameter.key] else { continue }
      switch state.kind {
      case .quantized(let blocks, let device):
        let joins = quantized.last.map {
          $0.device == device && $0.step == state.step && $0.count < Self.elementsAtOnce
            && $0.blocks?.upperBound == blocks.lowerBound
        }
        add(
          state, gradient, Run(device: device, step: state.step, blocks: blocks), to: &quantized,
          joins: joins ?? false)
      case .plain(let first, _):
        let joins = plain.last.map { $0.device == first.device && $0.step == state.step }
        add(
          state, gradient, Run(device: first.device, step: state.step), to: &plain,
          joins: joins ?? false)
      }
    }
    return quantized + plain
  }

  private func update(_ run: Run, learningRate: Double) throws {
    let tensors = run.states.map(\.parameter.tensor)
    if let blocks = run.blocks, let all = moments[run.device] {
      let own = try all.part(blocks)
      return try Tensor.takeAdamW8bitStep(
        tensors, gradients: run.gradients, firstMoment: own.first, secondMoment: own.second,
        number: run.step, learningRate: learningRate, beta1: options.beta1, beta2: options.beta2,
        eps: options.eps, weightDecay: options.weightDecay)
    }
    var (first, second): ([Tensor], [Tensor]) = ([], [])
    for case .plain(let own, let other) in run.states.map(\.kind) {
      first.append(own)
      second.append(other)
    }
    let exact = try tensors.map { try $0.to(.float32) }
    let step = try Tensor.scalar(Double(run.step), device: run.device)
    try Tensor.fusedAdamW_(
      parameters: exact, gradients: run.gradients.map { try $0.to(.float32) }, firstMoments: first,
      secondMoments: second, maxSecondMoments: [], steps: tensors.map { _ in step },
      lr: learningRate, beta1: options.beta1, beta2: options.beta2,
      weightDecay: options.weightDecay, eps: options.eps, amsgrad: false, maximize: false)
    for (tensor, exact) in zip(tensors, exact) where tensor.dtype != .float32 {
      try tensor.copy_(exact)
    }
  }

  // MARK: State

  /// The tensors of a parameter's state; those of 8-bit moments are views.
  private func tensors(of state: State) throws -> [(key: String, tensor: Tensor)] {
    let key = state.parameter.key
    switch state.kind {
    case .plain(let first, let second):
      return [("\(key).state1", first), ("\(key).state2", second)]
    case .quantized(let blocks, let device):
      guard let own = try moments[device]?.part(blocks) else { return [] }
      let tensor = state.parameter.tensor
      func codes(_ moment: Tensor.BlockwiseMoment) throws -> Tensor {
        try moment.codes.narrow(0, 0, tensor.count).reshape(tensor.shape)
      }
      return [
        ("\(key).state1", try codes(own.first)), ("\(key).absmax1", own.first.largest),
        ("\(key).state2", try codes(own.second)), ("\(key).absmax2", own.second.largest),
      ]
    }
  }

  public var state: [(key: String, tensor: Tensor)] {
    get throws {
      try states.joined().flatMap { state in
        try tensors(of: state)
          + [("\(state.parameter.key).step", Tensor([state.step], shape: []))]
      }
    }
  }

  public var stateMemory: [Tensor] {
    var tensors: [Tensor] = []
    for moment in moments.values.flatMap({ [$0.first, $0.second] }) {
      tensors += [moment.codes, moment.largest]
    }
    for state in states.joined() {
      if case .plain(let first, let second) = state.kind { tensors += [first, second] }
    }
    return tensors
  }

  public func restore(_ load: @escaping (String) throws -> Tensor) throws {
    let stored = StoredState(load)
    for index in states.indices {
      for position in states[index].indices {
        try stored.fill(tensors(of: states[index][position]))
        states[index][position].step = try stored.count(
          "\(states[index][position].parameter.key).step")
      }
    }
  }
}

extension Tensor.BlockwiseMoment {
  /// Views of some blocks.
  fileprivate func part(_ blocks: Range<Int>) throws -> Self {
    let size = AdamW8bit.blockSize
    return Self(
      codes: try codes.narrow(0, blocks.lowerBound * size, blocks.count * size),
      largest: try largest.narrow(0, blocks.lowerBound, blocks.count), map: map, table: table)
  }
}
