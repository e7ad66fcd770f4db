import Foundation
import Support

extension WorkShare {
  /// The share of one of several processes.
  public init(_ ranks: ProcessRanks) { self.init(index: ranks.rank, count: ranks.worldSize) }

  /// The share that a launcher assigns to this process, by the ranks in the environment; all items
  /// without a launcher.
  ///
  /// - Throws: `Issue` for a variable that is missing or out of range.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    self.init(try ProcessRanks(environment: environment) ?? .single)
  }
}

extension ProcessGroup {
  /// This rank's share of work that the group divides.
  public var share: WorkShare { WorkShare(ranks) }
}
