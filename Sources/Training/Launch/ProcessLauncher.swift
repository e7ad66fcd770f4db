import CProcess
import Dispatch
import Foundation
import Support
import Synchronization

/// Starts a plan's processes and waits for them. If one fails, the others are terminated; signals
/// are forwarded.
///
/// Rank 0 shares this process's output; the lines of other ranks are prefixed with the rank. No
/// rank reads input.
public final class ProcessLauncher: Sendable {
  public let plan: LaunchPlan
  private let gracePeriod: Duration
  private let notify: @Sendable (String) -> Void
  private let output: FileHandle
  private let errors: FileHandle

  /// The state shared by the handlers of exits and signals.
  private struct State {
    var running: [Int: ChildProcess] = [:]
    /// Whether the processes were asked to end, because one failed or by a signal.
    var isEnding = false
    var isInterrupted = false
    /// The status of the first process that failed.
    var status: Int32?
  }

  private let state = Mutex(State())
  private let allEnded = DispatchGroup()
  private let queue = DispatchQueue(label: "launcher")

  /// - Parameters:
  ///   - gracePeriod: the time that processes have to end before they are killed.
  ///   - notify: called with messages about the processes; must not call back.
  public init(
    _ plan: LaunchPlan, gracePeriod: Duration = .seconds(30), output: FileHandle = .standardOutput,
    errors: FileHandle = .standardError, notify: @escaping @Sendable (String) -> Void
  ) {
    self.plan = plan
    (self.gracePeriod, self.output, self.errors, self.notify) = (
      gracePeriod, output, errors, notify
    )
  }

  /// Runs all processes to their end.
  ///
  /// - Returns: 0, or the exit status of the first process that failed; 128 + the signal's number
  ///   if a signal ended it.
  /// - Throws: `Issue` if one can't be started, after ending the processes that had been started.
  public func run() throws -> Int32 {
    // Forked first, so that the guard does not inherit files that this process opens later.
    let launcherGuard = try LauncherGuard()
    let sources = passSignalsOn()
    defer { for source in sources { source.cancel() } }
    var prefixers: [LinePrefixer] = []
    defer { for prefixer in prefixers { prefixer.finish() } }
    do {
      for rank in plan.ranks { prefixers += try start(rank, launcherGuard) }
    } catch {
      end(because: nil)
      allEnded.wait()
      throw error
    }
    allEnded.wait()
    return state.withLock { $0.status ?? 0 }
  }

  private func start(_ rank: Int, _ launcherGuard: LauncherGuard) throws -> [LinePrefixer] {
    let environment = plan.environment(
      of: rank, base: ProcessInfo.processInfo.environment,
      processors: ProcessInfo.processInfo.activeProcessorCount)
    let prefixers = rank == 0 ? [] : [output, errors].map { LinePrefixer("[\(rank)] ", to: $0) }
    let destinations = rank == 0 ? [output, errors] : prefixers.map(\.pipe.fileHandleForWriting)
    let child = try state.withLock { state in
      let child = try ChildProcess(
        plan.executable, plan.arguments, environment: environment, output: destinations[0],
        errors: destinations[1])
      state.running[rank] = child
      launcherGuard.report(child, isRunning: true)
      // Another rank may have failed already.
      if state.isEnding { child.send(SIGTERM) }
      return child
    }
    allEnded.enter()
    Thread.detachNewThread { [self] in
      child.wait()
      ended(rank, child)
      launcherGuard.report(child, isRunning: false)
      allEnded.leave()
    }
    for prefixer in prefixers { try prefixer.start() }
    return prefixers
  }

  private func ended(_ rank: Int, _ child: ChildProcess) {
    let failure: String? = state.withLock { state in
      state.running[rank] = nil
      let end = child.end()
      guard end != .status(0), state.status == nil else { return nil }
      switch end {
      case .status(let status):
        state.status = status
        return "rank \(rank) failed with status \(status)"
      case .signal(let number):
        state.status = 128 + number
        return "signal \(number) ended rank \(rank)"
      }
    }
    if let failure { end(because: failure) }
  }

  /// Asks the processes to end, and kills them if they don't.
  private func end(because reason: String?) {
    let (isInterrupted, areOthers) = state.withLock { state in
      state.isEnding = true
      // A forwarded signal has asked them already, and a second one may keep them from saving.
      if !state.isInterrupted {
        for child in state.running.values { child.send(SIGTERM) }
      }
      return (state.isInterrupted, !state.running.isEmpty)
    }
    if let reason, !isInterrupted { notify(reason + (areOthers ? "; stopping the others" : "")) }
    let (seconds, attoseconds) = gracePeriod.components
    queue.asyncAfter(deadline: .now() + Double(seconds) + Double(attoseconds) / 1e18) { [self] in
      state.withLock { state in
        guard !state.running.isEmpty else { return }
        let ranks = state.running.keys.sorted().map(String.init).joined(separator: ", ")
        notify("killed because they did not end: rank \(ranks)")
        for child in state.running.values { child.send(SIGKILL) }
      }
    }
  }

  private func passSignalsOn() -> [any DispatchSourceSignal] {
    [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2].compactMap { number in
      // A handler instead of SIG_IGN, because child processes inherit ignored signals. The source
      // gets the signal too.
      let previous = signal(number) { _ in }
      if number == SIGHUP,
        unsafeBitCast(previous, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
      {
        signal(number, SIG_IGN)  // nohup
        return nil
      }
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler { [self] in
        state.withLock { state in
          (state.isEnding, state.isInterrupted) = (true, true)
          for child in state.running.values { child.send(number) }
        }
      }
      source.resume()
      return source
    }
  }
}

/// Ends the launched processes if the launcher is killed and can't end them itself.
///
/// A separate process waits for the launcher's end. It then sends SIGTERM to each rank, so that the
/// rank saves and ends, and SIGKILL if the rank still runs after five minutes.
final class LauncherGuard: Sendable {
  private static let graceSeconds: Int32 = 300

  private let descriptor: Int32
  private let process: pid_t

  /// - Throws: `Issue` if the system can't start another process.
  init() throws {
    var process: pid_t = 0
    descriptor = cprocess_start_guard(Self.graceSeconds, &process)
    guard descriptor >= 0 else {
      throw Issue("no process can be started (\(describe(errno: errno)))")
    }
    self.process = process
  }

  deinit {
    close(descriptor)
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
  }

  /// Reports that a process that leads a group has started or ended.
  func report(_ child: ChildProcess, isRunning: Bool) {
    // If the guard was killed, the launcher still ends its processes itself.
    _ = cprocess_report_group(descriptor, child.id, isRunning ? 1 : 0)
  }
}
