import ArgumentParser
import LTX
import TensorFiles

struct TinyModelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tiny-model",
    abstract: "Write a small random model in the layout of LTX-2, to try the commands on.",
    discussion: """
      Writes \(TinyModel.checkpointName) and the text encoder's folder \(TinyModel.textEncoderName)/ into the folder.
      The same seed gives the same bytes.
      """)

  @Argument(help: ArgumentHelp("The folder to write to; made if there is none.", valueName: "dir"))
  var folder: String

  @Option(help: "What the random weights are drawn from.")
  var seed: UInt64 = 42

  @Flag(help: "Write into a folder that is not empty, over files of the same names.")
  var overwrite = false

  func run() throws {
    if let problem = OutputFolder.problem(folder) {
      printError("error: \(folder) \(problem)")
      throw ExitCode(2)
    }
    do {
      let files = try TinyModel.write(to: folder, seed: seed, isOverwriting: overwrite)
      print("\(files.checkpoint)\n\(files.textEncoder)/")
    } catch let error as TinyModelError {
      printError("error: \(error)")
      throw ExitCode(error.kind == .notEmpty ? 2 : 1)
    }
  }
}
