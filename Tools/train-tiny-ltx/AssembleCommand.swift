import ArgumentParser
import Foundation
import Support
import TinyTraining

/// `train-tiny-ltx assemble`: the files of the stages as one model.
struct AssembleCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "assemble",
    abstract: "Write the model from the stages' files: a checkpoint and a text encoder.",
    discussion: """
      Writes \(TinyCheckpoint.name), \(TinyCheckpoint.textEncoderName)/ and \
      \(TinyCheckpoint.checksumsName) into a folder. Without --transformer, the transformer has \
      the weights that its training begins with.

      Example:

        train-tiny-ltx assemble initial --video-vae stages/video-vae/vae.safetensors \\
          --audio-vae stages/audio-vae/vae.safetensors \\
          --vocoder stages/vocoder/vocoder.safetensors --text-encoder stages/text-encoder/gemma
      """)

  @Argument(help: ArgumentHelp("The folder to write to.", valueName: "folder"))
  var folder: String

  @Option(help: ArgumentHelp("The file of the video VAE's stage.", valueName: "file"))
  var videoVae: String

  @Option(help: ArgumentHelp("The file of the audio VAE's stage.", valueName: "file"))
  var audioVae: String

  @Option(help: ArgumentHelp("The file of the vocoder's stage.", valueName: "file"))
  var vocoder: String

  @Option(help: ArgumentHelp("The text encoder's folder.", valueName: "folder"))
  var textEncoder: String

  @Option(
    help: ArgumentHelp(
      "The trained transformer, a file that full fine-tuning saved.", valueName: "file"))
  var transformer: String?

  @Option(help: "The seed of the transformer's initial weights and of the frozen text layers.")
  var seed: UInt64 = 1

  func run() throws {
    try makeFolder(folder)
    let checkpoint = "\(folder)/\(TinyCheckpoint.name)"
    try TinyCheckpoint.writeInitial(
      .init(videoVAE: videoVae, audioVAE: audioVae, vocoder: vocoder), seed: seed, to: checkpoint)
    if let transformer {
      try TinyCheckpoint.write(initial: checkpoint, transformer: transformer, to: checkpoint)
    }
    try TinyCheckpoint.copyTextEncoder(textEncoder, to: folder)
    try TinyCheckpoint.verify(folder)
    let bytes = try TinyCheckpoint.writeChecksums(folder)
    print("\(checkpoint)\n\(bytes) bytes in all")
  }
}
