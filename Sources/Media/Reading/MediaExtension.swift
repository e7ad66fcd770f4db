import CFFmpeg

/// The kind of file that a file name extension stands for, and whether the installed FFmpeg can
/// decode such files.
///
/// All commands use this list to search folders. A file named by a dataset or an option is opened
/// regardless of its extension.
public struct MediaExtension: Equatable, Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    case video, image, audio
  }

  public let kind: Kind
  /// The reason why the installed FFmpeg can't decode such files, and the remedy; nil if it can.
  public let obstacle: String?

  /// - Parameter path: The path of a file.
  /// - Returns: Nil for an extension that is not one of media files.
  public init?(ofFile path: String) {
    let name = Self.name(ofFile: path)
    guard let known = Self.known[name] else { return nil }
    self = known
  }

  /// The extension in lowercase without its dot; empty if there is none.
  public static func name(ofFile path: String) -> String {
    let file =
      path.utf8.lastIndex(of: UInt8(ascii: "/")).map { path[path.utf8.index(after: $0)...] }
      ?? path[...]
    guard let dot = file.utf8.lastIndex(of: UInt8(ascii: ".")), dot != file.startIndex else {
      return ""
    }
    return file[file.utf8.index(after: dot)...].lowercased()
  }

  /// Extensions of files that can be decoded, in alphabetical order.
  public static func decodable(_ kind: Kind) -> [String] {
    known.filter { $0.value.kind == kind && $0.value.obstacle == nil }.keys.sorted()
  }

  private init(_ kind: Kind, _ obstacle: String?) { (self.kind, self.obstacle) = (kind, obstacle) }

  private static let known: [String: MediaExtension] = {
    var known: [String: MediaExtension] = [:]
    for format in formats {
      let isDecodable = format.isDecodable
      for name in format.names.split(separator: " ") {
        known[String(name)] = MediaExtension(
          format.kind,
          isDecodable
            ? nil
            : "the installed FFmpeg \(version) can't decode \(format.title ?? name.uppercased()); convert to "
              + (format.kind == .video ? "MP4" : format.kind == .image ? "PNG or JPEG" : "WAV"))
      }
    }
    return known
  }()

  private static let version = String(cString: av_version_info()).prefix { $0 != "-" }

  /// Files of one format.
  private struct Format {
    /// The extensions.
    let names: String
    let kind: Kind
    /// FFmpeg's names of demuxers, one of which must be available; empty if no FFmpeg supports the
    /// format.
    let demuxers: [String]
    /// FFmpeg's names of codecs, one of which must have a decoder; empty for a container of many
    /// codecs.
    var codecs: [String] = []
    /// An extension that the demuxer itself must list, because older demuxers know the container
    /// but not this content.
    var claimed: String?
    /// The format's name for users; nil for the extension.
    var title: String?

    var isDecodable: Bool {
      let found = demuxers.compactMap { av_find_input_format($0) }
      guard !found.isEmpty else { return false }
      if let claimed {
        let names = found.compactMap { $0.pointee.extensions.map { String(cString: $0) } }
        guard names.contains(where: { $0.split(separator: ",").contains(claimed[...]) }) else {
          return false
        }
      }
      return codecs.isEmpty
        || codecs.contains { name in
          avcodec_descriptor_get_by_name(name).map { avcodec_find_decoder($0.pointee.id) != nil }
            ?? false
        }
    }
  }

  private static let formats: [Format] = [
    Format(names: "mp4 m4v mov qt 3gp 3g2 f4v mj2 insv lrv", kind: .video, demuxers: ["mov"]),
    Format(names: "mkv mk3d webm", kind: .video, demuxers: ["matroska"]),
    Format(names: "avi divx", kind: .video, demuxers: ["avi"]),
    Format(names: "asf wmv", kind: .video, demuxers: ["asf"]),
    Format(names: "flv", kind: .video, demuxers: ["flv"]),
    Format(names: "mpg mpeg mpe vob", kind: .video, demuxers: ["mpeg"]),
    Format(names: "m1v m2v mpv", kind: .video, demuxers: ["mpegvideo"]),
    Format(names: "ts mts m2ts m2t tp trp", kind: .video, demuxers: ["mpegts"]),
    Format(names: "mxf", kind: .video, demuxers: ["mxf"]),
    Format(names: "ogv ogm", kind: .video, demuxers: ["ogg"]),
    Format(names: "gif", kind: .video, demuxers: ["gif"]),
    Format(names: "apng", kind: .video, demuxers: ["apng"]),
    Format(names: "y4m", kind: .video, demuxers: ["yuv4mpegpipe"]),
    Format(names: "nut", kind: .video, demuxers: ["nut"]),
    Format(names: "dv dif", kind: .video, demuxers: ["dv"]),
    Format(names: "ivf", kind: .video, demuxers: ["ivf"]),
    Format(names: "obu", kind: .video, demuxers: ["obu"]),
    Format(names: "h264 264 avc", kind: .video, demuxers: ["h264"]),
    Format(names: "h265 265 hevc", kind: .video, demuxers: ["hevc"]),
    Format(names: "h266 266 vvc", kind: .video, demuxers: ["vvc"], codecs: ["vvc"]),
    Format(names: "rm rmvb", kind: .video, demuxers: ["rm"]),
    Format(names: "wtv", kind: .video, demuxers: ["wtv"]),
    Format(names: "gxf", kind: .video, demuxers: ["gxf"]),
    Format(names: "amv", kind: .video, demuxers: ["avi"], codecs: ["amv"]),
    Format(names: "braw", kind: .video, demuxers: [], title: "Blackmagic RAW"),
    Format(names: "r3d", kind: .video, demuxers: [], title: "REDCODE RAW"),
    Format(names: "crm", kind: .video, demuxers: [], title: "Canon Cinema RAW"),
    Format(names: "arx ari", kind: .video, demuxers: [], title: "ARRIRAW"),

    Format(names: "png", kind: .image, demuxers: ["image2"], codecs: ["png"]),
    Format(names: "jpg jpeg jpe jfif jif", kind: .image, demuxers: ["image2"], codecs: ["mjpeg"]),
    Format(
      names: "jp2 j2k j2c jpc jpf jpx", kind: .image, demuxers: ["image2"], codecs: ["jpeg2000"]),
    Format(
      names: "jxl", kind: .image, demuxers: ["jpegxl_pipe", "jpegxl_anim"], codecs: ["jpegxl"]),
    Format(names: "jls", kind: .image, demuxers: ["image2"], codecs: ["jpegls"]),
    Format(names: "bmp", kind: .image, demuxers: ["image2"], codecs: ["bmp"]),
    Format(names: "tif tiff", kind: .image, demuxers: ["image2"], codecs: ["tiff"]),
    Format(names: "webp", kind: .image, demuxers: ["image2", "webp_pipe"], codecs: ["webp"]),
    Format(names: "avif", kind: .image, demuxers: ["mov"], codecs: ["av1"], claimed: "avif"),
    Format(
      names: "heic heif hif", kind: .image, demuxers: ["mov"], codecs: ["hevc"], claimed: "heic"),
    Format(names: "tga", kind: .image, demuxers: ["image2"], codecs: ["targa"]),
    Format(names: "exr", kind: .image, demuxers: ["image2"], codecs: ["exr"]),
    Format(names: "dpx", kind: .image, demuxers: ["image2"], codecs: ["dpx"]),
    Format(names: "ppm pnm", kind: .image, demuxers: ["image2"], codecs: ["ppm"]),
    Format(names: "pgm", kind: .image, demuxers: ["image2"], codecs: ["pgm"]),
    Format(names: "pbm", kind: .image, demuxers: ["image2"], codecs: ["pbm"]),
    Format(names: "pam", kind: .image, demuxers: ["image2"], codecs: ["pam"]),
    Format(names: "pfm", kind: .image, demuxers: ["image2"], codecs: ["pfm"]),
    Format(names: "qoi", kind: .image, demuxers: ["image2"], codecs: ["qoi"]),
    Format(names: "sgi rgb", kind: .image, demuxers: ["image2"], codecs: ["sgi"]),
    Format(names: "ras sun", kind: .image, demuxers: ["image2"], codecs: ["sunrast"]),
    Format(names: "pcx", kind: .image, demuxers: ["image2"], codecs: ["pcx"]),
    Format(names: "xbm", kind: .image, demuxers: ["image2"], codecs: ["xbm"]),
    Format(names: "xwd", kind: .image, demuxers: ["image2"], codecs: ["xwd"]),
    Format(names: "dds", kind: .image, demuxers: ["dds_pipe"], codecs: ["dds"]),
    Format(names: "psd", kind: .image, demuxers: ["psd_pipe"], codecs: ["psd"]),
    Format(names: "hdr", kind: .image, demuxers: ["hdr_pipe"], codecs: ["hdr"]),
    Format(
      names: "cr2 cr3 crw nef nrw arw sr2 dng raf orf rw2 pef srw x3f iiq 3fr", kind: .image,
      demuxers: [],
      title: "camera RAW images"),

    Format(names: "wav wave bwf rf64", kind: .audio, demuxers: ["wav"]),
    Format(names: "w64", kind: .audio, demuxers: ["w64"]),
    Format(names: "flac", kind: .audio, demuxers: ["flac"], codecs: ["flac"]),
    Format(names: "mp3 mp2 mpa", kind: .audio, demuxers: ["mp3"], codecs: ["mp3"]),
    Format(names: "m4a m4b m4r", kind: .audio, demuxers: ["mov"]),
    Format(names: "aac adts", kind: .audio, demuxers: ["aac"], codecs: ["aac"]),
    Format(names: "ac3", kind: .audio, demuxers: ["ac3"], codecs: ["ac3"]),
    Format(names: "eac3 ec3", kind: .audio, demuxers: ["eac3"], codecs: ["eac3"]),
    Format(names: "dts dtshd", kind: .audio, demuxers: ["dts", "dtshd"], codecs: ["dts"]),
    Format(names: "ogg oga opus spx", kind: .audio, demuxers: ["ogg"]),
    Format(names: "mka weba", kind: .audio, demuxers: ["matroska"]),
    Format(names: "aif aiff aifc", kind: .audio, demuxers: ["aiff"]),
    Format(names: "au snd", kind: .audio, demuxers: ["au"]),
    Format(names: "caf", kind: .audio, demuxers: ["caf"]),
    Format(names: "wma", kind: .audio, demuxers: ["asf"]),
    Format(names: "wv", kind: .audio, demuxers: ["wv"], codecs: ["wavpack"]),
    Format(names: "ape", kind: .audio, demuxers: ["ape"], codecs: ["ape"]),
    Format(names: "tta", kind: .audio, demuxers: ["tta"], codecs: ["tta"]),
    Format(names: "tak", kind: .audio, demuxers: ["tak"], codecs: ["tak"]),
    Format(
      names: "mpc", kind: .audio, demuxers: ["mpc", "mpc8"], codecs: ["musepack7", "musepack8"]),
    Format(names: "amr awb", kind: .audio, demuxers: ["amr"], codecs: ["amr_nb", "amr_wb"]),
    Format(names: "voc", kind: .audio, demuxers: ["voc"]),
    Format(names: "dsf", kind: .audio, demuxers: ["dsf"]),
    Format(names: "dff", kind: .audio, demuxers: ["iff"]),
    Format(
      names: "mid midi", kind: .audio, demuxers: [], title: "MIDI, which holds notes and no audio"),
  ]
}
