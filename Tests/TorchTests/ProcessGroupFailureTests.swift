import Foundation
import TestSupport
import Testing

@testable import Torch

/// Ranks that don't join, end early, or call other operations than the others.
@Suite struct ProcessGroupFailureTests {
  private static let short = ProcessGroup.Timeouts(joining: .seconds(2), collective: .seconds(2))

  @Test func ranksThatNeverJoinAreNamed() throws {
    let start = ContinuousClock.now
    for result in try asRanks(4, timeouts: Self.short, joining: [0, 2], { $0.rank }) {
      let error = try collectiveFailure(result)
      #expect(error.message.contains("did not join within 2.000 s: 1, 3"), "\(error)")
    }
    #expect(ContinuousClock.now - start < .seconds(60))
  }

  @Test func theOthersLearnOfARankThatHasGone() throws {
    let start = ContinuousClock.now
    let ranks = try asRanks(3) { group in
      guard group.rank != 1 else { return }
      try group.allReduce([Tensor.zeros([10])])
    }
    #expect(throws: Never.self) { try ranks[1].get() }
    for rank in [0, 2] { _ = try collectiveFailure(ranks[rank]) }
    #expect(ContinuousClock.now - start < .seconds(50), "long before the time-out")
  }

  @Test func nobodyWaitsLongerThanTheTimeOutForARankThatDoesNotAnswer() throws {
    let ranks = try asRanks(2, timeouts: .init(joining: .seconds(60), collective: .seconds(1))) {
      group in
      if group.rank == 1 { Thread.sleep(forTimeInterval: 4) }
      let start = ContinuousClock.now
      let error = try torchFailure { try group.barrier() }
      // The group can no longer be used, and throws instead of waiting.
      let later = try torchFailure { try group.allReduce([Tensor.zeros([1])]) }
      return (error, later, ContinuousClock.now - start)
    }
    for result in ranks {
      let (error, later, waited) = try result.get()
      #expect(error.kind == .collective && later.kind == .collective, "\(error), \(later)")
      #expect(waited < .seconds(3.5))
    }
    #expect(try ranks[0].get().0.message.contains("Timed out waiting 1000ms"))
  }

  @Test func ranksWithOtherTensorsAreRefusedBeforeAnythingIsSent() throws {
    let others: [@Sendable (ProcessGroup) throws -> Void] = [
      { try $0.allReduce([Tensor.zeros([$0.rank == 0 ? 10 : 1000])]) },
      { try $0.allReduce([Tensor.zeros([10], dtype: $0.rank == 0 ? .float32 : .int32)]) },
      { try $0.allReduce([Tensor.zeros([10])], $0.rank == 0 ? .sum : .max) },
      { try $0.broadcast([Tensor](repeating: Tensor.zeros([2]), count: 1 + $0.rank)) },
      { try $0.broadcast([Tensor.zeros([2])], from: $0.rank) },
      { _ = try $0.allGather(Tensor.zeros([2, 1 + $0.rank])) },
      { group in
        if group.rank == 0 {
          _ = try group.allGather(bytes: [1])
        } else {
          _ = try group.allReduce([1])
        }
      },
    ]
    let results = try asRanks(2) { group in
      let errors = try others.map { other in try torchFailure { try other(group) } }
      // The ranks are still synchronized.
      return (errors, try group.allReduce([1]))
    }
    for result in results {
      let (errors, sum) = try result.get()
      #expect(errors.count == others.count)
      for error in errors {
        #expect(
          error.kind == .collective && error.message.contains("the same configuration"), "\(error)")
      }
      #expect(sum == [2])
    }
  }

  @Test(arguments: [DType.bool, .int16, .float8E4M3, .float8E5M2])
  func typesThatCantBeSummedAreRefusedAloneAsWell(dtype: DType) throws {
    let error = try torchFailure {
      try ProcessGroup.single.allReduce([Tensor.zeros([1], dtype: dtype)])
    }
    #expect(error.kind == .dtype)
  }

  @Test func aPortThatIsTakenAndAPlaceThatCantBeReached() throws {
    let main = ProcessRanks(rank: 0, worldSize: 2, localRank: 0)
    let store = try RendezvousStore(
      Rendezvous(host: "127.0.0.1", port: 0), ranks: main, timeout: .seconds(300))
    let taken = try torchFailure {
      _ = try ProcessGroup(main, at: store.place, timeouts: Self.short)
    }
    #expect(taken.kind == .collective)
    #expect(
      taken.message.hasPrefix(
        "port \(store.place.port) is used by another program; set MASTER_PORT"))

    let other = ProcessRanks(rank: 1, worldSize: 2, localRank: 1)
    // Nobody listens at the discard port.
    let unreachable = try torchFailure {
      _ = try ProcessGroup(other, at: Rendezvous(host: "127.0.0.1", port: 9), timeouts: Self.short)
    }
    #expect(unreachable.kind == .collective)
    #expect(unreachable.message.hasPrefix("rank 1 can't reach rank 0 at 127.0.0.1:9"))
  }
}
