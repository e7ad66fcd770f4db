import DemoData
import Media

/// The frames of a clip: RGB24, [frame][row][column][channel].
public struct DecodedFrames: Sendable {
  public let bytes: [UInt8]
  public let count: Int
  public let width: Int
  public let height: Int
  /// The frames as classifiers see them: scaled to the size that clips are drawn in, with channels
  /// from -1 to 1. [frame][channel, row, column].
  let planes: [[Float]]

  /// The side of the scaled frames, in pixels.
  static let side = DemoScene.side
  static let area = side * side

  /// - Returns: Nil if the bytes don't fill the frames, or there are none.
  public init?(bytes: [UInt8], count: Int, width: Int, height: Int) {
    guard count > 0, width > 0, height > 0, bytes.count == 3 * count * width * height else {
      return nil
    }
    self.bytes = bytes
    self.count = count
    self.width = width
    self.height = height
    let size = 3 * width * height
    let geometry = FrameResizer.Geometry(
      scaled: (Self.side, Self.side), cut: (0, 0, Self.side, Self.side))
    do {
      planes = try (0..<count).map { frame in
        let frame = Array(bytes[frame * size..<(frame + 1) * size])
        return try RGBFrame(bytes: frame, width: width, height: height).filled(geometry)
      }
    } catch {
      return nil  // no memory is left
    }
  }

  /// - Parameter frames: RGB24 of each frame.
  /// - Returns: Nil if there are no frames, or they don't have the size.
  public init?(_ frames: [[UInt8]], width: Int, height: Int) {
    self.init(
      bytes: Array(frames.joined()), count: frames.count, width: width, height: height)
  }

  /// Indices of about `limit` frames that are spread over the clip, with the first and the last.
  func spread(_ limit: Int) -> [Int] {
    guard count > limit, limit > 1 else { return Array(0..<count) }
    return (0..<limit).map { ($0 * (count - 1) + (limit - 1) / 2) / (limit - 1) }
  }

  /// Calls a closure with the pixels of every `step`-th row and column of a frame.
  func visit(_ frame: Int, step: Int, _ body: (_ row: Int, _ pixel: RGB) -> Void) {
    planes[frame].withUnsafeBufferPointer { buffer in
      guard let values = buffer.baseAddress else { return }
      for row in stride(from: 0, to: Self.side, by: step) {
        var place = row * Self.side
        let end = place + Self.side
        while place < end {
          body(
            row,
            RGB(
              red: values[place], green: values[place + Self.area],
              blue: values[place + 2 * Self.area]))
          place += step
        }
      }
    }
  }
}

/// Three channels of a pixel, or the difference of two pixels. Channels are from -1 to 1.
struct RGB {
  var red: Float
  var green: Float
  var blue: Float

  static func - (a: RGB, b: RGB) -> RGB {
    RGB(red: a.red - b.red, green: a.green - b.green, blue: a.blue - b.blue)
  }

  func dot(_ other: RGB) -> Float {
    red * other.red + green * other.green + blue * other.blue
  }

  /// The color without its brightness (Cb and Cr of BT.601).
  var chroma: Chroma {
    Chroma(
      x: -0.169 * red - 0.331 * green + 0.5 * blue, y: 0.5 * red - 0.419 * green - 0.081 * blue)
  }
}

extension RGB {
  init(_ shade: DemoShade) {
    self.init(
      red: Float(shade.red) / 127.5 - 1, green: Float(shade.green) / 127.5 - 1,
      blue: Float(shade.blue) / 127.5 - 1)
  }
}

struct Chroma {
  var x: Float
  var y: Float

  static func - (a: Chroma, b: Chroma) -> Chroma { Chroma(x: a.x - b.x, y: a.y - b.y) }
  var square: Float { x * x + y * y }
}
