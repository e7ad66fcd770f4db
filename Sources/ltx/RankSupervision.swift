import ArgumentParser
import Foundation
import Support
import Synchronization
import Torch

/// Ends this process if another rank of its group has ended, and tells the others if this one fails.
struct RankSupervision {
  private let group: ProcessGroup
  /// Nil in a group of one.
  private let watch: RankWatch?
  private let end: End

  /// Whether this process is ending because of another rank.
  private final class End: Sendable {
    let hasBegun = Atomic<Bool>(false)
  }

  init(_ group: ProcessGroup) throws {
    let end = End()
    (self.group, self.end) = (group, end)
    watch = try ltx.checkingInput {
      try group.watch { [weak group] loss in
        // The main thread may wait for the other rank forever. Everything that this process writes
        // appears whole or not at all.
        end.hasBegun.store(true, ordering: .releasing)
        printError("error: \(loss.message)")
        // A kernel that waits for the other rank would keep the process from ending.
        group?.abort()
        _exit(loss.status)
      }
    }
  }

  /// `checkingInput` for what a rank needs before it joins the others: its device and settings.
  ///
  /// If they can't be used, the rank joins the others only to say so: otherwise they would wait for
  /// it.
  static func checkingBeforeJoining<R>(_ names: SubjectTable, _ body: () throws -> R) throws -> R {
    let reason: String
    do {
      return try body()
    } catch let code as ExitCode {
      throw code
    } catch {
      reason = names.message(of: error)
    }
    printError("error: \(reason)")
    let timeouts = ProcessGroup.Timeouts(joining: .seconds(60))
    // If the others can't be reached, they find out that this rank is missing.
    if let group = try? ProcessGroup.fromEnvironment(timeouts: timeouts),
      let watch = try? group.watch(whenLost: { _ in })
    {
      watch.report(reason, status: 2)
    }
    throw ExitCode(2)
  }

  /// `checkingInput` for one of several ranks.
  func checkingInput<R>(_ names: SubjectTable, _ body: () throws -> R) throws -> R {
    try ltx.checkingInput(names) { try telling(status: 2, names, body) }
  }

  /// `working` for one of several ranks.
  func working<R>(_ names: SubjectTable, _ body: () throws -> R) throws -> R {
    try ltx.working(names) { try telling(status: 1, names, body) }
  }

  /// Tells the others that this rank is done.
  func finish() { watch?.finish() }

  private func telling<R>(
    status: Int32, _ names: SubjectTable, _ body: () throws -> R
  ) throws -> R {
    guard let watch else { return try body() }
    do {
      return try body()
    } catch let code as ExitCode {
      throw code
    } catch {
      // An exchange that has been aborted; the reason is printed already.
      while end.hasBegun.load(ordering: .acquiring) { Thread.sleep(forTimeInterval: 1) }
      // The error must not wait for kernels that wait for other ranks.
      defer { group.abort() }
      if let error = error as? TorchError, error.kind == .collective,
        let loss = watch.explanation()
      {
        throw Issue(loss.message)
      }
      watch.report(names.message(of: error), status: status)
      throw error
    }
  }
}
