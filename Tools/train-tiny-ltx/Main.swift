import ArgumentParser

@main
struct TrainTinyLTX: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train-tiny-ltx",
    abstract: "Train the small model that comes with the project.",
    discussion: "Exit status: 3 if --minutes stopped the training; the same command resumes it.",
    subcommands: [
      VideoVAECommand.self, AudioVAECommand.self, VocoderCommand.self, TextEncoderCommand.self,
      AssembleCommand.self, ProbeTextCommand.self, EvaluateCommand.self,
    ])

  /// The status after `--minutes` has stopped a training.
  static let stopped = ExitCode(3)
}
