import ArgumentParser
import LTX

/// A checkpoint, and VAEs in files of their own.
struct CheckpointArguments: ParsableArguments {
  @Option(
    name: [.customLong("model-path"), .customLong("checkpoint-path")],
    help: ArgumentHelp("The LTX-2 checkpoint, with all components in one file.", valueName: "file"),
    completion: .file())
  var modelPath: String?

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

  /// Nil where none is given.
  func files(transformer: String? = nil, textEncoder: String? = nil) -> ModelFiles? {
    if let modelPath {
      return ModelFiles(
        unified: modelPath, transformer: transformer, textEncoder: textEncoder,
        videoVAE: videoVaePath,
        audioVAE: audioVaePath)
    }
    guard [transformer, videoVaePath, audioVaePath].contains(where: { $0 != nil }) else {
      return nil
    }
    return ModelFiles(
      transformer: transformer, textEncoder: textEncoder, videoVAE: videoVaePath,
      audioVAE: audioVaePath)
  }
}

/// The options that say where a model is.
struct ModelArguments: ParsableArguments {
  @OptionGroup var checkpoint: CheckpointArguments

  @Option(
    help: ArgumentHelp(
      "The transformer's file: beside --model-path, in place of the one in there; else with the text connectors.",
      valueName: "file"),
    completion: .file())
  var transformerPath: String?

  @Option(
    name: [.customLong("text-encoder-path"), .customLong("gemma-root")],
    help: ArgumentHelp(
      "The text encoder, Gemma 3: its folder, or a file that holds all of it.", valueName: "path"),
    completion: .file())
  var textEncoderPath: String?

  func validate() throws {
    guard checkpoint.files(transformer: transformerPath) != nil else {
      throw ValidationError(
        "no model is given: name the checkpoint with --model-path, or the files of its components with "
          + "--transformer-path, --video-vae-path and --audio-vae-path")
    }
  }

  var files: ModelFiles {
    checkpoint.files(transformer: transformerPath, textEncoder: textEncoderPath)
      ?? ModelFiles(textEncoder: textEncoderPath)
  }
}
