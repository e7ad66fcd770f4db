import CFFmpeg

/// The FFmpeg libraries that this program has loaded.
public enum FFmpegLibraries {
  /// A codec that clips need.
  public struct Codec: Sendable {
    /// Such as `AV1`, or `H.264 (libx264)` for an encoder.
    public let name: String
    /// Whether the program writes with it; otherwise it reads.
    public let encodes: Bool
    public let isAvailable: Bool
  }

  /// The version of libavcodec, such as `59.37.100`.
  public static var version: String {
    let version = avcodec_version()
    return "\(version >> 16).\(version >> 8 & 0xFF).\(version & 0xFF)"
  }

  /// The difference to the libraries that the program was built with, as a clause after the name
  /// of a library; nil if they can be used.
  public static var problem: String? {
    let (found, expected) = (avcodec_version() >> 16, UInt32(LIBAVCODEC_VERSION_MAJOR))
    return found == expected
      ? nil : "has version \(found), but this program was built for version \(expected)"
  }

  /// The codecs of most clips, and those that the program writes. Call it only without a `problem`.
  public static var codecs: [Codec] {
    let decoders: [(String, AVCodecID)] = [
      ("H.264", AV_CODEC_ID_H264), ("HEVC", AV_CODEC_ID_HEVC), ("VP9", AV_CODEC_ID_VP9),
      ("AV1", AV_CODEC_ID_AV1), ("AAC", AV_CODEC_ID_AAC),
    ]
    let encoders = [("H.264 (libx264)", "libx264"), ("AAC", "aac")]
    return decoders.map { name, id in
      Codec(name: name, encodes: false, isAvailable: canDecode(id))
    }
      + encoders.map { name, encoder in
        Codec(
          name: name, encodes: true, isAvailable: avcodec_find_encoder_by_name(encoder) != nil)
      }
  }

  /// FFmpeg's own AV1 decoder only drives hardware decoders, so it doesn't count.
  private static func canDecode(_ id: AVCodecID) -> Bool {
    guard id == AV_CODEC_ID_AV1 else { return avcodec_find_decoder(id) != nil }
    let decoders: [String] = ["libdav1d", "libaom-av1", "libgav1"]
    return decoders.contains { avcodec_find_decoder_by_name($0) != nil }
  }
}
