import Testing
import Torch

@Suite struct TensorCreationTests {
  @Test(arguments: DType.allCases) func everyElementTypeIsMadeAndRead(dtype: DType) throws {
    let values: [Float] = [0, 1, 1, 0, 1, 0]
    let tensor = try Tensor(values, shape: [2, 3]).to(dtype)
    #expect(tensor.dtype == dtype)
    #expect(tensor.shape == [2, 3])
    #expect(tensor.strides == [3, 1])
    #expect(tensor.byteCount == 6 * dtype.size)
    #expect(try tensor.array(of: Float.self) == values)

    let bytes = try tensor.withUnsafeBytes { Array($0) }
    #expect(bytes.count == 6 * dtype.size)
    let copy = try bytes.withUnsafeBytes { try Tensor(copying: $0, dtype: dtype, shape: [3, 2]) }
    #expect(try copy.array(of: Float.self) == values)
    #expect(!copy.sharesStorage(with: tensor))
    #expect(try Tensor.zeros([4], dtype: dtype).array(of: Float.self) == [0, 0, 0, 0])
    #expect(try Tensor.ones([2, 1], dtype: dtype).array(of: Float.self) == [1, 1])
    #expect(try Tensor.empty([0, 3], dtype: dtype).count == 0)
    #expect(try Tensor.scalar(1, dtype: dtype).to(.float64).item() == 1)
    #expect("\(tensor)" == "Tensor([2, 3], \(dtype), cpu)")
  }

  @Test func arraysOfEachSwiftType() throws {
    func roundTrip<E: TensorElement & Equatable>(_ values: [E], _ dtype: DType) throws {
      let tensor = try Tensor(values)
      #expect(tensor.dtype == dtype)
      #expect(try tensor.array(of: E.self) == values)
    }
    try roundTrip([1.5, -.infinity] as [Float], .float32)
    try roundTrip([1e300, -0.0] as [Double], .float64)
    try roundTrip([Int.min, 0, Int.max], .int64)
    try roundTrip([Int64.min, .max], .int64)
    try roundTrip([Int32.min, .max], .int32)
    try roundTrip([Int16.min, .max], .int16)
    try roundTrip([Int8.min, .max], .int8)
    try roundTrip([UInt8.min, .max], .uint8)
    try roundTrip([true, false, true], .bool)
    try roundTrip([] as [Float], .float32)
  }

  @Test func ranges() throws {
    #expect(try Tensor.arange(to: 4).array(of: Int.self) == [0, 1, 2, 3])
    #expect(
      try Tensor.arange(from: 1, to: 2, step: 0.25, dtype: .float32).array(of: Float.self) == [
        1, 1.25, 1.5, 1.75,
      ])
    #expect(
      try Tensor.linspace(from: 0, to: 1, steps: 5).array(of: Float.self) == [
        0, 0.25, 0.5, 0.75, 1,
      ])
  }

  @Test func rounding() throws {
    // 1 + 2^-9 is halfway between two bfloat16 numbers and is rounded to the even one.
    #expect(
      try Tensor([1.001953125, 1.01] as [Float]).to(.bfloat16).array(of: Float.self) == [
        1, 1.0078125,
      ])
    #expect(
      try Tensor([448, 0.0625] as [Float]).to(.float8E4M3).array(of: Float.self) == [448, 0.0625])
  }

  @Test func wrongSizes() throws {
    #expect(throws: TorchError.self) { try Tensor([1, 2, 3] as [Float], shape: [2, 2]) }
    #expect(throws: TorchError.self) { try Tensor([1, 2, 3, 4] as [Float], shape: [-2, -2]) }
    #expect(throws: TorchError.self) { try Tensor([] as [Float], shape: [1 << 62, 4]) }
    let bytes = [UInt8](repeating: 0, count: 8)
    try bytes.withUnsafeBytes { (bytes) throws in
      #expect(throws: TorchError.self) { try Tensor(copying: bytes, dtype: .float32, shape: [3]) }
      #expect(throws: TorchError.self) {
        try Tensor(copying: bytes, dtype: .float32, shape: [1 << 62, 4])
      }
      #expect(throws: TorchError.self) {
        try Tensor.view(of: bytes, dtype: .float32, shape: [1 << 62, 4], owner: Witness {})
      }
      #expect(try Tensor(copying: bytes, dtype: .float32, shape: [2]).count == 2)
    }
  }
}

/// Reports when it is released.
final class Witness: Sendable {
  private let onRelease: @Sendable () -> Void
  init(_ onRelease: @escaping @Sendable () -> Void) { self.onRelease = onRelease }
  deinit { onRelease() }
}

@Suite struct OperationTests {
  let a: Tensor
  let b: Tensor

  init() throws {
    a = try Tensor([1, 2, 3, 4, 5, 6] as [Float], shape: [2, 3])
    b = try Tensor([10, 20, 30] as [Float])
  }

  @Test func operatorsBroadcast() throws {
    #expect(try (a + b).array(of: Float.self) == [11, 22, 33, 14, 25, 36])
    #expect(try (b - a).array(of: Float.self) == [9, 18, 27, 6, 15, 24])
    #expect(try (a * b).array(of: Float.self) == [10, 40, 90, 40, 100, 180])
    #expect(try (b / a).array(of: Float.self) == [10, 10, 10, 2.5, 4, 5])
    #expect(try (-a).array(of: Float.self) == [-1, -2, -3, -4, -5, -6])
    #expect(try (a.unsqueeze(0) + a.unsqueeze(1)).shape == [2, 2, 3])
  }

  @Test func operatorsWithNumbers() throws {
    #expect(try (b + 1).array(of: Float.self) == [11, 21, 31])
    #expect(try (b - 1).array(of: Float.self) == [9, 19, 29])
    #expect(try (b * 2).array(of: Float.self) == [20, 40, 60])
    #expect(try (b / 4).array(of: Float.self) == [2.5, 5, 7.5])
    #expect(try (1 + b).array(of: Float.self) == [11, 21, 31])
    #expect(try (100 - b).array(of: Float.self) == [90, 80, 70])
    #expect(try (0.5 * b).array(of: Float.self) == [5, 10, 15])
    let integers = try Tensor([1, 2] as [Int])
    #expect(try integers.adding(3).dtype == .int64)
    #expect(try integers.multiplied(by: Scalar(0.5)).dtype == .float32)
  }

  @Test func productsAndShapes() throws {
    #expect(try a.matmul(b.unsqueeze(1)).array(of: Float.self) == [140, 320])
    let transposed = try a.transpose(0, 1)
    #expect(transposed.shape == [3, 2])
    #expect(transposed.strides == [1, 3])
    #expect(!transposed.isContiguous)
    #expect(transposed.sharesStorage(with: a))
    #expect(try transposed.array(of: Float.self) == [1, 4, 2, 5, 3, 6])
    #expect(a.size(-1) == 3)
    #expect(try a.sum().item() == 21)
    #expect(try a.select(0, 1).narrow(0, 1, 2).array(of: Float.self) == [5, 6])
    #expect(try Tensor.cat([a, a], 1).shape == [2, 6])
    #expect(try a.split(2, 1).map(\.shape) == [[2, 2], [2, 1]])
    let (sorted, order) = try Tensor([3, 1, 2] as [Float]).sort(stable: true)
    #expect(try sorted.array(of: Float.self) == [1, 2, 3])
    #expect(try order.array(of: Int.self) == [1, 2, 0])
    #expect(try Tensor.isEqual(a, a.clone()))
    #expect(try Tensor.isEqual(a, a + 1) == false)
  }

  @Test func inPlaceOperationsWriteToTheTensor() throws {
    let tensor = try b.clone()
    try tensor.add_(b, scale: 0.5)
    #expect(try tensor.array(of: Float.self) == [15, 30, 45])
    try tensor.narrow(0, 1, 2).zero_()
    #expect(try tensor.array(of: Float.self) == [15, 0, 0])
    #expect(try b.array(of: Float.self) == [10, 20, 30])
  }

  @Test func strongestConversions() throws {
    #expect(try a.to(.float32) === a)
    #expect(try a.to(.cpu) === a)
    #expect(try a.to(.cpu, .bfloat16).dtype == .bfloat16)
  }

  @Test func bytesThatFallIntoAnotherTensor() throws {
    let source = try Tensor([1, 2, 3, 4, 5] as [UInt8])
    func copied(_ offset: Int) throws -> [UInt8] {
      let destination = try Tensor([0, 0, 0] as [UInt8])
      try source.copyOverlap(to: destination, at: offset)
      return try destination.array()
    }
    #expect(try copied(0) == [1, 2, 3])
    #expect(try copied(-1) == [2, 3, 4])
    #expect(try copied(-4) == [5, 0, 0])
    #expect(try copied(2) == [0, 0, 1])
    #expect(try copied(3) == [0, 0, 0] && copied(-5) == [0, 0, 0] && copied(-9) == [0, 0, 0])
  }
}
