import CFFmpeg
import Foundation

/// The orientation of stored frames: one of the eight ways to rotate and mirror a rectangle, as a
/// 2x2 matrix of -1, 0 and 1.
///
/// A stored pixel at column x and row y, counted from the center, is shown at column `xx * x + xy *
/// y` and row `yx * x + yy * y`.
public struct Orientation: Hashable, Sendable {
  let xx: Int
  let xy: Int
  let yx: Int
  let yy: Int

  /// Shown as stored.
  public static let upright = Orientation(xx: 1, xy: 0, yx: 0, yy: 1)

  private init(xx: Int, xy: Int, yx: Int, yy: Int) {
    (self.xx, self.xy, self.yx, self.yy) = (xx, xy, yx, yy)
  }

  /// - Parameters:
  ///   - turns: The number of clockwise quarter turns.
  ///   - isMirrored: Whether left and right are swapped before the turns.
  public init(turns: Int, isMirrored: Bool = false) {
    let cosine = [1, 0, -1, 0][((turns % 4) + 4) % 4]
    let sine = [0, 1, 0, -1][((turns % 4) + 4) % 4]
    let side = isMirrored ? -1 : 1
    self.init(xx: side * cosine, xy: -sine, yx: side * sine, yy: cosine)
  }

  /// - Parameter exif: The value of Exif's tag `Orientation`, 1 to 8.
  /// - Returns: Nil for another value.
  public init?(exif: Int) {
    guard (1...8).contains(exif) else { return nil }
    self.init(turns: [0, 0, 2, 2, 3, 1, 1, 3][exif - 1], isMirrored: [2, 4, 5, 7].contains(exif))
  }

  /// Whether left and right are swapped before the turns.
  public var isMirrored: Bool { xx * yy - xy * yx < 0 }
  /// The number of clockwise quarter turns, 0 to 3.
  public var turns: Int {
    // The second column is the same whether mirrored or not.
    yy == 1 ? 0 : xy == -1 ? 1 : yy == -1 ? 2 : 3
  }
  /// Whether width and height are swapped.
  public var swapsSides: Bool { xx == 0 }

  /// FFmpeg's display matrix for this orientation and frames of a size, with their corner at the
  /// origin.
  package func displayMatrix(width: Int, height: Int) -> [Int32] {
    let one = 1 << 16
    let x = max(0, -xx * width) + max(0, -xy * height)
    let y = max(0, -yx * width) + max(0, -yy * height)
    return [xx * one, yx * one, 0, xy * one, yy * one, 0, x * one, y * one, 1 << 30].map {
      Int32(truncatingIfNeeded: $0)
    }
  }

  /// The orientation that applies `self` first and `next` after it.
  func then(_ next: Orientation) -> Orientation {
    Orientation(
      xx: next.xx * xx + next.xy * yx, xy: next.xx * xy + next.xy * yy,
      yx: next.yx * xx + next.yy * yx, yy: next.yx * xy + next.yy * yy)
  }
}

/// The meaning of a display matrix.
enum DisplayMatrix: Equatable {
  case orientation(Orientation)
  /// A shear, or an angle that is not a multiple of 90 degrees, in clockwise degrees; NaN for an
  /// invalid matrix.
  case other(degrees: Double)

  /// - Parameter values: The nine numbers of a display matrix in FFmpeg's format
  ///   (`libavutil/display.h`). Scale and translation are ignored.
  init(_ values: UnsafePointer<Int32>) {
    let (a, b, c, d) = (Double(values[0]), Double(values[1]), Double(values[3]), Double(values[4]))
    let (first, second) = (hypot(a, b), hypot(c, d))
    guard first > 0, second > 0 else {
      self = .other(degrees: .nan)
      return
    }
    // A deviation of two degrees is a program's rounding error, not an intended angle.
    for isMirrored in [false, true] {
      for turns in 0..<4 {
        let one = Orientation(turns: turns, isMirrored: isMirrored)
        let across = (Double(one.xx) * a + Double(one.yx) * b) / first
        let down = (Double(one.xy) * c + Double(one.yy) * d) / second
        if min(across, down) > 0.9994 {
          self = .orientation(one)
          return
        }
      }
    }
    self = .other(degrees: atan2(b, a) * 180 / .pi)
  }
}
