import NN

/// The properties of a model that its configuration and metadata decide, without its tensors.
extension Checkpoint {
  /// The pixels and frames of one latent cell: see `CompressionFactors.init(_:)`.
  public func videoCompression() throws -> CompressionFactors { try CompressionFactors(config) }

  /// Whether pixels are decoded by diffusion; nil for files without a video VAE.
  public var hasDiffusionDecoder: Bool? {
    get throws {
      guard config.has("vae") else { return nil }
      let convolutional = "CausalVideoAutoencoder"
      return try config.object("vae").string("_class_name", default: convolutional)
        != convolutional
    }
  }

  /// Whether the transformer was trained to generate keyframes in addition to the video.
  public var supportsGeneratedKeyframes: Bool {
    get throws {
      try config.object("transformer", isOptional: true).bool(
        "use_keyframes_abs_pos_embedding", default: false)
    }
  }

  /// Whether the files describe a transformer and none of the components that decode its latents:
  /// the transformer's file of a split pack.
  public var isTransformerAlone: Bool {
    config.has("transformer") && !["vae", "audio_vae", "vocoder"].contains(where: config.has)
  }
}
