import Foundation
import Synchronization
import Testing

@testable import Torch

/// Runs `body` as each rank of a group, each on a thread of its own, and returns the ranks' results in their order.
/// Gloo does not mind that the ranks are in one process.
func asRanks<R: Sendable>(
  _ count: Int, timeouts: ProcessGroup.Timeouts = .init(joining: .seconds(20), collective: .seconds(20)),
  joining: Set<Int>? = nil, _ body: @escaping @Sendable (ProcessGroup) throws -> R
) throws -> [Result<R, any Error>] {
  let place = Rendezvous(host: "127.0.0.1", port: 0)
  let server = try RendezvousStore(
    place, ranks: ProcessRanks(rank: 0, worldSize: count, localRank: 0), timeout: timeouts.joining)
  let results = Mutex([Int: Result<R, any Error>]())
  let done = DispatchGroup()
  for rank in joining?.sorted() ?? Array(0..<count) {
    done.enter()
    let port = server.place.port
    Thread.detachNewThread {
      let result = Result {
        // The store is there already, so that its port is known: all of the ranks connect to it.
        let group = try ProcessGroup(
          ProcessRanks(rank: rank, worldSize: count, localRank: rank),
          at: Rendezvous(host: "127.0.0.1", port: port, isServed: true), timeouts: timeouts)
        return try body(group)
      }
      results.withLock { $0[rank] = result }
      done.leave()
    }
  }
  done.wait()
  return withExtendedLifetime(server) { results.withLock { all in all.keys.sorted().map { all[$0]! } } }
}

@Suite struct ProcessGroupTests {
  /// Reproducible numbers that no other rank has.
  private static func numbers(_ shape: [Int], rank: Int, _ salt: Int, _ dtype: DType = .float32) throws
    -> Tensor
  {
    try Generator(seed: UInt64(rank * 1000 + salt)).normal(shape, dtype: dtype)
  }

  private static let shapes = [[3, 5], [], [1], [7, 2, 4], [0, 3], [1000], [128, 33]]

  @Test func `The sum of two ranks is that of their tensors to the bit`() throws {
    let sums = try asRanks(2) { group in
      let tensors = try Self.shapes.enumerated().map { try Self.numbers($1, rank: group.rank, $0) }
      try group.allReduce(tensors)
      return tensors
    }
    for result in sums {
      for (index, sum) in try result.get().enumerated() {
        let local =
          try Self.numbers(Self.shapes[index], rank: 0, index)
          + Self.numbers(Self.shapes[index], rank: 1, index)
        #expect(sum.shape == local.shape)
        #expect(try sum.array(of: Float.self) == local.array(of: Float.self))
      }
    }
  }
}
