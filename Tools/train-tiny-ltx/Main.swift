import ArgumentParser

@main
struct TrainTinyLTX: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train-tiny-ltx",
    abstract: "Train the small model that comes with the project.",
    subcommands: [
      VideoVAECommand.self, AudioVAECommand.self, VocoderCommand.self, TextEncoderCommand.self,
      AssembleCommand.self, ProbeTextCommand.self, EvaluateCommand.self,
    ])
}
