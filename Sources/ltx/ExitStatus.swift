// The exit status of a command: 0 if all is done, 1 if the work failed, 2 if the input can't be
// used.

import ArgumentParser
import Support

/// Runs the part of a command that reads and checks its input. An error there is the input's fault.
///
/// - Parameter names: the options that subjects of issues stand for, beside those that all commands
///   share.
func checkingInput<R>(_ names: SubjectTable, _ body: () throws -> R) throws -> R {
  try reporting(status: 2, names, body)
}

func checkingInput<R>(_ body: () throws -> R) throws -> R { try checkingInput([:], body) }

/// Runs the work itself.
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
    ["transformer"]: "--transformer-path",
    ["videoVAE"]: "--video-vae-path",
    ["audioVAE"]: "--audio-vae-path",
    ["device"]: "--device",
    ["audioTrack"]: "--audio-track",
  ]

  /// Any error in the words of a command whose options are in this table.
  func message(of error: any Error) -> String {
    let table = Self.sharedOptions.merging(self)
    return table.describe(error) ?? table.translate(Support.describe(error))
  }

  /// A note or a warning of a library in the words of a command whose options are in this table.
  func message(_ text: String) -> String { Self.sharedOptions.merging(self).translate(text) }
}
