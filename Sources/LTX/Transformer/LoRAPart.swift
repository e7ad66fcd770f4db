/// The part of the transformer that an adapter belongs to.
public enum LoRAPart: String, Sendable, CaseIterable, Codable {
  case video, audio
  /// The attention between the modalities and its modulation, which exist only if both modalities
  /// do.
  case cross

  /// - Parameter path: The path of a module, in a LoRA file or in a checkpoint.
  public init(path: String) {
    let names = path.split(separator: ".")
    if names.contains(where: {
      $0 == "audio_to_video_attn" || $0 == "video_to_audio_attn" || $0.hasPrefix("av_ca_")
    }) {
      self = .cross
    } else {
      self = names.contains { $0.hasPrefix("audio_") } ? .audio : .video
    }
  }

  /// Whether the part exists if only some modalities are built.
  public func isBuilt(_ modalities: Set<Modality>) -> Bool {
    switch self {
    case .video: modalities.contains(.video)
    case .audio: modalities.contains(.audio)
    case .cross: modalities == .both
    }
  }
}
