/// A filter that is applied to every frame of a clip.
public enum FrameFilter: Equatable, Sendable {
  case edges(CannyEdges)
  case blur(GaussianBlur)
  /// Divides width and height by this and rounds them to even numbers.
  case downscale(Int)
  case gray

  /// - Throws: `MediaError` if memory runs out.
  public func apply(to frame: RGBFrame) throws -> RGBFrame {
    switch self {
    case .edges(let canny): return canny.edges(of: frame)
    case .blur(let blur): return blur.blurred(frame)
    case .downscale(let factor):
      return try frame.resized(
        width: Self.evenSize(frame.width, dividedBy: factor),
        height: Self.evenSize(frame.height, dividedBy: factor))
    case .gray: return frame.grayscale()
    }
  }

  static func evenSize(_ size: Int, dividedBy factor: Int) -> Int {
    max(2, 2 * Int((Double(size) / Double(2 * factor)).rounded()))
  }
}

/// Writes a copy of a clip with each frame filtered: an image as PNG, a video as MP4 (H.264,
/// BT.709) without audio. Frames are upright, keep their number, rate and times, and are never all
/// in memory.
public struct FilteredClip: Sendable {
  public init() {}

  public struct Result: Equatable, Sendable {
    public let frames: Int
    /// Whether the source was complete.
    public let ending: Ending
    /// Notes for the user, as sentences.
    public let notes: [String]
  }

  /// - Parameters:
  ///   - output: A path that ends in `.png` for an image, `.mp4` for a video.
  ///   - progress: Called after each frame with its number, from 1.
  /// - Throws: `MediaError` if the source can't be read or the file can't be written; the errors of
  ///   `progress`.
  public func write(
    _ input: String, to output: String, by filter: FrameFilter,
    progress: (Int) throws -> Void = { _ in }
  ) throws -> Result {
    let reader = try VideoReader(path: input)
    guard reader.isImage == output.hasSuffix(".png") else {
      throw MediaError(
        .badOption, file: input,
        reader.isImage
          ? "is an image, but its name says video" : "is not an image, but its name says so",
        remedy: "Give it the extension of what it is, such as .png or .mp4.")
    }
    return reader.isImage
      ? try writeImage(reader, output, filter) : try writeVideo(reader, output, filter, progress)
  }

  private func writeImage(
    _ reader: VideoReader, _ output: String, _ filter: FrameFilter
  ) throws -> Result {
    guard let frame = try reader.next() else {
      throw MediaError(
        .decoding, file: reader.path, "the image cannot be decoded", remedy: "Save it again.")
    }
    try filter.apply(to: frame).writePNG(to: output)
    let notes =
      reader.colorNotes
      + (reader.hasUnusedProfile
        ? ["its color profile can't be converted and was taken for sRGB"] : [])
    return Result(frames: 1, ending: reader.ending, notes: notes)
  }

  private func writeVideo(
    _ reader: VideoReader, _ output: String, _ filter: FrameFilter, _ progress: (Int) throws -> Void
  ) throws -> Result {
    guard reader.width > 1, reader.height > 1 else {
      throw MediaError(
        .badOption, file: reader.path,
        "frames of \(reader.width)x\(reader.height) cannot be coded as H.264",
        remedy: "Give a larger video.")
    }
    let timing = try FrameTiming(path: reader.path, rate: reader.frameRate)
    var writer: VideoWriter?
    var notes: [String] = []
    var (frames, lastSeconds) = (0, 0.0)
    while let frame = try reader.next() {
      let filtered = try filter.apply(to: frame)
      let (width, height) = (filtered.width & ~1, filtered.height & ~1)
      if writer == nil {
        writer = try self.writer(
          for: reader, output, width: width, height: height, filter, timing)
        if (width, height) != (filtered.width, filtered.height) {
          notes.append(
            "the last odd row or column of pixels is left out, for H.264 needs an even size")
        }
      }
      try writer?.append(
        filtered.cropped(width: width, height: height), seconds: frame.seconds)
      frames += 1
      lastSeconds = frame.seconds
      try progress(frames)
    }
    // A reader without any frames throws. The last frame's length makes the file's average rate
    // equal the source's, unless its times contradict that.
    let rate = reader.frameRate.value
    let rest = Double(frames) / rate - lastSeconds
    writer?.endLastFrame(after: rest > 0 ? rest : 1 / rate)
    try writer?.finish()
    if reader.isDeinterlaced { notes.append("it is interlaced, and was deinterlaced") }
    if let damage = try reader.damage() { notes.append(damage.description) }
    return Result(frames: frames, ending: reader.ending, notes: notes + reader.colorNotes)
  }

  /// The encoding quality. Edges are encoded losslessly, which makes a smaller file and keeps them
  /// black and white.
  private func quality(for filter: FrameFilter) -> VideoWriter.Quality {
    if case .edges = filter {
      .init(crf: 0, preset: "medium")
    } else {
      .init(crf: 18, preset: "medium")
    }
  }

  private func writer(
    for reader: VideoReader, _ output: String, width: Int, height: Int, _ filter: FrameFilter,
    _ timing: FrameTiming
  ) throws -> VideoWriter {
    var tags = VideoWriter.Tags()
    tags.pixelAspect = reader.pixelAspect.av ?? tags.pixelAspect
    // Frames of a constant rate are placed on its grid, where one may be missing; others keep the
    // source's times.
    let isVariable = timing == .variable
    return try VideoWriter(
      path: output, width: width, height: height, frameRate: reader.frameRate,
      timeBase: isVariable ? reader.timeBase : nil, audio: nil, quality: quality(for: filter),
      tags: tags, codec: .preferred, reorders: !isVariable)
  }
}
