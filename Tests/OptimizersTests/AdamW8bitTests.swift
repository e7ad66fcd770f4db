import NN
import Optimizers
import Testing
import Torch

/// Compares with bitsandbytes' CPU functions, and with `AdamW8bit` itself on the CPU.
@Suite struct AdamW8bitTests {
  private static let shapes = ["matrix", "square", "small", "vector"]
  private let fixture: Fixture
  private let rates: [Double]

  init() throws {
    fixture = try Fixture("quantisation")
    rates = try fixture.metadata("rates")
  }

  @Test(arguments: [true, false])
  func mapsCodesAndLargestNumbersAreBitsandbytes(isSigned: Bool) throws {
    let map = try DynamicMap(isSigned: isSigned)
    let prefix = isSigned ? "signed" : "unsigned"
    #expect(try Tensor.isEqual(map.map, fixture.tensor("\(prefix).map")))
    for name in ["normal", "sizes", "zeros", "tiny", "smallest"] {
      let x = try fixture.tensor("\(prefix).\(name).x")
      let codes = try fixture.tensor("\(prefix).\(name).codes")
      let largest = try fixture.tensor("\(prefix).\(name).absmax")
      // Float64 parameters use libtorch's operations, as on a GPU.
      for x in [x, try x.to(.float64)] {
        let found = try map.quantized(x)
        #expect(try Tensor.isEqual(found.codes, codes), "\(prefix) \(name), \(x.dtype)")
        #expect(try Tensor.isEqual(found.largest, largest), "\(prefix) \(name), \(x.dtype)")
      }
      let back = try map.dequantized(codes, largest: largest)
      #expect(
        try Tensor.isEqual(back, fixture.tensor("\(prefix).\(name).back")), "\(prefix) \(name)")
    }
  }

  private func trained(_ options: AdamW8bit.Options, dtype: DType = .float32, steps: Int = 4) throws
    -> AdamW8bit
  {
    let parameters = try Self.shapes.map {
      Parameter(key: $0, tensor: try fixture.tensor("start.\($0)").clone().to(dtype).asLeaf())
    }
    let optimizer = try AdamW8bit(
      [ParameterGroup(parameters, learningRate: 1e-2)], options: options)
    for number in 0..<steps { try step(optimizer, number) }
    return optimizer
  }

  private func step(_ optimizer: AdamW8bit, _ number: Int) throws {
    let gradients = try optimizer.parameters.map {
      ($0.key, try fixture.tensor("gradient.\(number).\($0.key)").to($0.tensor.dtype))
    }
    try optimizer.step(
      Dictionary(uniqueKeysWithValues: gradients), learningRate: 1e-2 * rates[number])
  }

  private static var options: [(String, AdamW8bit.Options)] {
    var options = AdamW8bit.Options()
    options.beta1 = 0.8
    options.beta2 = 0.95
    options.eps = 1e-6
    options.weightDecay = 0
    options.smallestQuantized = 300
    return [("default", AdamW8bit.Options()), ("options", options)]
  }

  /// All codes and scales are equal; float32 values are equal to within two roundings per step.
  @Test func stepsAreThoseOfBitsandbytesAdamW8bit() throws {
    for (name, options) in Self.options {
      let optimizer = try trained(options)
      let state = try optimizer.stored()
      for parameter in optimizer.parameters {
        let key = parameter.key
        let error = try relativeError(parameter.tensor.detach(), fixture.tensor("\(name).\(key)"))
        #expect(error < 5e-7, "\(name) \(key): \(error)")
        let wanted = fixture.keys(below: "\(name).\(key)")
        #expect(wanted.count == (name == "default" && key == "small" ? 3 : 5))
        for part in wanted {
          let expected = try fixture.tensor("\(name).\(key).\(part)")
          let found = try #require(state["\(key).\(part)"])
          #expect(found.dtype == expected.dtype)
          if found.dtype == .float32, wanted.count == 3 {
            #expect(try relativeError(found, expected) < 5e-7, "\(name) \(key).\(part)")
          } else {
            #expect(try Tensor.isEqual(found, expected), "\(name) \(key).\(part)")
          }
        }
      }
    }
  }

  /// The step of a float64 parameter is computed in float32 by libtorch's operations, like every
  /// step on a GPU. libtorch's square roots may differ in their last bit, so parameters are equal
  /// to within a rounding of the change; codes and scales are equal.
  @Test func theKernelAndLibtorchsOperationsAgree() throws {
    for (name, options) in Self.options {
      let kernel = try trained(options)
      let operations = try trained(options, dtype: .float64)
      for (a, b) in zip(kernel.parameters, operations.parameters) {
        let error = try relativeError(a.tensor.detach(), b.tensor.detach())
        #expect(error < 2e-7, "\(name) \(a.key): \(error)")
      }
      let other = try operations.stored()
      for (key, tensor) in try kernel.stored() {
        #expect(try Tensor.isEqual(tensor, #require(other[key])), "\(name) \(key)")
      }
    }
  }

  /// The tensor is large enough for several threads, and its last block is not full.
  @Test func threadsChangeNothing() throws {
    let generator = try Generator(seed: 3)
    let start = try generator.normal([401, 1003])
    let gradients = try (0..<3).map { _ in try generator.normal([401, 1003]) }
    func trained(_ dtype: DType) throws -> [String: Tensor] {
      let parameter = Parameter(key: "a", tensor: try start.clone().to(dtype))
      let optimizer = try AdamW8bit([ParameterGroup([parameter], learningRate: 1)])
      for gradient in gradients {
        try optimizer.step(["a": gradient.to(dtype)], learningRate: 1e-3)
      }
      return try optimizer.stored()
    }
    let kernel = try trained(.float32)
    let operations = try trained(.float64)
    #expect(kernel["a.absmax2"]?.shape == [(401 * 1003 + 255) / 256])
    for (key, tensor) in kernel {
      #expect(try Tensor.isEqual(tensor, #require(operations[key])), "\(key)")
    }
  }

  @Test func aRestoredOptimizerContinuesBitForBit() throws {
    let whole = try trained(AdamW8bit.Options())
    let first = try trained(AdamW8bit.Options(), steps: 2)
    let second = try trained(AdamW8bit.Options(), steps: 0)
    try withoutGrad {
      for (old, new) in zip(first.parameters, second.parameters) {
        try new.tensor.copy_(old.tensor)
      }
    }
    let state = try first.stored()
    try second.restore { try #require(state[$0]) }
    for number in 2..<4 { try step(second, number) }
    for (a, b) in zip(whole.parameters, second.parameters) {
      #expect(try Tensor.isEqual(a.tensor, b.tensor), "\(a.key)")
    }
    let other = try second.stored()
    for (key, tensor) in try whole.stored() {
      #expect(try Tensor.isEqual(tensor, #require(other[key])), "\(key)")
    }
  }

  /// Parameters that are updated together get the values that each of them gets alone, also if the
  /// last block is not full, or a gradient is missing in one of the steps.
  @Test(arguments: [DType.float32, .float64])
  func parametersThatAreUpdatedTogetherDontInfluenceEachOther(_ dtype: DType) throws {
    let generator = try Generator(seed: 5)
    let shapes = [
      "a": [70, 70], "b": [20], "c": [4096], "d": [33, 129], "e": [30], "f": [64, 65],
    ]
    let start = try shapes.mapValues { try generator.normal($0) }
    let gradients = try (0..<5).map { number in
      // Small gradients after large ones: what is left of a block gets small.
      try shapes.mapValues { try generator.normal($0) * (number == 0 ? 1 : 1e-6) }
    }
    func trained(_ keys: [String]) throws -> ([String: Tensor], [String: Tensor]) {
      let parameters = try keys.map { key in
        Parameter(key: key, tensor: try #require(start[key]).clone().to(dtype).asLeaf())
      }
      let optimizer = try AdamW8bit([ParameterGroup(parameters, learningRate: 1)])
      for (number, gradients) in gradients.enumerated() {
        let given = gradients.filter { keys.contains($0.key) && !(number == 2 && $0.key == "c") }
        try optimizer.step(given.mapValues { try $0.to(dtype) }, learningRate: 1e-3)
      }
      return (
        Dictionary(uniqueKeysWithValues: parameters.map { ($0.key, $0.tensor) }),
        try optimizer.stored()
      )
    }
    let together = try trained(shapes.keys.sorted())
    for key in shapes.keys {
      let alone = try trained([key])
      #expect(try Tensor.isEqual(#require(together.0[key]), #require(alone.0[key])), "\(key)")
      for (name, tensor) in alone.1 {
        #expect(try Tensor.isEqual(#require(together.1[name]), tensor), "\(name)")
      }
    }
  }

  @Test func momentsTakeTwoBytesAndA32nd() throws {
    let optimizer = try trained(AdamW8bit.Options(), steps: 0)
    let planned = optimizer.parameters.reduce(0) {
      $0 + OptimizerOptions.adamw8bit(.init()).stateBytes(shape: $1.tensor.shape)
    }
    #expect(try optimizer.stateBytes == planned + 8 * Self.shapes.count)
    let square = OptimizerOptions.adamw8bit(.init()).stateBytes(shape: [64, 64])
    #expect(square == 2 * 4096 + 2 * 16 * 4)
  }

  @Test func tensorsThatDontGoTogetherAreRefused() throws {
    let map = try DynamicMap(isSigned: true)
    let codes = try Tensor.zeros([300], dtype: .uint8)
    #expect(throws: TorchError.self) { try map.dequantized(codes, largest: .zeros([1])) }
    #expect(throws: TorchError.self) { try map.dequantized(codes.to(.int32), largest: .zeros([2])) }
    #expect(throws: TorchError.self) { try Tensor.zeros([300]).quantizedBlockwise(table: codes) }
    #expect(throws: TorchError.self) { try map.quantized(.zeros([0])) }
    let optimizer = try trained(AdamW8bit.Options(), steps: 0)
    #expect(throws: TorchError.self) {
      try optimizer.step(["matrix": .zeros([61, 70])], learningRate: 1)
    }
  }
}
