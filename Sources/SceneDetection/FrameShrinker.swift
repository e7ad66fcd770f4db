import CFFmpeg
import Media

/// Shrinks frames for scene detection to 256 pixels on the longer side, like PySceneDetect, or by
/// an integer factor; smaller frames are unchanged.
///
/// The result equals OpenCV's `INTER_LINEAR` for 8 bits, bit for bit: two neighbors per axis
/// without smoothing, 11-bit weights, and the rounding of its vector code.
struct FrameShrinker {
  /// For every target pixel: the two neighboring source pixels, and their weights out of 2048.
  struct Axis {
    var first: [Int32] = []
    var second: [Int32] = []
    var firstWeight: [Int16] = []
    var secondWeight: [Int16] = []

    init(from source: Int, to target: Int) {
      let scale = Double(source) / Double(target)
      for i in 0..<target {
        let place = Float((Double(i) + 0.5) * scale - 0.5)
        var left = Int(place.rounded(.down))
        var fraction = place - Float(left)
        if left < 0 { (left, fraction) = (0, 0) }
        if left >= source - 1 { (left, fraction) = (source - 1, 0) }
        first.append(Int32(left))
        second.append(Int32(min(left + 1, source - 1)))
        firstWeight.append(Int16(((1 - fraction) * 2048).rounded(.toNearestOrEven)))
        secondWeight.append(Int16((fraction * 2048).rounded(.toNearestOrEven)))
      }
    }
  }

  static let longerSide = 256

  let width: Int
  let height: Int
  let shrinks: Bool
  let rows: Axis
  private let columns: Axis

  /// - Parameter factor: The factor to shrink by; nil shrinks to 256 pixels.
  init(width: Int, height: Int, factor: Int? = nil) {
    let factor = factor.map(Double.init) ?? Double(max(width, height)) / Double(Self.longerSide)
    shrinks = factor > 1
    self.width = shrinks ? max(1, Int((Double(width) / factor).rounded(.toNearestOrEven))) : width
    self.height =
      shrinks ? max(1, Int((Double(height) / factor).rounded(.toNearestOrEven))) : height
    columns = Axis(from: width, to: self.width)
    rows = Axis(from: height, to: self.height)
  }

  func shrink(_ frame: RGBFrame) -> DetectionFrame {
    guard shrinks else {
      return DetectionFrame(index: frame.index, width: width, height: height, bytes: frame.bytes)
    }
    return frame.bytes.withUnsafeBufferPointer { source in
      guard let start = source.baseAddress else { preconditionFailure("a frame has bytes") }
      return shrink(rows.first, rows.second, index: frame.index) { start + $0 * 3 * frame.width }
    }
  }

  /// - Parameters:
  ///   - upper: For every target row, the index of the source row above it, to pass to `row`; the
  ///     same for `lower`.
  ///   - row: Returns the address of a source row.
  func shrink(
    _ upper: [Int32], _ lower: [Int32], index: Int, row: (Int) -> UnsafePointer<UInt8>
  ) -> DetectionFrame {
    let length = 3 * width
    let bytes = [UInt8](unsafeUninitializedCapacity: length * height) { output, count in
      withUnsafeTemporaryAllocation(of: Int16.self, capacity: 2 * length) { sums in
        guard let first = sums.baseAddress, let target = output.baseAddress else { return }
        for y in 0..<height {
          for (place, source) in [(first, upper[y]), (first + length, lower[y])] {
            cffmpeg_shrink_across(
              row(Int(source)), columns.first, columns.second, columns.firstWeight,
              columns.secondWeight,
              Int32(width), place)
          }
          cffmpeg_blend_rows(
            first, first + length, rows.firstWeight[y], rows.secondWeight[y], Int32(length),
            target + length * y)
        }
      }
      count = length * height
    }
    return DetectionFrame(index: index, width: width, height: height, bytes: bytes)
  }
}

/// Creates the small images that detectors read from decoded frames.
///
/// Shrinking reads only a few rows, so only these are converted to RGB if the layout is the common
/// 4:2:0. Rows are converted in the pairs that share chroma, independently of other pairs, so the
/// bytes equal those of the complete frame.
final class DetectionFrameMaker {
  private let shrinker: FrameShrinker
  private let converter: PixelConverter
  private let file: String
  private let orientation: Orientation
  /// The needed pairs of source rows, and the positions of the rows of `shrinker.rows` among them.
  private let pairs: [Int]
  private let upper: [Int32]
  private let lower: [Int32]
  private let packed: UnsafeMutablePointer<AVFrame>

  init(for video: VideoReader, factor: Int? = nil) throws {
    shrinker = FrameShrinker(width: video.width, height: video.height, factor: factor)
    file = video.path
    orientation = video.remainingOrientation
    converter = try PixelConverter(file: video.path, to: AV_PIX_FMT_RGB24, for: .videoFrames)
    let rows = shrinker.rows
    pairs = Set((rows.first + rows.second).map { Int($0) / 2 }).sorted()
    let places = Dictionary(uniqueKeysWithValues: pairs.enumerated().map { (Int32($1), Int32($0)) })
    upper = rows.first.map { 2 * (places[$0 / 2] ?? 0) + $0 % 2 }
    lower = rows.second.map { 2 * (places[$0 / 2] ?? 0) + $0 % 2 }
    guard let packed = av_frame_alloc() else { throw outOfMemory(file: file) }
    self.packed = packed
  }

  deinit {
    var packed: UnsafeMutablePointer<AVFrame>? = packed
    av_frame_free(&packed)
  }

  func make(_ frame: UnsafeMutablePointer<AVFrame>, index: Int) throws -> DetectionFrame {
    let isPacked = canPack(frame)
    if isPacked { try pack(frame) }
    let rgb = try converter.convert(isPacked ? packed : frame, orientation: orientation)
    let stride = Int(rgb.pointee.linesize.0)
    let length = 3 * Int(rgb.pointee.width)
    guard let data = rgb.pointee.data.0 else { throw outOfMemory(file: file) }
    let row = { UnsafePointer(data + $0 * stride) }
    if shrinker.shrinks {
      return shrinker.shrink(
        isPacked ? upper : shrinker.rows.first, isPacked ? lower : shrinker.rows.second,
        index: index,
        row: row)
    }
    let bytes = [UInt8](unsafeUninitializedCapacity: length * shrinker.height) { output, count in
      if let target = output.baseAddress {
        av_image_copy_plane(
          target, Int32(length), data, Int32(stride), Int32(length), Int32(shrinker.height))
      }
      count = length * shrinker.height
    }
    return DetectionFrame(
      index: index, width: shrinker.width, height: shrinker.height, bytes: bytes)
  }

  /// libswscale converts frames of an odd height differently, using neighboring rows.
  private func canPack(_ frame: UnsafeMutablePointer<AVFrame>) -> Bool {
    let format = AVPixelFormat(frame.pointee.format)
    return shrinker.shrinks && orientation == .upright && frame.pointee.height % 2 == 0
      && (format == AV_PIX_FMT_YUV420P || format == AV_PIX_FMT_YUVJ420P)
      && 2 * pairs.count < Int(frame.pointee.height)
  }

  private func pack(_ frame: UnsafeMutablePointer<AVFrame>) throws {
    let height = Int32(2 * pairs.count)
    if packed.pointee.width != frame.pointee.width || packed.pointee.format != frame.pointee.format
    {
      av_frame_unref(packed)
      packed.pointee.format = frame.pointee.format
      packed.pointee.width = frame.pointee.width
      packed.pointee.height = height
      try check(
        av_frame_get_buffer(packed, 0), .decoding, file: file, "no room for a frame",
        remedy: "Free memory.")
    }
    packed.pointee.colorspace = frame.pointee.colorspace
    packed.pointee.color_range = frame.pointee.color_range
    packed.pointee.chroma_location = frame.pointee.chroma_location
    let width = Int(frame.pointee.width)
    try withPlanes(of: frame) { planes, strides in
      try withMutablePlanes(of: packed) { targets, targetStrides in
        for plane in 0..<3 {
          guard let source = planes[plane], let target = targets[plane] else {
            throw outOfMemory(file: file)
          }
          let (from, to) = (Int(strides[plane]), Int(targetStrides[plane]))
          let (rows, bytes) = plane == 0 ? (2, width) : (1, (width + 1) / 2)
          for (place, pair) in pairs.enumerated() {
            for row in 0..<rows {
              (target + (place * rows + row) * to).update(
                from: source + (pair * rows + row) * from, count: bytes)
            }
          }
        }
      }
    }
  }
}
