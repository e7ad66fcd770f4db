import NN
import Optimizers
import Support
import Testing
import Torch

@Suite struct ExponentialMovingAverageTests {
  private func parameters(_ values: [Float], dtype: DType = .float32) throws -> [Parameter] {
    [Parameter(key: "a.weight", tensor: try Tensor(values).to(dtype).asLeaf())]
  }

  private func set(_ parameters: [Parameter], _ values: [Float]) throws {
    try withoutGrad { _ = try parameters[0].tensor.copy_(Tensor(values)) }
  }

  @Test func averagesAreThoseOfTheFormula() throws {
    let parameters = try parameters([1, -2, 0.5])
    let average = try ExponentialMovingAverage(decay: 0.4, parameters)
    var wanted: [Double] = [1, -2, 0.5]
    for n in 0..<12 {
      let values = (0..<3).map { Float(n * n) * 0.25 - Float($0) }
      try set(parameters, values)
      try average.update()
      // 0.1, 2/11, … up to 0.4.
      let decay = min(0.4, Double(1 + n) / Double(10 + n))
      for i in 0..<3 { wanted[i] = decay * wanted[i] + (1 - decay) * Double(values[i]) }
      let found: [Double] = try average.averaged[0].tensor.array()
      for i in 0..<3 { #expect(abs(found[i] - wanted[i]) < 1e-6 * 36) }
    }
    #expect(average.updates == 12)
    #expect(average.averaged[0].key == "a.weight")
  }

  @Test(arguments: [DType.float32, .bfloat16])
  func averagesStandInForTheParametersAndLeaveThemAsTheyWere(_ dtype: DType) throws {
    struct Failure: Error {}
    let parameters = try parameters([1, 2], dtype: dtype)
    let average = try ExponentialMovingAverage(decay: 0.5, parameters)
    try set(parameters, [3, 0.1])
    let before = try parameters[0].tensor.detach().clone()
    let inside: [Float] = try average.withAverages { try parameters[0].tensor.array() }
    #expect(inside == [1, 2])
    #expect(try Tensor.isEqual(parameters[0].tensor, before))
    #expect(throws: Failure.self) { try average.withAverages { throw Failure() } }
    #expect(try Tensor.isEqual(parameters[0].tensor, before))
    #expect(parameters[0].tensor.requiresGrad)
    #expect(try average.averaged[0].tensor.array(of: Float.self) == [1, 2])
  }

  @Test func aRestoredAverageContinuesBitForBit() throws {
    let generator = try Generator(seed: 4)
    let values = try (0..<6).map { _ in try generator.normal([5]).array(of: Float.self) }
    func run(_ average: ExponentialMovingAverage, _ steps: Range<Int>) throws {
      for n in steps {
        try set(average.parameters, values[n])
        try average.update()
      }
    }
    let whole = try ExponentialMovingAverage(decay: 0.9, parameters(values[0]))
    try run(whole, 0..<6)
    let first = try ExponentialMovingAverage(decay: 0.9, parameters(values[0]))
    try run(first, 0..<3)
    let state = try Dictionary(uniqueKeysWithValues: first.state.map { ($0.key, $0.tensor) })
    #expect(Set(state.keys) == ["a.weight.ema", "ema.updates"])
    let second = try ExponentialMovingAverage(decay: 0.9, parameters([0, 0, 0, 0, 0]))
    try second.restore { try #require(state[$0]) }
    try run(second, 3..<6)
    #expect(try Tensor.isEqual(whole.averaged[0].tensor, second.averaged[0].tensor))
    #expect(second.updates == 6)
  }

  @Test(arguments: [-0.1, 1, .nan])
  func aDecayThatIsNoneIsRefused(_ decay: Double) {
    #expect(throws: Issues.self) { try ExponentialMovingAverage(decay: decay, []) }
  }
}
