import Foundation
import Torch

/// The part of a dataset that one of several processes works on: every `count`-th sample, from the
/// `index`-th on.
public struct ProcessShare: Equatable, Sendable {
  public let index: Int
  public let count: Int
  /// The process's number on its machine, which chooses its GPU.
  public let localIndex: Int

  public static let whole = ProcessShare(index: 0, count: 1, localIndex: 0)

  init(index: Int, count: Int, localIndex: Int) {
    (self.index, self.count, self.localIndex) = (index, count, localIndex)
  }

  /// As the launcher says, by the ranks in the environment. Outside of one, the whole.
  ///
  /// - Throws: `Issue` for a variable that is missing or out of range.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let ranks = try ProcessRanks(environment: environment) ?? .single
    self.init(index: ranks.rank, count: ranks.worldSize, localIndex: ranks.localRank)
  }

  func contains(_ sample: Int) -> Bool { sample % count == index }

  /// Of names of files that each process writes for itself: empty for a single one.
  public var suffix: String { count == 1 ? "" : "-\(index)-of-\(count)" }
}
