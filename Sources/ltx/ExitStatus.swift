// The exit status of a command: 0 if everything was done, 1 if the work failed, 2 if the input
// can't be used.

import ArgumentParser
import Support

/// Runs the part of a command that reads and checks its input, where an error means status 2.
///
/// - Parameter names: the options for subjects of issues, in addition to those that all commands
///   share.
func checkingInput<R>(_ names: SubjectTable, _ body: () throws -> R) throws -> R {
  try reporting(status: 2, names, body)
}

func checkingInput<R>(_ body: () throws -> R) throws -> R { try checkingInput([:], body) }

/// Runs the work itself, where an error means status 1.
func working<R>(_ body: () throws -> R) throws -> R { try working([:], body) }

func working<R>(_ names: SubjectTable, _ body: () throws -> R) throws -> R {
  try reporting(status: 1, names, body)
}

private func reporting<R>(
  status: Int32, _ names: SubjectTable, _ body: () throws -> R
) throws -> R {
  do {
    return try body()
  } catch let code as ExitCode {
    throw code
  } catch {
    printError("error: \(names.message(of: error))")
    throw ExitCode(status)
  }
}

extension SubjectTable {
  /// The options that several commands share, by the subjects of the libraries.
  private static let sharedOptions: SubjectTable = [
    ["checkpoint"]: "--model-path",
    ["textEncoder"]: "--text-encoder-path",
    ["memory"]: "--memory",
    ["transformer"]: "--transformer-path",
    ["videoVAE"]: "--video-vae-path",
    ["audioVAE"]: "--audio-vae-path",
    ["durationHead"]: "--duration-head-path",
    ["device"]: "--device",
    ["audioTrack"]: "--audio-track",
  ]

  /// The message of an error, with the options in this table in place of subjects.
  func message(of error: any Error) -> String {
    let table = Self.sharedOptions.merging(self)
    return table.describe(error) ?? table.translate(Support.describe(error))
  }

  /// The text of a library's note or warning, with the options in this table in place of subjects.
  func message(_ text: String) -> String { Self.sharedOptions.merging(self).translate(text) }
}
