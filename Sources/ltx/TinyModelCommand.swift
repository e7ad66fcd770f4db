import ArgumentParser
import LTX
import LoRAFiles
import Support
import TensorFiles

struct TinyModelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tiny-model",
    abstract: "Write a small random model in the layout of LTX-2, to try the commands on.",
    discussion: """
      Writes \(TinyModel.checkpointName), the text encoder's folder \(TinyModel.textEncoderName)/, a spatial and a temporal \
      latent upsampler, and a LoRA for the second stage into the folder. The same seed gives the same bytes.
      """)

  @Argument(help: ArgumentHelp("The folder to write to; made if there is none.", valueName: "dir"))
  var folder: String

  @Option(help: "The published model to be like: 2 (LTX-2) or 2.3 (LTX-2.3).")
  var generation: TinyModel.Generation = .ltx2

  @Option(help: "What the random weights are drawn from.")
  var seed: UInt64 = 42

  @Flag(help: "Write into a folder that is not empty, over files of the same names.")
  var overwrite = false

  func run() throws {
    if let problem = OutputFolder.problem(folder) {
      printError("error: \(folder) \(problem)")
      throw ExitCode(2)
    }
    let files = try checkingInput {
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
