import ArgumentParser
import Foundation
import Support
import Torch

/// Ends this process if another rank of its group has ended, and tells the others if this one fails.
struct RankSupervision {
  /// Nil in a group of one.
  private let watch: RankWatch?

  init(_ group: ProcessGroup) throws {
    watch = try ltx.checkingInput {
      try group.watch { loss in
        // The main thread may wait for the other rank forever. Everything that this process writes
        // appears whole or not at all.
        printError("error: \(loss.message)")
        _exit(loss.status)
      }
    }
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
