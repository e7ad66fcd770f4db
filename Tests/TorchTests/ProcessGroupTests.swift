import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Torch

/// The error that a rank must have thrown.
func collectiveFailure<R>(_ result: Result<R, any Error>) throws -> TorchError {
  let error = #expect(throws: TorchError.self) { try result.get() }
  let known = try #require(error)
  #expect(known.kind == .collective, "\(known)")
  return known
}

@Suite struct ProcessGroupTests {
  /// Buffers of many sizes, including empty ones.
  private static let shapes = [[3, 5], [], [1], [7, 2, 4], [0, 3], [1000], [128, 33]]

  /// Reproducible numbers that differ between ranks.
  private static func numbers(rank: Int, scale: Double = 1) throws -> [Tensor] {
    try shapes.enumerated().map {
      try Generator(seed: UInt64(rank * 1000 + $0)).normal($1) * scale
    }
  }

  @Test func theSumOfTwoRanksIsThatOfTheirTensorsToTheBit() throws {
    let ranks = try asRanks(2) { group in
      let tensors = try Self.numbers(rank: group.rank)
      try group.allReduce(tensors)
      return tensors
    }
    let (first, second) = (try Self.numbers(rank: 0), try Self.numbers(rank: 1))
    for result in ranks {
      for (index, sum) in try result.get().enumerated() {
        let local = try first[index] + second[index]
        #expect(sum.shape == local.shape)
        #expect(try sum.array(of: Float.self) == local.array(of: Float.self))
      }
    }
  }

  @Test func sumsOverMoreRanksAreTheSameBitsForEachOfThemAndEachTime() throws {
    func run() throws -> [[[Float]]] {
      try asRanks(4) { group in
        let tensors = try Self.numbers(rank: group.rank)
        try group.allReduce(tensors)
        return try tensors.map { try $0.array(of: Float.self) }
      }.map { try $0.get() }
    }
    let (first, again) = (try run(), try run())
    #expect(first.allSatisfy { $0 == first[0] })
    #expect(again == first)
    // Four additions in another order may differ by a few units in the last place of the largest
    // summand (about 4).
    let terms = try (0..<4).map { try Self.numbers(rank: $0) }
    for index in Self.shapes.indices {
      let local = try terms.dropFirst().reduce(terms[0][index]) { try $0 + $1[index] }
      for (sum, expected) in zip(first[0][index], try local.array(of: Float.self)) {
        #expect(abs(sum - expected) <= 2e-6)
      }
    }
  }

  @Test func theMaximumAndNumbersAsTheyAre() throws {
    for result in try asRanks(
      3,
      { group in
        let tensors = try Self.numbers(rank: group.rank)
        try group.allReduce(tensors, .max)
        return (
          try tensors.map { try $0.array(of: Float.self) },
          try group.allReduce([Double(group.rank), 0.25])
        )
      })
    {
      let (maxima, sums) = try result.get()
      let terms = try (0..<3).map { try Self.numbers(rank: $0) }
      for index in Self.shapes.indices {
        let local = try terms.map { try $0[index].array(of: Float.self) }
        #expect(
          maxima[index] == local[0].indices.map { i in max(local[0][i], local[1][i], local[2][i]) })
      }
      #expect(sums == [3, 0.75])
    }
  }

  @Test func tensorsOfSeveralTypesAndLayoutsAreReducedTogether() throws {
    for result in try asRanks(
      2,
      { group in
        let scale = Double(group.rank + 1)
        // Not contiguous: its columns are summed in place.
        let matrix = try Tensor([1.0, 2, 3, 4, 5, 6], shape: [2, 3]) * scale
        let turned = try matrix.transpose(0, 1)
        let tensors = [
          try Tensor([1.5, -2]).to(.bfloat16), turned, try Tensor([7, 8]),
          try Tensor([0.5]).to(.float16),
          try Tensor([UInt8(3)]),
        ]
        try group.allReduce(tensors)
        return (
          try tensors.map { try $0.to(.float64).array(of: Double.self) },
          try matrix.array(of: Double.self)
        )
      })
    {
      let (sums, matrix) = try result.get()
      #expect(sums == [[3, -4], [3, 12, 6, 15, 9, 18], [14, 16], [1], [6]])
      #expect(matrix == [3, 6, 9, 12, 15, 18])
    }
  }

  @Test(arguments: DType.allCases) func eachElementTypeIsBroadcastAndGathered(dtype: DType)
    throws
  {
    for result in try asRanks(
      3,
      { group in
        let mine = try [
          Tensor([Double(group.rank), 1, 0]).to(dtype),
          Tensor([[1.0, 0, 1][group.rank]]).to(dtype),
        ]
        let gathered = try group.allGather(mine[0].reshape([3, 1]))
        try group.broadcast(mine, from: 2)
        func values(_ tensor: Tensor) throws -> [Double] { try tensor.to(.float64).array() }
        return (
          try mine.map(values), try gathered.map(values), gathered.map(\.shape),
          gathered.map(\.dtype)
        )
      })
    {
      let (sent, gathered, shapes, types) = try result.get()
      let two = dtype == .bool ? 1.0 : 2
      #expect(sent == [[two, 1, 0], [1]])
      #expect(gathered == [[0, 1, 0], [1, 1, 0], [two, 1, 0]])
      #expect(shapes == [[3, 1], [3, 1], [3, 1]])
      #expect(types == [dtype, dtype, dtype])
    }
  }

  @Test func weightsThatRecordGradientsAreBroadcastToo() throws {
    for result in try asRanks(
      2,
      { group in
        let weight = try Tensor([Float(group.rank + 1), 5]).asLeaf()
        try group.broadcast([weight, weight.detach()], from: 0)
        return (try weight.detach().array(of: Float.self), weight.requiresGrad)
      })
    {
      let (values, requiresGrad) = try result.get()
      #expect(values == [1, 5])
      #expect(requiresGrad)
    }
  }

  @Test func bytesOfDifferentLengthsAreGathered() throws {
    for result in try asRanks(
      3,
      { group in
        let none = try group.allGather(bytes: [])
        try group.barrier()
        return none
          + (try group.allGather(
            bytes: [UInt8](repeating: UInt8(group.rank), count: group.rank * 40)))
      })
    {
      let expected: [[UInt8]] = [
        [], [], [], [], .init(repeating: 1, count: 40), .init(repeating: 2, count: 80),
      ]
      #expect(try result.get() == expected)
    }
  }

  @Test func bucketsKeepTheOrderPartKindsAndAreBounded() throws {
    let (a, b, big) = (try Tensor.zeros([10]), try Tensor.zeros([20]), try Tensor.zeros([100]))
    let (long, none) = (try Tensor.zeros([3], dtype: .int64), try Tensor.zeros([0]))
    let buckets = Bucket.fill([a, long, none, b, big, a], capacity: 200)
    #expect(buckets.map { $0.tensors.map(\.count) } == [[10, 20], [100], [10], [3]])
    #expect(buckets.map(\.byteCount) == [120, 400, 40, 24])
    #expect(buckets.allSatisfy { Set($0.tensors.map(\.dtype)).count == 1 })
  }

  @Test func aGroupOfOneExchangesNothingAndKeepsEverything() throws {
    let group = ProcessGroup.single
    let tensor = try Tensor([1.0, 2])
    try group.allReduce([tensor])
    try group.broadcast([tensor])
    try group.barrier()
    #expect(try group.allGather(tensor).map { try $0.array(of: Double.self) } == [[1, 2]])
    #expect(try group.allGather(bytes: [7]) == [[7]])
    #expect(try group.allReduce([3], .max) == [3])
    #expect((group.rank, group.worldSize, group.localRank, group.isMain) == (0, 1, 0, true))
    let error = try torchFailure { try group.broadcast([tensor], from: 1) }
    #expect(error.message.contains("rank 1 is not among"))
  }
}
