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
      With --split, each component of LTX-2.5 has a file of its own. The same seed gives the same bytes.

      Example:

        ltx tiny-model model
      """)

  @Argument(
    help: ArgumentHelp("The folder to write to; created if it does not exist.", valueName: "dir"))
  var folder: String

  @Option(
    help: "The published model whose layout to use: 2 (LTX-2), 2.3 (LTX-2.3) or 2.5 (LTX-2.5).")
  var generation: TinyModel.Generation = .ltx2

  @Flag(help: "Write a file for each component, as LTX-2.5 is published too.")
  var split = false

  @Option(help: "The seed of the random weights.")
  var seed: UInt64 = 42

  @Flag(help: "Write into a folder that is not empty, replacing files of the same names.")
  var overwrite = false

  func validate() throws {
    guard !split || generation == .ltx25 else {
      throw ValidationError("--split: only LTX-2.5 is published so. Add --generation 2.5.")
    }
  }

  func run() throws {
    if let problem = OutputFolder.problem(folder) {
      printError("error: \(folder) \(problem)")
      throw ExitCode(2)
    }
    _ = try checkingInput { try TinyModel.check(folder: folder, isOverwriting: overwrite) }
    let files = try working {
      try TinyModel.write(
        to: folder, generation: generation, isSplit: split, seed: seed, isOverwriting: overwrite)
    }
    for path in files.paths { print(isFolder(path) ? path + "/" : path) }
  }
}

extension TinyModel.Generation: ExpressibleByArgument {}
