import ArgumentParser
@preconcurrency import Glibc  // its `stdout` is a variable; nothing here sets it

@main
struct LTXCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ltx",
    abstract: "Fine-tune LTX-2, the open audio-video diffusion transformer.",
    version: "0.1.0",
    subcommands: [
      TinyModelCommand.self, SplitCommand.self, ReferenceCommand.self, PreprocessCommand.self,
      DatasetCommand.self,
      DecodeCommand.self, ConfigCommand.self, TrainCommand.self, LaunchCommand.self, GenerateCommand.self,
      LoRACommand.self,
      InspectCommand.self,
      ProbeCommand.self,
    ])

  static func main() {
    setlinebuf(stdout)  // in a log, lines keep their order with those of standard error
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch {
      let code = exitCode(for: error)
      guard code.rawValue == EX_USAGE else { exit(withError: error) }
      // A command line that can't be read is bad input like any other.
      printError(fullMessage(for: error))
      Glibc.exit(2)
    }
  }
}
