import ArgumentParser
import Glibc
import LTX
import LoRAFiles
import Support

@main
struct LTXCommand: ParsableCommand, PrintsItsResult {
  static let configuration = CommandConfiguration(
    commandName: "ltx",
    abstract: "Fine-tune LTX-2, the open audio-video diffusion transformer.",
    version: SwiftLTX.version,
    subcommands: [
      TinyModelCommand.self, DemoDataCommand.self, SplitCommand.self, CaptionCommand.self,
      ReferenceCommand.self, PreprocessCommand.self, DatasetCommand.self,
      DecodeCommand.self, ConfigCommand.self, TrainCommand.self, LaunchCommand.self,
      GenerateCommand.self,
      LoRACommand.self,
      QuantizeCommand.self,
      InspectCommand.self,
      ProbeCommand.self, DoctorCommand.self,
    ])

  static func main() {
    StandardStream.prepare()
    var printsResult = true  // help and the version, where no command is run
    var status: Int32 = 0
    do {
      var command = try parseAsRoot(
        LaunchCommand.withHyphens(Array(CommandLine.arguments.dropFirst())))
      if let train = command as? TrainCommand,
        let launch = try train.launch(Array(CommandLine.arguments.dropFirst()))
      {
        command = launch
      }
      printsResult = (command as? any PrintsItsResult)?.printsItsResult ?? false
      // The launcher forwards signals itself.
      if !(command is LaunchCommand) { Interruption.install() }
      try command.run()
    } catch {
      status = report(error, &printsResult)
    }
    Glibc.exit(checkingOutput(status, printsResult))
  }

  /// - Returns: the exit status.
  private static func report(_ error: any Error, _ printsResult: inout Bool) -> Int32 {
    if let code = error as? ExitCode { return code.rawValue }
    let code = exitCode(for: error)
    let arguments = CommandLine.arguments.dropFirst()
    if code.isSuccess, arguments.first == "help", let meant = suggestion(for: arguments.dropFirst())
    {
      printError("error: there is no such subcommand. Did you mean `\(meant) --help`?")
      return 2
    }
    if code.isSuccess {
      printsResult = true
      print(fullMessage(for: error))
      return 0
    }
    guard code.rawValue == EX_USAGE else {
      printError("error: \(describe(error))")
      return 1
    }
    // An invalid command line is bad input like any other.
    printError(fullMessage(for: error))
    if let meant = suggestion(for: arguments) {
      printError("Did you mean `\(meant)`?")
    }
    return 2
  }

  /// The names of the subcommands in other programs.
  private static let otherNames = [
    "finetune": "train", "fine-tune": "train", "infer": "generate", "inference": "generate",
    "sample": "generate",
    "cache": "preprocess", "prepare": "preprocess", "info": "inspect",
    "check": "doctor", "env": "doctor",
  ]

  /// The nearest subcommand to a mistyped one.
  private static func suggestion(for arguments: ArraySlice<String>) -> String? {
    var configuration = Self.configuration
    var path = "ltx"
    for argument in arguments {
      var byName: [String: CommandConfiguration] = [:]
      for subcommand in configuration.subcommands {
        let own = subcommand.configuration
        if let name = own.commandName { byName[name] = own }
      }
      guard let next = byName[argument] else {
        guard !argument.hasPrefix("-") else { return nil }
        // `ltx merge` for `ltx lora merge`.
        for (name, own) in byName.sorted(by: { $0.key < $1.key }) {
          for subcommand in own.subcommands where subcommand.configuration.commandName == argument {
            return "\(path) \(name) \(argument)"
          }
        }
        let named = otherNames[argument] ?? NearestName.find(argument, in: byName.keys.sorted())
        return named.map { "\(path) \($0)" }
      }
      configuration = next
      path += " " + argument
    }
    return nil
  }

  /// Reports a failure to write to standard output.
  ///
  /// - Returns: the exit status.
  private static func checkingOutput(_ status: Int32, _ printsResult: Bool) -> Int32 {
    guard let code = StandardStream.output.failure else { return status }
    let reason = "standard output: can't be written (\(describe(errno: code)))."
    guard printsResult else {
      printError("warning: \(reason) Files that were reported as written are complete.")
      return status
    }
    printError("error: \(reason) Redirect it to a place that can be written.")
    return status == 0 ? 1 : status
  }
}
