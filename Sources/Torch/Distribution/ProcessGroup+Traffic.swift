import Synchronization

extension ProcessGroup {
  /// The collectives that a rank has taken part in.
  public struct Traffic: Sendable, Equatable {
    /// Collectives of one kind.
    public struct Total: Sendable, Equatable {
      public var calls = 0
      /// The bytes of the complete tensors: those that are summed, gathered from all ranks, divided
      /// among them, or copied.
      public var bytes = 0

      public init(calls: Int = 0, bytes: Int = 0) { (self.calls, self.bytes) = (calls, bytes) }
    }

    public var allReduce = Total()
    public var allGather = Total()
    public var reduceScatter = Total()
    public var broadcast = Total()

    public init() {}

    /// The number of collectives.
    var calls: Int { allReduce.calls + allGather.calls + reduceScatter.calls + broadcast.calls }

    /// The number of bytes that each rank has to send at least: 2 (N - 1) / N of those that are
    /// summed, and (N - 1) / N of those that are gathered or scattered. Broadcasts are left out,
    /// because ranks differ in them.
    public func sentBytes(ranks: Int) -> Double {
      let part = Double(ranks - 1) / Double(ranks)
      return part * Double(2 * allReduce.bytes + allGather.bytes + reduceScatter.bytes)
    }

    public static func - (a: Traffic, b: Traffic) -> Traffic {
      var difference = Traffic()
      for kind in [\Traffic.allReduce, \.allGather, \.reduceScatter, \.broadcast] {
        difference[keyPath: kind] = Total(
          calls: a[keyPath: kind].calls - b[keyPath: kind].calls,
          bytes: a[keyPath: kind].bytes - b[keyPath: kind].bytes)
      }
      return difference
    }
  }

  /// The number of collectives that this rank has started, those of its subgroups included.
  var startedCollectives: Int {
    traffic.calls + subgroups.withLock { $0.reduce(0) { $0 + $1.traffic.calls } }
  }

  /// The collectives of this rank so far.
  public var traffic: Traffic { counted.withLock { $0 } }

  /// Counts a collective that is about to start. A group of one exchanges nothing.
  func count(_ kind: WritableKeyPath<Traffic, Traffic.Total>, _ bytes: Int) {
    guard handle != nil else { return }
    counted.withLock {
      $0[keyPath: kind].calls += 1
      $0[keyPath: kind].bytes += bytes
    }
  }
}
