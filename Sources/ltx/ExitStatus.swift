// What a command answers: 0 when all was done, 1 when work failed on the way, 2 when the input
// can't be worked on.

import ArgumentParser
import Support

/// Runs the part of a command that reads and checks its input. What goes wrong there is the input's
/// fault.
func checkingInput<R>(_ body: () throws -> R) throws -> R { try reporting(status: 2, body) }

/// Runs the work itself.
func working<R>(_ body: () throws -> R) throws -> R { try reporting(status: 1, body) }

private func reporting<R>(status: Int32, _ body: () throws -> R) throws -> R {
  do {
    return try body()
  } catch let code as ExitCode {
    throw code
  } catch {
    printError("error: \(describe(error))")
    throw ExitCode(status)
  }
}
