import CFFmpeg
import Foundation

extension RGBFrame {
  /// Creates a gray image from one value per pixel, with the time of another frame.
  init(grays: [UInt8], like frame: RGBFrame) {
    let bytes = [UInt8](unsafeUninitializedCapacity: 3 * grays.count) { buffer, count in
      count = 3 * grays.count
      guard let to = buffer.baseAddress else { return }
      grays.withUnsafeBufferPointer { grays in
        var (from, place) = (0, 0)
        while from < grays.count {
          let value = grays[from]
          to[place] = value
          to[place &+ 1] = value
          to[place &+ 2] = value
          from &+= 1
          place &+= 3
        }
      }
    }
    self.init(
      bytes: bytes, width: frame.width, height: frame.height, index: frame.index,
      seconds: frame.seconds)
  }

  /// The upper left part of the image.
  func cropped(width: Int, height: Int) -> RGBFrame {
    guard (width, height) != (self.width, self.height) else { return self }
    var kept: [UInt8] = []
    kept.reserveCapacity(3 * width * height)
    for row in 0..<height {
      let start = 3 * self.width * row
      kept += bytes[start..<(start + 3 * width)]
    }
    return RGBFrame(bytes: kept, width: width, height: height, index: index, seconds: seconds)
  }

  /// Returns one gray value per pixel.
  ///
  /// - Parameter gray: Returns the value of the pixel whose red byte is at this index.
  func grays(_ gray: (UnsafeBufferPointer<UInt8>, Int) -> UInt8) -> [UInt8] {
    let pixels = width * height
    return [UInt8](unsafeUninitializedCapacity: pixels) { buffer, count in
      count = pixels
      bytes.withUnsafeBufferPointer { bytes in
        var (to, from) = (0, 0)
        while to < pixels {
          buffer[to] = gray(bytes, from)
          to &+= 1
          from &+= 3
        }
      }
    }
  }

  /// The image in grayscale: 0.299 R + 0.587 G + 0.114 B, rounded.
  public func grayscale() -> RGBFrame {
    RGBFrame(
      grays: grays { bytes, i in
        let sum =
          19595 &* UInt32(bytes[i]) &+ 38470 &* UInt32(bytes[i &+ 1]) &+ 7471
          &* UInt32(bytes[i &+ 2])
        return UInt8((sum &+ 32768) &>> 16)
      }, like: self)
  }

  /// The image in another size; every pixel is the mean of the area that it covers (libswscale's
  /// area filter).
  ///
  /// - Throws: `MediaError` if memory runs out.
  func resized(width newWidth: Int, height newHeight: Int) throws -> RGBFrame {
    guard (newWidth, newHeight) != (width, height) else { return self }
    let flags = SWS_AREA | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT
    guard
      let scaler = sws_getContext(
        Int32(width), Int32(height), AV_PIX_FMT_RGB24, Int32(newWidth), Int32(newHeight),
        AV_PIX_FMT_RGB24,
        flags, nil, nil, nil)
    else { throw outOfMemory(file: "") }
    defer { sws_freeContext(scaler) }
    // Rows are padded because vector instructions write beyond the last pixel.
    let rowBytes = (3 * newWidth + 63) / 64 * 64
    var padded = [UInt8](repeating: 0, count: rowBytes * newHeight + 64)
    let rows = bytes.withUnsafeBufferPointer { source in
      padded.withUnsafeMutableBufferPointer { target in
        var from: [UnsafePointer<UInt8>?] = [source.baseAddress, nil, nil, nil]
        var to: [UnsafeMutablePointer<UInt8>?] = [target.baseAddress, nil, nil, nil]
        return sws_scale(
          scaler, &from, [Int32(3 * width), 0, 0, 0], 0, Int32(height), &to,
          [Int32(rowBytes), 0, 0, 0])
      }
    }
    try check(rows, .system, file: "", "a frame cannot be scaled", remedy: "Use another factor.")
    var kept: [UInt8] = []
    kept.reserveCapacity(3 * newWidth * newHeight)
    for row in 0..<newHeight { kept += padded[(row * rowBytes)..<(row * rowBytes + 3 * newWidth)] }
    return RGBFrame(bytes: kept, width: newWidth, height: newHeight, index: index, seconds: seconds)
  }

  /// The image as it looks in an H.264 video: with half the color resolution and compression
  /// artifacts.
  ///
  /// If width or height is odd, the last column or row is dropped; an image with a single row or
  /// column is returned unchanged.
  ///
  /// - Parameter crf: x264's constant rate factor, 0 (lossless except for color) to 51.
  /// - Throws: `MediaError` if a temporary file can't be written or read.
  public func compressed(crf: Int) throws -> RGBFrame {
    let (evenWidth, evenHeight) = (width / 2 * 2, height / 2 * 2)
    guard evenWidth > 0, evenHeight > 0 else { return self }
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("image-\(UUID().uuidString).mp4").path
    defer { unlink(path) }
    let writer = try VideoWriter(
      path: path, width: evenWidth, height: evenHeight, frameRate: Rational(1),
      quality: VideoWriter.Quality(crf: crf, preset: evenWidth < 128 ? "superfast" : "veryfast"))
    try writer.append(cropped(width: evenWidth, height: evenHeight))
    try writer.finish()
    guard let seen = try VideoReader(path: path).next() else {
      throw MediaError(
        .decoding, file: path, "a compressed image can't be read again",
        remedy: "Free some space on the disk.")
    }
    return seen
  }
}
