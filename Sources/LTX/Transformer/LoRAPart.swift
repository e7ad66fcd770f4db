/// Which part of the transformer an adapter belongs to.
public enum LoRAPart: String, Sendable, CaseIterable, Codable {
  case video, audio
  /// The attention between the streams and its modulation, which are there only when both streams
  /// are.
  case cross

  /// - Parameter path: of a module, in a LoRA file or in a checkpoint.
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

  /// Whether it is there if only some streams are built.
  public func isBuilt(_ modalities: Set<Modality>) -> Bool {
    switch self {
    case .video: modalities.contains(.video)
    case .audio: modalities.contains(.audio)
    case .cross: modalities == .both
    }
  }
}
