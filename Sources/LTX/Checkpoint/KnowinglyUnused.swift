import NN

/// The tensors of a checkpoint that no model reads, with the reason. Any other unused tensor is an
/// error.
enum KnowinglyUnused {
  /// Keys in the scope of the transformer.
  static func transformer(_ key: String) -> Bool {
    // The text connectors, which are separate components in the transformer's scope.
    key.hasPrefix("video_embeddings_connector.") || key.hasPrefix("audio_embeddings_connector.")
      // A marker for float8, which the dtypes show as well.
      || key == Weights.scaledFP8Marker
  }

  /// Keys that a transformer built for one modality doesn't use: those of the other modality, and
  /// of the layers between the two.
  static func otherModality(_ key: String, building modalities: Set<Modality>) -> Bool {
    guard modalities != .both else { return false }
    let isBetween = ["av_ca_", "a2v", "audio_to_video", "video_to_audio"].contains(
      where: key.contains)
    let isAudio = key.split(separator: ".").contains { $0.hasPrefix("audio_") }
    return isBetween || isAudio != modalities.contains(.audio)
  }

  /// Keys in the scope of a VAE: statistics that only training needed.
  static func vae(_ key: String) -> Bool {
    [
      "per_channel_statistics.mean-of-stds",
      "per_channel_statistics.mean-of-stds_over_std-of-means",
      "per_channel_statistics.channel",
    ].contains(key)
  }

  /// Keys in the scope of the vocoder: the inverse of the spectrum, which only its training needed.
  static func vocoder(_ key: String) -> Bool { key == "mel_stft.stft_fn.inverse_basis" }
}
