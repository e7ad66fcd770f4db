import Foundation
import Support
import Synchronization
import TestSupport
import Testing

@testable import Torch

/// Ranks that fail, hang or are gone, and how the others learn of it.
@Suite struct RankWatchTests {
  /// The watches of ranks that share a store. Other tests may keep threads from running for seconds.
  private final class Watched: Sendable {
    let watches: [RankWatch]
    private let store: RendezvousStore
    private let losses: Losses

    /// The losses that ranks were told about, by rank.
    private final class Losses: Sendable {
      let all = Mutex<[Int: RankWatch.Loss]>([:])
    }

    /// - Parameter progress: the numbers of collectives that the ranks have started.
    init(_ count: Int, progress: [Int]? = nil) throws {
      func ranks(_ rank: Int) -> ProcessRanks {
        ProcessRanks(rank: rank, worldSize: count, localRank: rank)
      }
      let (losses, store) = (
        Losses(),
        try RendezvousStore(
          Rendezvous(host: "127.0.0.1", port: 0), ranks: ranks(0), timeout: .seconds(300))
      )
      (self.losses, self.store) = (losses, store)
      watches = try (0..<count).map { rank in
        let started = progress?[rank] ?? 0
        return try RankWatch(
          ranks(rank), at: store.place, times: .init(limit: .seconds(5)), progress: { started },
          whenLost: { loss in losses.all.withLock { $0[rank] = loss } })
      }
    }

    /// Waits until a number of ranks were told about a loss.
    func losses(_ count: Int) -> [Int: RankWatch.Loss] {
      let end = ContinuousClock.now + .seconds(60)
      while ContinuousClock.now < end, losses.all.withLock({ $0.count < count }) {
        Thread.sleep(forTimeInterval: 0.02)
      }
      return losses.all.withLock { $0 }
    }

    func end(_ ranks: [Int]) {
      DispatchQueue.concurrentPerform(iterations: ranks.count) { watches[ranks[$0]].finish() }
    }
  }

  /// The signs of life of a process go on while its main thread hangs.
  @Test func aRankThatTakesNoPartInACollectiveIsNamed() throws {
    let watched = try Watched(3, progress: [7, 6, 7])
    let late = try #require(watched.watches[2].explanation())
    #expect(late.message.hasPrefix("rank 1 on ") && late.message.contains("did not take part"))
    let even = try Watched(2, progress: [7, 7])
    #expect(even.watches[1].explanation() == nil)
    even.end([0, 1])
  }

  @Test func nothingIsLostIfAllFinishInTheirOwnTime() throws {
    let watched = try Watched(3)
    watched.end([1])
    Thread.sleep(forTimeInterval: 7)
    watched.end([0, 2])
    #expect(watched.losses(0).isEmpty)
  }

  @Test(arguments: [0, 1]) func aSilentRankIsNamedByAllOthers(silent: Int) throws {
    let watched = try Watched(3)
    Thread.sleep(forTimeInterval: 0.5)
    watched.watches[silent].stop()
    let losses = watched.losses(2)
    #expect(Set(losses.keys) == Set(0...2).subtracting([silent]))
    for loss in losses.values {
      #expect(loss.message.hasPrefix("rank \(silent) on \(Support.Host.name) is gone or hangs"))
      #expect(loss.status == 1)
    }
    watched.end([0, 1, 2])
  }

  @Test func aFailedRankTellsItsReason() throws {
    let watched = try Watched(3)
    watched.watches[2].report("out of memory in block 3", status: 2)
    let losses = watched.losses(2)
    #expect(Set(losses.keys) == [0, 1])
    for loss in losses.values {
      #expect(loss.message.hasPrefix("rank 2 on "))
      #expect(loss.message.hasSuffix(" failed: out of memory in block 3"))
      #expect(loss.status == 2)
    }
    watched.end([0, 1, 2])
  }

  @Test func aRankWhoseCollectiveFailedFindsTheCauseBeforeTheLimit() throws {
    let watched = try Watched(3)
    Thread.sleep(forTimeInterval: 0.5)
    watched.watches[1].stop()
    let loss = watched.watches[2].explanation()
    #expect(loss?.message.hasPrefix("rank 1 on ") == true)
    // This rank throws the error itself. The watch informs only the others.
    #expect(watched.losses(1).keys.sorted() == [0])
    watched.end([0, 1, 2])
  }

  @Test func withoutALossThereIsNoExplanation() throws {
    let watched = try Watched(2)
    #expect(watched.watches[1].explanation() == nil)
    watched.end([0, 1])
  }

  @Test(arguments: ["0", "x", "-3"]) func invalidLimitsAreNamed(text: String) {
    #expect(
      message { _ = try RankWatch.Times(environment: ["LTX_RANK_TIMEOUT": text]) }
        .contains("LTX_RANK_TIMEOUT"))
  }

  @Test func factsThatDifferAreNamedWithTheirLineAndRank() throws {
    let results = try asRanks(3) { group in
      try group.requireSame([
        ("version", "1"), ("the setting", "steps: 10\nseed: \(group.rank == 2 ? 7 : 1)"),
      ])
    }
    for result in results {
      let text = message { try result.get() }
      #expect(text.contains("has the setting seed: 7, but rank 0"), "\(text)")
      #expect(text.contains("has seed: 1"), "\(text)")
    }
    for result in try asRanks(2, { try $0.requireSame([("version", "1")]) }) { try result.get() }
    let versions = try asRanks(2) { group in
      try group.requireSame([("version", group.rank == 1 ? "0.9" : "1.0")])
    }
    for result in versions {
      let text = message { try result.get() }
      #expect(text.contains("has version 0.9, but rank 0 on "), "\(text)")
    }
  }
}
