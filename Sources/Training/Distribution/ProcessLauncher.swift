import Dispatch
import Foundation
import Synchronization

/// Starts a plan's processes and waits for them. When one fails, the others are ended; signals are passed on.
///
/// Rank 0 writes where this process does; lines of the others get their rank in front. None of them reads input.
public final class ProcessLauncher: Sendable {
  public let plan: LaunchPlan
  private let gracePeriod: Duration
  private let notify: @Sendable (String) -> Void
  private let output: FileHandle
  private let errors: FileHandle

  /// What the handlers of ends and signals share.
  private struct State {
    /// By rank. A process leads a process group of its own, so signals reach what it has started, too.
    var running: [Int: pid_t] = [:]
    /// Whether they were asked to end because one failed, or by a signal.
    var isEnding = false
    var isInterrupted = false
    /// That of the first process that failed.
    var status: Int32?
  }

  private let state = Mutex(State())
  private let allEnded = DispatchGroup()
  private let queue = DispatchQueue(label: "launcher")

  /// - Parameters:
  ///   - gracePeriod: how long processes that are to end may take before they are killed.
  ///   - notify: is told what happens to the processes.
  public init(
    _ plan: LaunchPlan, gracePeriod: Duration = .seconds(30), output: FileHandle = .standardOutput,
    errors: FileHandle = .standardError, notify: @escaping @Sendable (String) -> Void
  ) {
    self.plan = plan
    (self.gracePeriod, self.output, self.errors, self.notify) = (gracePeriod, output, errors, notify)
  }

  /// Runs all processes to their end.
  ///
  /// - Returns: 0, or the exit status of the first process that failed, 128 + the signal's number if a signal ended it.
  /// - Throws: what `Process.run` throws, after ending the processes that had been started.
  public func run() throws -> Int32 {
    let sources = passSignalsOn()
    defer { sources.forEach { $0.cancel() } }
    var prefixers: [LinePrefixer] = []
    defer { prefixers.forEach { $0.finish() } }
    do {
      for rank in plan.ranks { prefixers += try start(rank) }
    } catch {
      end(because: nil)
      allEnded.wait()
      throw error
    }
    allEnded.wait()
    return state.withLock { $0.status ?? 0 }
  }

  private func start(_ rank: Int) throws -> [LinePrefixer] {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: plan.executable)
    process.arguments = plan.arguments
    process.environment = plan.environment(
      of: rank, base: ProcessInfo.processInfo.environment,
      processors: ProcessInfo.processInfo.activeProcessorCount)
    process.standardInput = FileHandle.nullDevice
    var prefixers: [LinePrefixer] = []
    if rank == 0 {
      process.standardOutput = output
      process.standardError = errors
    } else {
      prefixers = [output, errors].map { LinePrefixer("[\(rank)] ", to: $0) }
      process.standardOutput = prefixers[0].pipe
      process.standardError = prefixers[1].pipe
    }
    process.terminationHandler = { [self] process in
      let signalled = process.terminationReason == .uncaughtSignal
      ended(rank, status: process.terminationStatus, bySignal: signalled)
    }
    allEnded.enter()
    // Within the lock, so that a process which ends at once is entered before it is taken out.
    let isTooLate = try state.withLock { state in
      do { try process.run() } catch {
        allEnded.leave()
        throw error
      }
      state.running[rank] = process.processIdentifier
      return state.isEnding
    }
    if isTooLate { send(SIGTERM, to: [process.processIdentifier]) }
    prefixers.forEach { $0.start() }
    return prefixers
  }

  private func ended(_ rank: Int, status: Int32, bySignal: Bool) {
    let status = bySignal ? 128 + status : status
    let isFirst = state.withLock { state in
      state.running[rank] = nil
      guard status != 0, state.status == nil else { return false }
      state.status = status
      return true
    }
    if isFirst {
      end(
        because: bySignal
          ? "signal \(status - 128) ended rank \(rank)" : "rank \(rank) failed with status \(status)")
    }
    allEnded.leave()
  }

  /// Asks the processes to end; kills them if they don't.
  private func end(because reason: String?) {
    let (isInterrupted, running) = state.withLock { state in
      state.isEnding = true
      return (state.isInterrupted, Array(state.running.values))
    }
    // A signal that was passed on has asked them already, and a second one may keep them from ending in good order.
    if !isInterrupted {
      if let reason { notify(reason + (running.isEmpty ? "" : "; the others are ended")) }
      send(SIGTERM, to: running)
    }
    let (seconds, attoseconds) = gracePeriod.components
    queue.asyncAfter(deadline: .now() + Double(seconds) + Double(attoseconds) / 1e18) { [self] in
      let left = state.withLock(\.running)
      guard !left.isEmpty else { return }
      notify(
        "killed, since they did not end: rank \(left.keys.sorted().map(String.init).joined(separator: ", "))")
      send(SIGKILL, to: Array(left.values))
    }
  }

  private func send(_ number: Int32, to processes: [pid_t]) {
    // The group may be gone already; the process's end is what counts, and is waited for.
    for process in processes where kill(-process, number) != 0 { kill(process, number) }
  }

  private func passSignalsOn() -> [any DispatchSourceSignal] {
    [SIGINT, SIGTERM, SIGHUP].compactMap { number in
      // A handler, not SIG_IGN, because processes inherit what is ignored. The source gets the signal too.
      let previous = signal(number) { _ in }
      if number == SIGHUP, unsafeBitCast(previous, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self) {
        signal(number, SIG_IGN)  // nohup
        return nil
      }
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler { [self] in
        send(
          number,
          to: state.withLock { state in
            (state.isEnding, state.isInterrupted) = (true, true)
            return Array(state.running.values)
          })
      }
      source.resume()
      return source
    }
  }
}
