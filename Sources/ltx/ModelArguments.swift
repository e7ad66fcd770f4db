import ArgumentParser
import LTX

/// A checkpoint, and VAEs in files of their own.
struct CheckpointArguments: ParsableArguments {
  @Option(
    name: [.customLong("model-path"), .customLong("checkpoint-path")],
    help: ArgumentHelp("The LTX-2 checkpoint with all components in one file.", valueName: "file"),
    completion: .file())
  var modelPath: String?

  @Option(
    help: ArgumentHelp(
      "The file of the video VAE; replaces the one in --model-path.", valueName: "file"),
    completion: .file())
  var videoVaePath: String?

  @Option(
    help: ArgumentHelp(
      "The file of the audio VAE and the vocoder; replaces those in --model-path.",
      valueName: "file"),
    completion: .file())
  var audioVaePath: String?

  /// Nil if no file is given.
  func files(
    transformer: String? = nil, textEncoder: String? = nil, durationHead: String? = nil
  ) -> ModelFiles? {
    if let modelPath {
      return ModelFiles(
        unified: modelPath, transformer: transformer, textEncoder: textEncoder,
        videoVAE: videoVaePath, audioVAE: audioVaePath, durationHead: durationHead)
    }
    guard [transformer, videoVaePath, audioVaePath].contains(where: { $0 != nil }) else {
      return nil
    }
    return ModelFiles(
      transformer: transformer, textEncoder: textEncoder, videoVAE: videoVaePath,
      audioVAE: audioVaePath, durationHead: durationHead)
  }
}

/// The speed against the quality of decoding video.
struct DecoderOptions: ParsableArguments {
  @Option(
    help:
      "The steps of a diffusion decoder (LTX-2.5); more are slower and finer. (default: the model's)"
  )
  var decoderSteps: Int?
}

/// The files of a model.
struct ModelArguments: ParsableArguments {
  @OptionGroup var checkpoint: CheckpointArguments

  @Option(
    help: ArgumentHelp(
      "The file of the transformer; replaces the one in --model-path. Without --model-path it must have the text connectors too.",
      valueName: "file"),
    completion: .file())
  var transformerPath: String?

  @Option(
    name: [.customLong("text-encoder-path"), .customLong("gemma-root")],
    help: ArgumentHelp(
      "The text encoder, Gemma 3 or (LTX-2.5) Gemma 4: its folder, or a single file.",
      valueName: "path"),
    completion: .file())
  var textEncoderPath: String?

  func validate() throws {
    guard checkpoint.files(transformer: transformerPath) != nil else {
      throw ValidationError(
        "no model is given. Add --model-path with a checkpoint, or --transformer-path, --video-vae-path and "
          + "--audio-vae-path with the files of its components.")
    }
  }

  var files: ModelFiles {
    checkpoint.files(transformer: transformerPath, textEncoder: textEncoderPath)
      ?? ModelFiles(textEncoder: textEncoderPath)
  }
}
