import ArgumentParser
import LTX
import LoRAFiles
import Support
import TensorFiles

struct TinyModelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tiny-model",
    abstract: "Write a small random model in the layout of LTX-2, for trying the commands.",
    discussion: """
      Writes the checkpoint \(TinyModel.checkpointName), the text encoder's folder \
      \(TinyModel.textEncoderName)/, a spatial and a temporal latent upsampler, and a LoRA for the second stage. \
      The same seed gives the same bytes.

      Example:

        ltx tiny-model model
      """)

  @Argument(
    help: ArgumentHelp("The folder to write to; created if it does not exist.", valueName: "dir"))
  var folder: String

  @Option(help: "The published model whose layout to use: 2 (LTX-2) or 2.3 (LTX-2.3).")
  var generation: TinyModel.Generation = .ltx2

  @Option(help: "The seed of the random weights.")
  var seed: UInt64 = 42

  @Flag(help: "Write into a folder that is not empty, replacing files of the same names.")
  var overwrite = false

  func run() throws {
    if let problem = OutputFolder.problem(folder) {
      printError("error: \(folder) \(problem)")
      throw ExitCode(2)
    }
    _ = try checkingInput { try TinyModel.check(folder: folder, isOverwriting: overwrite) }
    let files = try working {
      try TinyModel.write(
        to: folder, generation: generation, seed: seed, isOverwriting: overwrite)
    }
    print(
      """
      \(files.checkpoint)
      \(files.textEncoder)/
      \(files.spatialUpsampler)
      \(files.temporalUpsampler)
      \(files.distilledLoRA)
      """)
  }
}

extension TinyModel.Generation: ExpressibleByArgument {}
