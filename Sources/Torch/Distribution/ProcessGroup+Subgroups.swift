extension ProcessGroup {
  /// The group of some of this group's ranks, which exchange tensors among themselves.
  ///
  /// All ranks of this group must call this equally often, each with the ranks of its own subgroup.
  ///
  /// - Parameter members: Ranks of this group in ascending order, this one among them.
  /// - Returns: A group with ranks from 0, in the order of `members`.
  /// - Throws: `TorchError` of kind `.collective`.
  public func subgroup(_ members: [Int], timeouts: Timeouts = Timeouts()) throws -> ProcessGroup {
    precondition(members == members.sorted(), "ranks in ascending order")
    guard let rank = members.firstIndex(of: self.rank) else {
      preconditionFailure("rank \(self.rank) is not among \(members)")
    }
    guard members.count > 1, let place else { return .single }
    if members.count == worldSize { return self }
    var own = place
    own.isServed = true
    own.prefix += "/subgroup \(subgroups.withLock(\.count)) of \(members[0])"
    let group = try ProcessGroup(
      ProcessRanks(rank: rank, worldSize: members.count, localRank: localRank), at: own,
      device: device, backend: backend, timeouts: timeouts)
    subgroups.withLock { $0.append(group) }
    return group
  }
}
