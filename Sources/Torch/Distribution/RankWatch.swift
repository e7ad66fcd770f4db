import Dispatch
import Foundation
import Support
import Synchronization

/// Notices that another rank of a job has failed, hangs or is gone, long before a collective's
/// timeout, and says which one and why.
///
/// Each rank counts a number up in the store. The first rank checks that the numbers of all others
/// change, and the others check the first rank's. A rank that fails leaves its reason in the store.
public final class RankWatch: Sendable {
  /// The end of another rank.
  public struct Loss: Codable, Equatable, Sendable {
    public let message: String
    /// The exit status of the rank, for those that end because of it.
    public let status: Int32
  }

  /// The times of a watch.
  public struct Times: Sendable {
    /// The time between two signs of life.
    public var beat: Duration
    /// The time without a sign of life after which a rank counts as lost.
    public var limit: Duration

    /// - Parameter limit: at least a second.
    public init(limit: Duration = .seconds(60)) {
      self.limit = max(limit, .seconds(1))
      beat = min(.seconds(2), self.limit / 5)
    }

    /// Reads LTX_RANK_TIMEOUT, in seconds.
    ///
    /// - Throws: `Issue` for other text than a number of at least 1.
    init(environment: [String: String]) throws {
      guard let text = environment["LTX_RANK_TIMEOUT"] else {
        self.init()
        return
      }
      guard let seconds = Double(text), (1...1e6).contains(seconds) else {
        throw Issue(
          [.name("LTX_RANK_TIMEOUT")], "must be 1 or more seconds in the environment (got \(text))")
      }
      self.init(limit: .seconds(seconds))
    }
  }

  private let ranks: ProcessRanks
  private let store: RendezvousStore
  private let times: Times
  private let progress: @Sendable () -> Int
  private let whenLost: @Sendable (Loss) -> Void

  private struct State {
    /// The last signs of life of the others, as `sign` makes them, and the times at which they
    /// changed.
    var signs: [Int: (text: String, since: ContinuousClock.Instant)] = [:]
    /// Set while this rank waits for the reason of a failed collective: it then checks all others,
    /// and expects several signs of life of each in the time.
    var explainingSince: ContinuousClock.Instant?
    var loss: Loss?
    /// The time at which the store last answered. It is served by rank 0, or by the launcher.
    var lastAnswer = ContinuousClock.now
    var isFinished = false
    /// Whether this rank itself has failed.
    var hasFailed = false
  }
  private let state = Mutex(State())
  private let wake = DispatchSemaphore(value: 0)
  private let ended = DispatchSemaphore(value: 0)
  private let decided = DispatchSemaphore(value: 0)

  private static let failure = "failure"
  private static let done = "done"
  private static func sign(of rank: Int) -> String { "alive/\(rank)" }

  /// Starts to watch the other ranks of a group.
  ///
  /// - Parameters:
  ///   - progress: Returns the number of collectives that this rank has started.
  ///   - whenLost: Called at most once, on another thread, while this rank may be waiting in a
  ///     collective forever.
  /// - Throws: `TorchError` of kind `.collective` if the store can't be reached.
  init(
    _ ranks: ProcessRanks, at place: Rendezvous, times: Times,
    progress: @escaping @Sendable () -> Int = { 0 }, whenLost: @escaping @Sendable (Loss) -> Void
  ) throws {
    (self.ranks, self.times, self.progress, self.whenLost) = (ranks, times, progress, whenLost)
    var served = place
    served.isServed = true
    store = try RendezvousStore(served, ranks: ranks, timeout: .seconds(60))
    Thread.detachNewThread { [self] in
      watch()
      ended.signal()
    }
    Thread.detachNewThread { [self] in watchStore() }
  }

  /// Ends the watch of a rank that has done its work. The first rank waits a while for the others,
  /// because it usually serves the store.
  public func finish() {
    guard stop(), !state.withLock({ $0.hasFailed || $0.loss != nil }) else { return }
    try? store.set(Self.sign(of: ranks.rank), Self.done)  // an unreachable store is watched no more
    guard ranks.rank == 0 else { return }
    wait(upTo: times.limit) { other in store.text(Self.sign(of: other)) == Self.done }
  }

  /// Tells the others that this rank ends with an error, and waits a moment until they know.
  ///
  /// - Parameters:
  ///   - reason: The message of the error.
  ///   - status: The exit status of this rank.
  public func report(_ reason: String, status: Int32) {
    let loss = Loss(
      message: "rank \(ranks.rank) on \(Host.name) failed: \(reason)", status: status)
    let isAnswered = stop()
    let isFirst = state.withLock { state in
      state.hasFailed = true
      return state.loss == nil
    }
    guard isAnswered, isFirst else { return }
    publish(loss)
    wait(upTo: times.beat * 3) { other in
      store.text("seen/\(other)") != nil || store.text(Self.sign(of: other)) == Self.done
    }
  }

  /// Returns the rank that made a collective fail, once it is known; nil if all ranks are alive and
  /// have started as many collectives.
  public func explanation() -> Loss? {
    let started = progress()
    state.withLock { $0.explainingSince = .now }
    wake.signal()
    _ = decided.wait(timeout: .now() + (times.beat * 6).seconds)
    return state.withLock { state in
      let silence = ContinuousClock.now - state.lastAnswer
      return state.loss
        ?? (silence > times.beat * 3 ? storeLoss(silence) : late(state.signs, behind: started))
    }
  }

  /// The rank that is alive but has started the fewest collectives, if it is behind this one: its
  /// main thread hangs, while its signs of life come from another thread.
  private func late(
    _ signs: [Int: (text: String, since: ContinuousClock.Instant)], behind started: Int
  ) -> Loss? {
    let others = signs.compactMap { other, sign -> (rank: Int, host: String, started: Int)? in
      let words = sign.text.split(separator: " ")
      guard words.count == 3, let number = Int(words[2]) else { return nil }
      return (other, String(words[1]), number)
    }
    guard let last = others.min(by: { ($0.started, $0.rank) < ($1.started, $1.rank) }),
      last.started < started
    else { return nil }
    return Loss(
      message: "rank \(last.rank) on \(last.host) is alive, but did not take part in an exchange "
        + "that rank \(ranks.rank) waited for", status: 1)
  }

  /// Ends the signs of life of this rank.
  ///
  /// - Returns: Whether the store answers.
  @discardableResult
  func stop() -> Bool {
    state.withLock { $0.isFinished = true }
    wake.signal()
    let isEnded = ended.wait(timeout: .now() + (times.beat * 3).seconds) == .success
    if isEnded { ended.signal() }
    return isEnded
  }

  private func watch() {
    var count = 0
    while !state.withLock(\.isFinished) {
      count += 1
      let loss = check(count)
      state.withLock { $0.lastAnswer = .now }
      if let loss {
        lose(loss)
        return
      }
      _ = wake.wait(timeout: .now() + times.beat.seconds)
    }
  }

  /// Notices that the store does not answer, which the thread that asks it waits for.
  private func watchStore() {
    while !state.withLock({ $0.isFinished || $0.loss != nil }) {
      Thread.sleep(forTimeInterval: times.beat.seconds)
      let silence = state.withLock { ContinuousClock.now - $0.lastAnswer }
      if silence > times.limit { lose(storeLoss(silence)) }
    }
  }

  private func storeLoss(_ silence: Duration) -> Loss {
    Loss(
      message: "rank 0 on \(store.place.host) is gone or hangs: no answer for "
        + "\(silence.components.seconds) s", status: 1)
  }

  private func lose(_ loss: Loss) {
    let isExpected = state.withLock { state in
      defer { state.loss = state.loss ?? loss }
      return state.loss != nil || state.isFinished || state.explainingSince != nil
    }
    decided.signal()
    if !isExpected { whenLost(loss) }
  }

  private func check(_ count: Int) -> Loss? {
    do {
      try store.set(Self.sign(of: ranks.rank), "\(count) \(Host.name) \(progress())")
      if let text = try store.get(Self.failure) {
        try store.set("seen/\(ranks.rank)", "1")
        return try JSON.decode(Loss.self, from: Data(text.utf8))
      }
      let explainingSince = state.withLock(\.explainingSince)
      let watched = ranks.rank == 0 || explainingSince != nil ? Array(0..<ranks.worldSize) : [0]
      for other in watched where other != ranks.rank {
        guard let silence = try silence(of: other, explainingSince) else { continue }
        let loss = Loss(
          message: "rank \(other)\(host(of: other)) is gone or hangs: no sign of life for "
            + "\(silence.components.seconds) s", status: 1)
        publish(loss)
        return loss
      }
      return nil
    } catch {
      return Loss(
        message: "rank 0 on \(store.place.host) is gone: the connection to it was lost", status: 1)
    }
  }

  /// The machine of a rank, for a sentence; empty if it has never given a sign of life.
  private func host(of other: Int) -> String {
    let sign = state.withLock { $0.signs[other]?.text ?? "" }
    return sign.split(separator: " ").dropFirst().first.map { " on \($0)" } ?? ""
  }

  /// The time since the last sign of life of a rank, if it is too long.
  private func silence(
    of other: Int, _ explainingSince: ContinuousClock.Instant?
  ) throws -> Duration? {
    let text = try store.get(Self.sign(of: other)) ?? ""
    guard text != Self.done else { return nil }
    let now = ContinuousClock.now
    return state.withLock { state in
      guard let last = state.signs[other], last.text == text else {
        state.signs[other] = (text, now)
        return nil
      }
      let since = last.since
      let isLost =
        now - since > times.limit
        || explainingSince.map { now - max(since, $0) > times.beat * 3 } ?? false
      return isLost ? now - since : nil
    }
  }

  /// Leaves a reason in the store, unless there is one already.
  private func publish(_ loss: Loss) {
    // If the store is gone, the others notice that.
    guard let text = try? String(decoding: JSON(encoding: loss).data(), as: UTF8.self),
      store.text(Self.failure) == nil
    else { return }
    try? store.set(Self.failure, text)
  }

  /// Waits until something holds for all others.
  private func wait(upTo limit: Duration, until holds: (Int) -> Bool) {
    let start = ContinuousClock.now
    let others = (0..<ranks.worldSize).filter { $0 != ranks.rank }
    while ContinuousClock.now - start < limit, !others.allSatisfy(holds) {
      Thread.sleep(forTimeInterval: 0.05)
    }
  }
}

extension Duration {
  fileprivate var seconds: Double { self / .seconds(1) }
}

extension ProcessGroup {
  /// Starts to watch the other ranks; nil in a group of one.
  ///
  /// - Parameter whenLost: Called at most once, on another thread, when another rank has ended; this
  ///   one may be waiting for it.
  /// - Throws: `TorchError` of kind `.collective`, `Issue` for an invalid LTX_RANK_TIMEOUT.
  public func watch(
    environment: [String: String] = ProcessInfo.processInfo.environment,
    whenLost: @escaping @Sendable (RankWatch.Loss) -> Void
  ) throws -> RankWatch? {
    guard let place else { return nil }
    return try RankWatch(
      ranks, at: place, times: .init(environment: environment),
      progress: { [weak self] in self?.startedCollectives ?? 0 }, whenLost: whenLost)
  }

  /// Checks that facts are the same on all ranks.
  ///
  /// - Parameter facts: names and values; a value may have several lines.
  /// - Throws: `Issue` that names a rank, its machine and the first fact or line that differs; the
  ///   same on all ranks. `TorchError` of kind `.collective`.
  public func requireSame(_ facts: [(name: String, value: String)]) throws {
    guard worldSize > 1 else { return }
    let own = [Host.name] + facts.map(\.value)
    let all = try allGather(bytes: Array(JSON(encoding: own).data())).map {
      try JSON.decode([String].self, from: Data($0))
    }
    for (index, fact) in facts.enumerated() {
      guard let other = all.firstIndex(where: { $0[index + 1] != all[0][index + 1] }) else {
        continue
      }
      let (theirs, first) = Self.firstDifference(all[other][index + 1], all[0][index + 1])
      throw Issue(
        ["rank", .index(other)],
        "on \(all[other][0]) has \(fact.name) \(theirs), but rank 0 on \(all[0][0]) has \(first)",
        suggestion:
          "All ranks need the same program, configuration, dataset and model, and an output "
          + "folder that all of them see.")
    }
  }

  /// The first lines in which two texts differ.
  private static func firstDifference(_ a: String, _ b: String) -> (String, String) {
    let (a, b) = (
      a.split(separator: "\n", omittingEmptySubsequences: false),
      b.split(separator: "\n", omittingEmptySubsequences: false)
    )
    let index = (0..<max(a.count, b.count)).first { line in
      line >= a.count || line >= b.count || a[line] != b[line]
    }
    func words(_ lines: [Substring]) -> String {
      guard let index, index < lines.count else { return "nothing" }
      return lines[index].trimmingCharacters(in: .whitespaces)
    }
    return (words(a), words(b))
  }
}
