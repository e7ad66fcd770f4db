import CPixels

/// Scales 8-bit RGB frames to floats and crops them, row by row: torchvision's bicubic filter with
/// antialiasing, without intermediate rounding.
///
/// Only the rows and columns inside the crop are computed.
public final class FrameResizer {
  /// The size that a frame is scaled to, and the part of it to keep.
  public struct Geometry: Equatable, Sendable {
    public let scaled: (width: Int, height: Int)
    public let cut: (x: Int, y: Int, width: Int, height: Int)

    /// - Precondition: The crop is inside the scaled frame and not empty.
    public init(scaled: (width: Int, height: Int), cut: (x: Int, y: Int, width: Int, height: Int)) {
      precondition(
        cut.x >= 0 && cut.y >= 0 && cut.width > 0 && cut.height > 0
          && cut.x + cut.width <= scaled.width
          && cut.y + cut.height <= scaled.height, "a cut lies within the scaled frame")
      self.scaled = scaled
      self.cut = cut
    }

    public static func == (a: Geometry, b: Geometry) -> Bool {
      a.scaled == b.scaled && a.cut == b.cut
    }
  }

  let geometry: Geometry
  let source: (width: Int, height: Int)
  private let resizer: OpaquePointer
  /// The source rows that the crop needs.
  let rows: Range<Int>

  init(_ geometry: Geometry, from source: (width: Int, height: Int)) throws {
    let columns = Axis(
      from: source.width, to: geometry.scaled.width,
      kept: geometry.cut.x..<(geometry.cut.x + geometry.cut.width))
    let rows = Axis(
      from: source.height, to: geometry.scaled.height,
      kept: geometry.cut.y..<(geometry.cut.y + geometry.cut.height))
    let made = columns.withC { columns in
      rows.withC { rows in cpixels_resizer_new(Int32(source.width), columns, rows) }
    }
    guard let made else { throw outOfMemory(file: "") }
    resizer = made
    self.geometry = geometry
    self.source = source
    self.rows = rows.inputs
  }

  deinit { cpixels_resizer_free(resizer) }

  /// Adds source rows, in order.
  func add(_ rgb: UnsafePointer<UInt8>, stride: Int, from y: Int, count: Int) {
    cpixels_resizer_add(resizer, rgb, stride, Int32(y), Int32(count))
  }

  /// Returns [3, height, width] of the frame whose rows were added; later rows belong to the next
  /// frame.
  func finish() -> [Float] {
    let count = 3 * geometry.cut.width * geometry.cut.height
    let values = [Float](unsafeUninitializedCapacity: count) { target, filled in
      if let start = target.baseAddress { cpixels_resizer_finish(resizer, start) }
      filled = count
    }
    cpixels_resizer_begin(resizer)
    return values
  }

  /// The inputs and their weights for each kept output of an axis.
  struct Axis {
    private(set) var first: [Int32] = []
    private(set) var count: [Int32] = []
    private(set) var weights: [Float] = []
    private let stride: Int

    /// The filter is Keys' cubic with a = -0.5, widened by the scale if it shrinks. Computed in
    /// float32, like in PyTorch.
    init(from source: Int, to target: Int, kept: Range<Int>) {
      let scale = Float(source) / Float(target)
      let stretch = max(1, scale)
      let support = 2 * stretch
      stride = Int(2 * support) + 3
      for output in kept {
        let center = scale * (Float(output) + 0.5)
        let start = max(Int(center - support + 0.5), 0)
        let end = min(Int(center + support + 0.5), source)
        let row = (start..<end).map { Self.cubic((Float($0) - center + 0.5) * (1 / stretch)) }
        let sum = row.reduce(0, +)
        first.append(Int32(start))
        count.append(Int32(row.count))
        weights += row.map { $0 / sum } + Array(repeating: 0, count: stride - row.count)
      }
    }

    private static func cubic(_ x: Float) -> Float {
      let x = abs(x)
      let a: Float = -0.5
      if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
      return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0
    }

    /// The range of inputs that the outputs need.
    var inputs: Range<Int> {
      let end = zip(first, count).map { Int($0 + $1) }.max() ?? 0
      return Int(first.min() ?? 0)..<max(end, Int(first.min() ?? 0))
    }

    func withC<Result>(_ body: (cpixels_axis) -> Result) -> Result {
      first.withUnsafeBufferPointer { first in
        count.withUnsafeBufferPointer { count in
          weights.withUnsafeBufferPointer { weights in
            body(
              cpixels_axis(
                outputs: Int32(first.count), first: first.baseAddress, count: count.baseAddress,
                weights: weights.baseAddress, stride: Int32(stride)))
          }
        }
      }
    }
  }
}
