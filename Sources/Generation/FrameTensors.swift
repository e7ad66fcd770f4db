// B batch, F frames, H rows, W columns, C channels, N samples.

import LTX
import Media
import Support
import Torch

/// Conversions between frames and tensors. Media and tensors meet only in this file.
public enum FrameTensors {
  /// Frames as a model's input.
  ///
  /// - Parameter frames: At least one frame, all of one size.
  /// - Returns: [1, 3, F, H, W], float32, from -1 (black) to 1.
  /// - Throws: `Issue` if there are no frames or they differ in size.
  public static func pixels(_ frames: [RGBFrame]) throws -> Tensor {
    try requireOneSize(frames)
    let planes = try Tensor.cat(frames.map(planes))
    return try signed(planes).transpose(0, 1).contiguous().unsqueeze(0)
  }

  /// Frames that fill a rectangle: scaled to cover it with their aspect ratio kept, then cropped at
  /// the center.
  ///
  /// This matches upstream's dataset scripts: bicubic with antialiasing, in float32, without
  /// rounding back to 8 bits. The longer side and the crop's offset are rounded down, and overshoot
  /// is clipped. A frame that already covers the rectangle exactly isn't filtered. Frames are
  /// processed one by one, so that only the results use memory.
  ///
  /// - Returns: [1, 3, F, height, width], float32, -1 to 1.
  /// - Throws: `Issue` as `pixels`, and for a size that isn't positive.
  public static func pixels(_ frames: [RGBFrame], filling size: (width: Int, height: Int)) throws
    -> Tensor
  {
    try requireOneSize(frames)
    return try stack(frames.map { try filled($0, size) })
  }

  /// One frame for `stack`, processed as in `pixels(_:filling:)`: [3, height, width].
  ///
  /// - Parameter shape: The image's width and height if they differ from its pixel counts, because
  ///   pixels are not square or a mask is laid over a clip of another size. Only their ratio
  ///   matters.
  public static func filled(
    _ frame: RGBFrame, _ size: (width: Int, height: Int), shape: (width: Int, height: Int)? = nil
  ) throws -> Tensor {
    let geometry = try geometry(
      shape ?? (frame.width, frame.height), (frame.width, frame.height), size)
    return try Tensor(frame.filled(geometry), shape: [3, size.height, size.width])
  }

  /// The same for a frame that isn't RGB yet, without converting it at its full size.
  public static func filled(
    _ frame: VideoFrame, _ size: (width: Int, height: Int), shape: (width: Int, height: Int)? = nil
  ) throws -> Tensor {
    let geometry = try geometry(
      shape ?? (frame.width, frame.height), (frame.width, frame.height), size)
    return try Tensor(frame.filled(geometry), shape: [3, size.height, size.width])
  }

  private static func geometry(
    _ shape: (width: Int, height: Int), _ frame: (width: Int, height: Int),
    _ size: (width: Int, height: Int)
  ) throws -> FrameResizer.Geometry {
    guard size.width > 0, size.height > 0, shape.width > 0, shape.height > 0, frame.width > 0,
      frame.height > 0
    else {
      throw Issue(
        ["frame"],
        "of \(frame.width)x\(frame.height) pixels can't fill \(size.width)x\(size.height)")
    }
    let (width, height) = scaled(shape, toFill: size)
    guard canFill(shape, size) else {
      throw Issue(
        ["image"],
        "of \(shape.width)x\(shape.height) pixels can't fill \(size.width)x\(size.height): nearly all of "
          + "it would be cropped")
    }
    return FrameResizer.Geometry(
      scaled: (width, height),
      cut: ((width - size.width) / 2, (height - size.height) / 2, size.width, size.height))
  }

  /// The size of a frame scaled to cover a rectangle: one side fits, the other overhangs.
  private static func scaled(
    _ shape: (width: Int, height: Int), toFill size: (width: Int, height: Int)
  ) -> (width: Int, height: Int) {
    shape.width * size.height > size.width * shape.height
      ? (shape.width * size.height / shape.height, size.height)
      : (size.width, shape.height * size.width / shape.width)
  }

  /// Whether `filled` accepts a frame of this shape. A frame that is much longer or wider than the
  /// rectangle would be cropped almost completely, and would use unbounded memory.
  ///
  /// - Precondition: Both sizes are positive.
  static func canFill(_ shape: (width: Int, height: Int), _ size: (width: Int, height: Int)) -> Bool
  {
    let (width, height) = scaled(shape, toFill: size)
    return width <= maxOverhang * size.width && height <= maxOverhang * size.height
  }

  /// The max size of a scaled frame before cropping, as a multiple of its rectangle.
  private static let maxOverhang = 32

  /// The brightness of a frame: the mean of red, green and blue, [height, width], float32, 0 to 1.
  public static func brightness(_ frame: RGBFrame) throws -> Tensor {
    try planes(frame).squeeze(0).mean([0])
  }

  /// Frames from `filled` as a clip: [1, 3, F, height, width].
  public static func stack(_ frames: [Tensor]) throws -> Tensor {
    try Tensor.stack(frames, 1).unsqueeze(0)
  }

  /// Pixels as frames, clipped to -1 ... 1 and rounded to 8 bits.
  ///
  /// - Parameter pixels: [1, 3, F, H, W], any floating-point type, any device.
  /// - Throws: `Issue` for another shape.
  public static func frames(_ pixels: Tensor) throws -> [RGBFrame] {
    let shape = pixels.shape
    guard shape.count == 5, shape[0] == 1, shape[1] == 3 else {
      throw Issue.shape("pixels", shape, expected: "[1, 3, frames, height, width]")
    }
    return try pixels.squeeze(0).unbind(1).enumerated().map { index, frame in
      let levels = try ((frame.to(.float32) + 1) * 127.5).clamped(min: 0, max: 255).round().to(
        .uint8)
      return RGBFrame(
        bytes: try levels.permute([1, 2, 0]).contiguous().array(of: UInt8.self), width: shape[4],
        height: shape[3], index: index)
    }
  }

  /// [1, 3, H, W], float32, 0 to 1.
  private static func planes(_ frame: RGBFrame) throws -> Tensor {
    try Tensor(frame.bytes, shape: [frame.height, frame.width, 3]).permute([2, 0, 1]).contiguous()
      .to(
        .float32
      )
      .unsqueeze(0) / 255
  }

  private static func signed(_ x: Tensor) throws -> Tensor { try x * 2 - 1 }

  private static func requireOneSize(_ frames: [RGBFrame]) throws {
    guard let first = frames.first else { throw Issue(["frames"], "are missing") }
    for frame in frames where (frame.width, frame.height) != (first.width, first.height) {
      throw Issue(
        ["frames", .index(frame.index)],
        "has \(frame.width)x\(frame.height) pixels (expected \(first.width)x\(first.height), as the "
          + "first frame)")
    }
  }
}

/// Conversions between audio and tensors.
public enum AudioTensors {
  /// Audio as a model's input: [1, 2, N], float32.
  public static func waveform(_ clip: AudioClip) throws -> Tensor {
    try Tensor(clip.channels[0] + clip.channels[1], shape: [1, 2, clip.sampleCount])
  }

  /// The channels of a waveform, in the form that writers accept.
  ///
  /// - Parameter waveform: [1, C, N], any floating-point type, any device.
  /// - Throws: `Issue` for another shape.
  public static func channels(_ waveform: Tensor) throws -> [[Float]] {
    let shape = waveform.shape
    guard shape.count == 3, shape[0] == 1, shape[1] > 0, shape[2] > 0 else {
      throw Issue.shape("waveform", shape, expected: "[1, channels, samples]")
    }
    return try waveform.squeeze(0).unbind(0).map { try $0.to(.float32).array() }
  }
}
