/// The part of a list of independent items, such as clips or prompts, that one of several processes
/// works on: every `count`-th item, starting with the `index`-th.
public struct WorkShare: Equatable, Sendable {
  public let index: Int
  public let count: Int

  /// All items.
  public static let whole = WorkShare(index: 0, count: 1)

  /// - Parameters:
  ///   - index: The number of the process, from 0 to `count` - 1.
  ///   - count: The number of processes.
  public init(index: Int, count: Int) { (self.index, self.count) = (index, count) }

  public func contains(_ item: Int) -> Bool { item % count == index }

  /// The indices of this share's items, in order.
  ///
  /// - Parameter total: The number of items of all shares.
  public func items(of total: Int) -> StrideTo<Int> { stride(from: index, to: total, by: count) }

  /// The number of this share's items.
  public func count(of total: Int) -> Int { max(0, (total - index + count - 1) / count) }

  /// The number of items of the largest share.
  public func largest(of total: Int) -> Int { (total + count - 1) / count }

  /// The suffix of files that each process writes for itself; empty for a single process.
  public var suffix: String { count == 1 ? "" : "-\(index)-of-\(count)" }
}
