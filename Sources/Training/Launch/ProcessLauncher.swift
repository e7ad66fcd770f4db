import CProcess
import Dispatch
import Foundation
import Support
import Synchronization

/// Starts a plan's processes and waits for them. If one fails, the others are terminated, and all
/// may be started again; signals are forwarded.
///
/// Rank 0 shares this process's output; the lines of other ranks are prefixed with the rank, or
/// written to files. No rank reads input.
public final class ProcessLauncher: Sendable {
  private let firstPlan: LaunchPlan
  private let shares: CoreShares
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

  /// The status of a command that can't use its input, which it could not the next time either.
  private static let badInput: Int32 = 2

  /// - Parameters:
  ///   - shares: the cores of each process.
  ///   - gracePeriod: the time that processes have to end before they are killed.
  ///   - notify: called with messages about the processes; must not call back.
  public init(
    _ plan: LaunchPlan, shares: CoreShares, gracePeriod: Duration = .seconds(30),
    output: FileHandle = .standardOutput,
    errors: FileHandle = .standardError, notify: @escaping @Sendable (String) -> Void
  ) {
    (firstPlan, self.shares) = (plan, shares)
    (self.gracePeriod, self.output, self.errors, self.notify) = (
      gracePeriod, output, errors, notify
    )
  }

  /// Runs all processes to their end, and again if one failed, as often as the plan says. They are
  /// not started again after a signal to the launcher or after status 2, which means bad input.
  ///
  /// - Returns: 0, or the exit status of the first process that failed; 128 + the signal's number
  ///   if a signal ended it.
  /// - Throws: `Issue` if one can't be started, after ending the processes that had been started,
  ///   or if the port of rank 0 is in use.
  public func run() throws -> Int32 {
    try firstPlan.requireFreePort()
    // Forked first, so that the guard does not inherit files that this process opens later.
    let launcherGuard = try LauncherGuard()
    let sources = passSignalsOn()
    defer { for source in sources { source.cancel() } }
    var plan = firstPlan
    while true {
      let status = try runOnce(plan, launcherGuard)
      let isInterrupted = state.withLock(\.isInterrupted)
      guard status != 0, status != Self.badInput, !isInterrupted, plan.restarts < plan.maxRestarts
      else { return status }
      try plan.restart()
      state.withLock { ($0.isEnding, $0.status) = ($0.isInterrupted, nil) }
      notify("starting all ranks again (restart \(plan.restarts) of \(plan.maxRestarts))")
    }
  }

  private func runOnce(_ plan: LaunchPlan, _ launcherGuard: LauncherGuard) throws -> Int32 {
    var copies: [OutputCopy] = []
    defer { for copy in copies { copy.finish() } }
    do {
      for rank in plan.ranks { copies += try start(rank, plan, launcherGuard) }
    } catch {
      end(because: nil)
      allEnded.wait()
      throw error
    }
    allEnded.wait()
    return state.withLock { $0.status ?? 0 }
  }

  private func start(
    _ rank: Int, _ plan: LaunchPlan, _ launcherGuard: LauncherGuard
  ) throws -> [OutputCopy] {
    let localRank = rank - plan.ranks.lowerBound
    let environment = plan.environment(
      of: rank, base: ProcessInfo.processInfo.environment,
      threads: shares.threads(of: localRank, processes: plan.processesPerNode))
    let copies = try outputCopies(of: rank, plan)
    let destinations = copies.isEmpty ? [output, errors] : copies.map(\.pipe.fileHandleForWriting)
    let child = try state.withLock { state in
      let child = try shares.binding(localRank) {
        try ChildProcess(
          plan.executable, plan.arguments, environment: environment, output: destinations[0],
          errors: destinations[1])
      }
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
    for copy in copies { try copy.start() }
    return copies
  }

  /// The copies of a rank's output and errors; empty if the rank writes to the launcher's own output.
  private func outputCopies(of rank: Int, _ plan: LaunchPlan) throws -> [OutputCopy] {
    guard let folder = plan.logFolder(of: rank) else {
      return rank == 0 ? [] : [output, errors].map { OutputCopy(prefix: "[\(rank)] ", to: $0) }
    }
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw Issue(["logFolder", .file(folder)], "can't be created (\(describe(error)))")
    }
    return try zip(["stdout.log", "stderr.log"], [output, errors]).map { name, terminal in
      let path = "\(folder)/\(name)"
      guard FileManager.default.createFile(atPath: path, contents: nil),
        let file = FileHandle(forWritingAtPath: path)
      else { throw Issue(["logFolder", .file(path)], "can't be written") }
      return OutputCopy(to: rank == 0 ? [file, terminal] : [file])
    }
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
    let (isInterrupted, asked) = state.withLock { state in
      state.isEnding = true
      // A forwarded signal has asked them already, and a second one may keep them from saving.
      if !state.isInterrupted {
        for child in state.running.values { child.send(SIGTERM) }
      }
      return (state.isInterrupted, state.running)
    }
    if let reason, !isInterrupted {
      notify(reason + (asked.isEmpty ? "" : "; stopping the others"))
    }
    let (seconds, attoseconds) = gracePeriod.components
    queue.asyncAfter(deadline: .now() + Double(seconds) + Double(attoseconds) / 1e18) { [self] in
      state.withLock { state in
        // Others may have been started since.
        let left = state.running.filter { $1.id == asked[$0]?.id }
        guard !left.isEmpty else { return }
        let ranks = left.keys.sorted().map(String.init).joined(separator: ", ")
        notify("killed because they did not end: rank \(ranks)")
        for child in left.values { child.send(SIGKILL) }
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
