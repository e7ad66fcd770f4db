import Foundation
import Synchronization
import Torch

/// Runs `body` as each rank of a group, each on its own thread, and returns the ranks' results in
/// order. Gloo allows several ranks in one process.
public func asRanks<R: Sendable>(
  _ count: Int,
  timeouts: ProcessGroup.Timeouts = .init(joining: .seconds(60), collective: .seconds(60)),
  joining: [Int]? = nil, _ body: @escaping @Sendable (ProcessGroup) throws -> R
) throws -> [Result<R, any Error>] {
  // libtorch looks up host names when it connects, which a name server may delay by seconds. All
  // connections are made before the timeouts under test begin.
  var place = Rendezvous(host: "127.0.0.1", port: 0)
  var members: [(ranks: ProcessRanks, store: RendezvousStore)] = []
  for rank in joining ?? Array(0..<count) {
    let ranks = ProcessRanks(rank: rank, worldSize: count, localRank: rank)
    members.append((ranks, try RendezvousStore(place, ranks: ranks, timeout: .seconds(300))))
    place.port = members[0].store.place.port
  }
  let results = Mutex([Int: Result<R, any Error>]())
  let done = DispatchGroup()
  for (ranks, store) in members {
    done.enter()
    Thread.detachNewThread {
      let result = Result {
        try body(ProcessGroup(ranks, meetingIn: store, backend: .gloo, timeouts: timeouts))
      }
      results.withLock { $0[ranks.rank] = result }
      done.leave()
    }
  }
  done.wait()
  return results.withLock { all in all.keys.sorted().compactMap { all[$0] } }
}
