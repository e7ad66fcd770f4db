import ArgumentParser

@main
struct LTXCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ltx",
    abstract: "Fine-tune LTX-2, the open audio-video diffusion transformer.",
    version: "0.1.0",
    subcommands: [SplitCommand.self, PreprocessCommand.self, ProbeCommand.self])
}
