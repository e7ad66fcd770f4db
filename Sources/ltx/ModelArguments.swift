import ArgumentParser
import LTX

/// The options that say where a model is.
struct ModelArguments: ParsableArguments {
  @Option(
    name: [.customLong("model-path"), .customLong("checkpoint-path")],
    help: ArgumentHelp("The LTX-2 checkpoint, with all components in one file.", valueName: "file"),
    completion: .file())
  var modelPath: String?

  @Option(
    help: ArgumentHelp(
      "In place of --model-path: the transformer's file, with the text connectors.", valueName: "file"),
    completion: .file())
  var transformerPath: String?

  @Option(
    name: [.customLong("text-encoder-path"), .customLong("gemma-root")],
    help: ArgumentHelp(
      "The text encoder, Gemma 3: its folder, or a file that holds all of it.", valueName: "path"),
    completion: .file())
  var textEncoderPath: String?

  @Option(
    help: ArgumentHelp(
      "The video VAE's file; beside --model-path, in place of the one in there.", valueName: "file"),
    completion: .file())
  var videoVaePath: String?

  @Option(
    help: ArgumentHelp(
      "The audio VAE's file, with the vocoder; beside --model-path, in place of those in there.",
      valueName: "file"),
    completion: .file())
  var audioVaePath: String?

  func validate() throws {
    if modelPath == nil, transformerPath == nil, videoVaePath == nil, audioVaePath == nil {
      throw ValidationError(
        "no model is given: name the checkpoint with --model-path, or the files of its components with "
          + "--transformer-path, --video-vae-path and --audio-vae-path")
    }
    if modelPath != nil, transformerPath != nil {
      throw ValidationError(
        "--transformer-path can't be given beside --model-path, which holds that component; leave one of them out"
      )
    }
  }

  var files: ModelFiles {
    if let modelPath {
      return ModelFiles(
        unified: modelPath, textEncoder: textEncoderPath, videoVAE: videoVaePath, audioVAE: audioVaePath)
    }
    return ModelFiles(
      transformer: transformerPath, textEncoder: textEncoderPath, videoVAE: videoVaePath,
      audioVAE: audioVaePath)
  }
}
