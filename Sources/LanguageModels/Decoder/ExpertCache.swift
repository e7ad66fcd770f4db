import NN
import Synchronization
import Torch

/// The matrices of one expert, which are read when it is used.
struct DeferredExpert: Sendable {
  let gate: DeferredWeight
  let up: DeferredWeight
  let down: DeferredWeight

  init(_ w: Weights, width: Int, inner: Int) throws {
    gate = try (w / "gate_proj").deferredWeight("weight", shape: [inner, width])
    up = try (w / "up_proj").deferredWeight("weight", shape: [inner, width])
    down = try (w / "down_proj").deferredWeight("weight", shape: [width, inner])
  }

  private var weights: [DeferredWeight] { [gate, up, down] }

  /// The bytes in memory once the expert is loaded.
  var byteCount: Int { weights.reduce(0) { $0 + $1.byteCount } }

  func prepareToLoad() { for weight in weights { weight.prepareToLoad() } }

  func load() throws -> Expert {
    Expert(gate: try gate.load(), up: try up.load(), down: try down.load())
  }

  func release() { for weight in weights { weight.release() } }
}

/// An expert in memory.
struct Expert: Sendable {
  let gate: any StoredWeight
  let up: any StoredWeight
  let down: any StoredWeight

  /// - Parameter x: [R, D]
  /// - Returns: [R, D]
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let gated = try gate.matmul(x)
    try gated.silu_()
    try gated.multiply_(by: up.matmul(x))
    return try down.matmul(gated)
  }
}

/// The experts of all layers that are in memory: those that were used last, up to a limit.
final class ExpertCache: Sendable {
  struct Name: Hashable, Sendable {
    let layer: Int
    let expert: Int
  }

  private struct Entry {
    let expert: Expert
    let source: DeferredExpert
    /// The number of the last use.
    var lastUse: Int
  }

  private struct State {
    var entries: [Name: Entry] = [:]
    var bytes = 0
    var useCount = 0
    /// All uses, from the first one on. Only the last use of an entry counts.
    var uses: [(name: Name, number: Int)] = []
    /// The uses before this index are done with.
    var firstUse = 0
  }

  /// In bytes; nil for no limit.
  let limit: Int?
  private let state = Mutex(State())

  /// - Parameter limit: The max bytes of the experts in memory. One expert is always allowed.
  init(limit: Int? = nil) { self.limit = limit }

  /// The bytes of the experts in memory.
  var byteCount: Int { state.withLock { $0.bytes } }

  /// The number of experts in memory.
  var count: Int { state.withLock { $0.entries.count } }

  func contains(_ name: Name) -> Bool { state.withLock { $0.entries[name] != nil } }

  /// Returns an expert, which is loaded unless it is in memory.
  func expert(_ name: Name, from source: DeferredExpert) throws -> Expert {
    let found = state.withLock { state -> Expert? in
      guard let entry = state.entries[name] else { return nil }
      Self.noteUse(of: name, &state, isLimited: limit != nil)
      return entry.expert
    }
    if let found { return found }
    if let limit { makeRoom(limit - source.byteCount) }
    let expert = try source.load()
    state.withLock { state in
      guard state.entries[name] == nil else { return }
      state.entries[name] = Entry(expert: expert, source: source, lastUse: 0)
      state.bytes += source.byteCount
      Self.noteUse(of: name, &state, isLimited: limit != nil)
    }
    return expert
  }

  /// Removes experts, the one that was used longest ago first, until the rest fits.
  private func makeRoom(_ limit: Int) {
    let removed = state.withLock { state in
      var removed: [DeferredExpert] = []
      while state.bytes > limit, state.firstUse < state.uses.count {
        let use = state.uses[state.firstUse]
        state.firstUse += 1
        guard let entry = state.entries[use.name], entry.lastUse == use.number else { continue }
        state.entries[use.name] = nil
        state.bytes -= entry.source.byteCount
        removed.append(entry.source)
      }
      return removed
    }
    for expert in removed { expert.release() }
  }

  private static func noteUse(of name: Name, _ state: inout State, isLimited: Bool) {
    guard isLimited else { return }
    state.useCount += 1
    state.entries[name]?.lastUse = state.useCount
    // Uses that don't count are dropped now and then, so that the list stays short.
    if state.uses.count >= 1024, state.uses.count >= 4 * state.entries.count {
      state.uses = state.uses[state.firstUse...].filter {
        state.entries[$0.name]?.lastUse == $0.number
      }
      state.firstUse = 0
    }
    state.uses.append((name, state.useCount))
  }
}
