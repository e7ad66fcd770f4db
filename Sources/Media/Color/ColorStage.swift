import CFFmpeg

/// The color conversion and compositing of one file's frames, which `PixelConverter` uses in
/// addition to libswscale.
package final class ColorStage {
  let options: ColorOptions
  private let file: String
  private let stream: UnsafePointer<AVStream>?
  private let isImage: Bool
  /// The background of transparent pixels.
  private let background: RGBColor
  private let alpha: AlphaCompositor
  /// The primaries and transfer function that the file gives in addition to the decoder's.
  var fileTags: (primaries: AVColorPrimaries, transfer: AVColorTransferCharacteristic)?
  /// Whether an ICC profile defines the colors. HDR uses its tags instead.
  var hasProfile = false
  /// Whether colors are already multiplied by alpha; those of PNG, WebP and most video are not.
  var isPremultiplied: Bool
  private var converter: (description: ColorDescription, converter: ColorConverter)?
  private var layoutConverter: LayoutConverter?
  /// Whether a pixel that was not opaque has been composited.
  private(set) var hasTransparency = false
  /// The color conversions of the last frame that needed any.
  private(set) var conversion: String?

  /// - Parameters:
  ///   - stream: The stream that the frames come from, which must outlive this object.
  ///   - isImage: Whether the file is an image, whose colors are sRGB's; those of video are
  ///     BT.709's.
  ///   - isImageFormat: Whether the format is one for images, including animated ones.
  init(
    file: String, options: ColorOptions, stream: UnsafePointer<AVStream>? = nil,
    isImage: Bool = false,
    isImageFormat: Bool = false
  ) {
    self.file = file
    self.options = options
    self.stream = stream
    self.isImage = isImage
    background = options.background ?? (isImage || isImageFormat ? .white : .black)
    isPremultiplied = stream?.pointee.codecpar.pointee.codec_id == AV_CODEC_ID_EXR
    alpha = AlphaCompositor(file: file)
  }

  /// The conversions to report, a clause each; complete after all frames have been converted.
  package var notes: [String] {
    (conversion.map { [$0] } ?? [])
      + (hasTransparency ? ["transparent pixels were composited on \(background)"] : [])
  }

  /// The meaning of a frame's samples.
  func description(of frame: UnsafePointer<AVFrame>) -> ColorDescription {
    var description = ColorDescription(
      of: frame, stream: stream, isImage: isImage, options: options)
    guard options.convertsToSDR, !options.matchesUpstream else { return description }
    if let fileTags { description.set(primaries: fileTags.primaries, transfer: fileTags.transfer) }
    if hasProfile, description.transfer?.isHDR != true {
      (description.primaries, description.transfer) = (nil, nil)
    }
    return description
  }

  /// The primaries and the transfer function that a frame, its stream or its file gives.
  func tags(
    of frame: UnsafePointer<AVFrame>
  ) -> (primaries: AVColorPrimaries, transfer: AVColorTransferCharacteristic) {
    if let fileTags { return fileTags }
    let parameters = stream?.pointee.codecpar.pointee
    let (primaries, transfer) = (frame.pointee.color_primaries, frame.pointee.color_trc)
    return (
      primaries == AVCOL_PRI_UNSPECIFIED ? parameters?.color_primaries ?? primaries : primaries,
      transfer == AVCOL_TRC_UNSPECIFIED ? parameters?.color_trc ?? transfer : transfer
    )
  }

  func matrixTag(of frame: UnsafePointer<AVFrame>) -> AVColorSpace {
    let own = frame.pointee.colorspace
    return own == AVCOL_SPC_UNSPECIFIED ? stream?.pointee.codecpar.pointee.color_space ?? own : own
  }

  func rangeTag(of frame: UnsafePointer<AVFrame>) -> AVColorRange {
    let own = frame.pointee.color_range
    return own == AVCOL_RANGE_UNSPECIFIED
      ? stream?.pointee.codecpar.pointee.color_range ?? own : own
  }

  /// Whether a frame's tags are used instead of its ICC profile, as in HDR.
  func goesByTags(_ frame: UnsafePointer<AVFrame>) -> Bool {
    description(of: frame).transfer?.isHDR == true
  }

  /// Converts a frame whose colors libswscale can't convert.
  ///
  /// - Parameter target: RGB24 of the frame's size.
  /// - Throws: `MediaError` for a matrix that is not supported.
  package func convert(
    _ frame: UnsafeMutablePointer<AVFrame>, _ description: ColorDescription,
    to target: UnsafeMutablePointer<AVFrame>
  ) throws {
    try refuseDolbyVision()
    if converter?.description != description {
      converter = (description, try ColorConverter(description, isImage: isImage, file: file))
    }
    let format = AVPixelFormat(frame.pointee.format)
    let readable = ColorConverter.readable(format)
    var source = frame
    if readable != format {
      let layouts = try layoutConverter ?? LayoutConverter(file: file)
      layoutConverter = layouts
      source = try layouts.convert(frame, to: readable, isFullRange: description.isFullRange)
    }
    try converter?.converter.convert(source, to: target)
    conversion = description.note ?? conversion
  }

  /// Composites transparent pixels of a frame on the background; `target` is the converted frame.
  func composite(_ frame: UnsafeMutablePointer<AVFrame>, on target: UnsafeMutablePointer<AVFrame>)
    throws
  {
    guard !options.matchesUpstream, AlphaCompositor.hasAlpha(AVPixelFormat(frame.pointee.format))
    else {
      return
    }
    if try alpha.composite(frame, on: target, background, isPremultiplied: isPremultiplied) {
      hasTransparency = true
    }
  }

  /// Rejects Dolby Vision's profile 5, whose colors can't be converted without its own metadata.
  private func refuseDolbyVision() throws {
    guard let stream, cffmpeg_dolby_vision_profile(stream) == 5 else { return }
    throw MediaError(
      .decoding, file: file, "is Dolby Vision profile 5, whose colors need Dolby's metadata",
      remedy: "Export it as HDR10, HLG or SDR, or use its code values (`convertsToSDR` off).")
  }
}
