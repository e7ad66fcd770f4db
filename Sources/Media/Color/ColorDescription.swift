import CFFmpeg

/// The meaning of a frame's samples: matrix, range, primaries, transfer function.
///
/// Each value comes from the frame; if it has none, from its stream, or else from the default for
/// the layout, the kind of file and the resolution.
package struct ColorDescription: Equatable, Sendable {
  /// The conversion between RGB and stored samples.
  enum Matrix: Equatable, Sendable {
    case rgb, gray
    /// A matrix given by the weights of red and blue in luma.
    case weights(red: Double, blue: Double)
    case ycgco
    /// BT.2020 with constant luminance.
    case constantLuminance
    /// BT.2100 ICtCp.
    case ictcp
    /// A matrix that this reader doesn't support, by FFmpeg's name.
    case unknown(String)

    static let bt601 = Matrix.weights(red: 0.299, blue: 0.114)
    static let bt709 = Matrix.weights(red: 0.2126, blue: 0.0722)
    static let bt2020 = Matrix.weights(red: 0.2627, blue: 0.0593)
    static let fcc = Matrix.weights(red: 0.30, blue: 0.11)
    static let smpte240m = Matrix.weights(red: 0.212, blue: 0.087)
  }

  var matrix: Matrix
  /// libswscale's number of the matrix; it uses BT.601 for those that it does not know.
  var swscaleMatrix: Int32
  /// Whether samples range from 0 to the maximum value, as in RGB and JPEG.
  var isFullRange: Bool
  /// The primaries; nil for BT.709 or similar ones.
  var primaries: ColorPrimaries?
  /// The transfer function of HDR; nil for SDR, which is not converted.
  var transfer: TransferFunction?
  /// The maximum luminance of HDR in nits.
  var peak = ToneMapping.usualPeak

  /// Image formats that store linear light, by FFmpeg's names.
  private static let linearFormats: Set<String> = ["exr", "hdr", "pfm", "phm"]

  /// The minimum number of lines at which untagged video is high definition.
  static let linesOfHD: Int32 = 720

  /// - Parameters:
  ///   - stream: The stream of the frame, if it has one.
  ///   - isImage: Whether the file is an image, whose untagged YUV is BT.601 at any size.
  init(
    of frame: UnsafePointer<AVFrame>, stream: UnsafePointer<AVStream>?, isImage: Bool,
    options: ColorOptions
  ) {
    let format = AVPixelFormat(frame.pointee.format)
    // Upstream's readers only see the frame.
    let parameters = options.matchesUpstream ? nil : stream?.pointee.codecpar
    func tag<Tag: Equatable>(_ own: Tag, _ streams: KeyPath<AVCodecParameters, Tag>, none: Tag)
      -> Tag
    {
      own == none ? parameters.map { $0.pointee[keyPath: streams] } ?? none : own
    }
    var space = tag(frame.pointee.colorspace, \.color_space, none: AVCOL_SPC_UNSPECIFIED)
    let primariesTag = tag(
      frame.pointee.color_primaries, \.color_primaries, none: AVCOL_PRI_UNSPECIFIED)
    var transferTag = tag(frame.pointee.color_trc, \.color_trc, none: AVCOL_TRC_UNSPECIFIED)
    let range = tag(frame.pointee.color_range, \.color_range, none: AVCOL_RANGE_UNSPECIFIED)
    if transferTag == AVCOL_TRC_UNSPECIFIED, let codec = parameters?.pointee.codec_id,
      Self.linearFormats.contains(String(cString: avcodec_get_name(codec)))
    {
      transferTag = AVCOL_TRC_LINEAR
    }

    let isGray = Media.isGray(format)
    let isUntagged = [AVCOL_SPC_UNSPECIFIED, AVCOL_SPC_RESERVED, AVCOL_SPC_RGB].contains(space)
    if isUntagged, !options.matchesUpstream,
      !isImage || TransferFunction(transferTag)?.isHDR == true
    {
      if primariesTag == AVCOL_PRI_BT2020 || TransferFunction(transferTag)?.isHDR == true {
        space = AVCOL_SPC_BT2020_NCL
      } else if frame.pointee.height >= Self.linesOfHD {
        space = AVCOL_SPC_BT709
      }
    }
    matrix = isRGB(format) ? .rgb : isGray ? .gray : Self.matrix(space, primaries: primariesTag)
    swscaleMatrix = Int32(bitPattern: space.rawValue)
    if matrix == .rgb {
      isFullRange = true
    } else if isGray, !options.matchesUpstream {
      isFullRange = range != AVCOL_RANGE_MPEG
    } else {
      isFullRange = Media.isFullRange(frame) || range == AVCOL_RANGE_JPEG
    }

    guard options.convertsToSDR, !options.matchesUpstream else { return }
    set(primaries: primariesTag, transfer: transferTag)
    if primariesTag == AVCOL_PRI_UNSPECIFIED,
      [.bt2020, .constantLuminance, .ictcp].contains(matrix)
    {
      primaries = .bt2020
    }
    if transfer == .pq {
      var (brightest, display) = (0.0, 0.0)
      cffmpeg_peak(frame, stream, &brightest, &display)
      peak = ToneMapping.peak(maximumLight: brightest, mastering: display)
    }
  }

  /// Applies the primaries and the transfer function of some tags.
  mutating func set(
    primaries primariesTag: AVColorPrimaries, transfer transferTag: AVColorTransferCharacteristic
  ) {
    transfer = TransferFunction(transferTag)
    primaries = ColorPrimaries(primariesTag)
    // libswscale converts XYZ to RGB itself.
    if primariesTag == AVCOL_PRI_SMPTE428 { (primaries, transfer) = (nil, nil) }
    // HDR is defined for BT.2020; other primaries are tagged.
    if transfer?.isHDR == true, primariesTag == AVCOL_PRI_UNSPECIFIED { primaries = .bt2020 }
  }

  private static func matrix(_ space: AVColorSpace, primaries: AVColorPrimaries) -> Matrix {
    switch space {
    case AVCOL_SPC_BT709: return .bt709
    case AVCOL_SPC_FCC: return .fcc
    case AVCOL_SPC_SMPTE240M: return .smpte240m
    case AVCOL_SPC_YCGCO: return .ycgco
    case AVCOL_SPC_BT2020_NCL: return .bt2020
    case AVCOL_SPC_BT2020_CL: return .constantLuminance
    case AVCOL_SPC_CHROMA_DERIVED_NCL:
      let weights = (ColorPrimaries(primaries) ?? .bt709).luminance
      return .weights(red: weights[0], blue: weights[2])
    case AVCOL_SPC_CHROMA_DERIVED_CL where primaries == AVCOL_PRI_BT2020: return .constantLuminance
    case AVCOL_SPC_ICTCP: return .ictcp
    case AVCOL_SPC_UNSPECIFIED, AVCOL_SPC_RESERVED, AVCOL_SPC_RGB, AVCOL_SPC_BT470BG,
      AVCOL_SPC_SMPTE170M:
      return .bt601
    default:
      return .unknown(av_color_space_name(space).map { String(cString: $0) } ?? "\(space.rawValue)")
    }
  }

  /// Whether libswscale alone gives the right RGB.
  var isPlain: Bool {
    guard transfer == nil, primaries == nil else { return false }
    switch matrix {
    case .rgb, .gray, .bt601, .bt709, .bt2020, .fcc, .smpte240m: return true
    case .weights, .ycgco, .constantLuminance, .ictcp, .unknown: return false
    }
  }

  /// A note for the user; nil for plain SDR.
  var note: String? {
    let gamut = primaries.map(\.name)
    if let transfer, transfer.isHDR {
      return
        "HDR (\([transfer.name, gamut].compactMap { $0 }.joined(separator: ", "))) was tone-mapped to SDR BT.709"
    }
    let parts = [transfer?.name, gamut].compactMap { $0 }
    return parts.isEmpty
      ? nil : "color (\(parts.joined(separator: ", "))) was converted to SDR BT.709"
  }
}

func isGray(_ format: AVPixelFormat) -> Bool {
  guard let layout = av_pix_fmt_desc_get(format) else { return false }
  let isColored =
    layout.pointee.flags & UInt64(AV_PIX_FMT_FLAG_RGB | AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BAYER)
    != 0
  return layout.pointee.nb_components <= 2 && !isColored
}
