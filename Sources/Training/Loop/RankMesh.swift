import Support
import Torch

/// The ranks of a run with sharded weights: copies of the model, each divided among as many ranks.
///
/// Neighboring ranks share a copy, because launchers number the ranks of a machine one after the
/// other. With several copies, this is hybrid sharding: weights are gathered within a machine, and
/// only parts of the gradients travel between machines.
struct RankMesh: Sendable {
  let all: ProcessGroup
  /// The ranks among which this rank's copy is divided.
  let shards: ProcessGroup
  /// The ranks that hold the same part of the other copies.
  let replicas: ProcessGroup

  /// - Throws: `ConfigurationProblems` if the ranks can't be divided as configured.
  init(_ all: ProcessGroup, _ c: TrainingConfiguration) throws {
    let size = all.worldSize
    guard c.acceleration.weightPlacement == .sharded else {
      (self.all, shards, replicas) = (all, all, .single)
      return
    }
    guard size > 1 else {
      throw c.problem(
        .weightPlacement,
        "is sharded, which needs several processes: start them with `ltx launch`, torchrun or srun")
    }
    let shardDegree = c.acceleration.shardDegree ?? size
    guard size.isMultiple(of: shardDegree) else {
      throw c.problem(
        .shardDegree, "is \(shardDegree), which does not divide the number of ranks, \(size)")
    }
    let (copy, part) = all.rank.quotientAndRemainder(dividingBy: shardDegree)
    let first = copy * shardDegree
    self.all = all
    shards = try all.subgroup(Array(first..<first + shardDegree))
    replicas = try all.subgroup(Array(stride(from: part, to: all.worldSize, by: shardDegree)))
  }

  /// Whether this rank holds a part of the copy that the first rank saves.
  var isOfFirstCopy: Bool { all.rank < shards.worldSize }
}
