import Foundation

@testable import Media

/// Patches of known colors, encoded with independent formulas (ITU-R BT.2020, BT.2100, SMPTE ST
/// 2084).
enum ColorPatches {
  static let size = 16

  static func pq(_ nits: Double) -> Double {
    let y = pow(nits / 10_000, 2610.0 / 16384)
    return pow((3424.0 / 4096 + 2413.0 / 128 * y) / (1 + 2392.0 / 128 * y), 2523.0 / 32)
  }

  /// The HLG value of scene light.
  static func hlg(_ light: Double) -> Double {
    light <= 1.0 / 12 ? sqrt(3 * light) : 0.17883277 * log(12 * light - 0.28466892) + 0.55991073
  }

  /// The light of SDR code values on a BT.1886 display.
  static func light(_ rgb: [Int]) -> [Double] { rgb.map { pow(Double($0) / 255, 2.4) } }

  /// Converts linear BT.709 to linear BT.2020 (ITU-R BT.2087).
  static func toBT2020(_ c: [Double]) -> [Double] {
    [
      0.6274 * c[0] + 0.3293 * c[1] + 0.0433 * c[2], 0.0691 * c[0] + 0.9195 * c[1] + 0.0114 * c[2],
      0.0164 * c[0] + 0.0880 * c[1] + 0.8956 * c[2],
    ]
  }

  /// The Y'CbCr of R'G'B', by the weights of red and blue.
  static func ycc(_ c: [Double], red: Double = 0.2627, blue: Double = 0.0593) -> [Double] {
    let y = red * c[0] + (1 - red - blue) * c[1] + blue * c[2]
    return [y, (c[2] - y) / (2 * (1 - blue)), (c[0] - y) / (2 * (1 - red))]
  }

  /// Samples of 10 bits in limited range.
  static func tenBits(_ ycc: [Double]) -> [Int] {
    [64 + 876 * ycc[0], 512 + 896 * ycc[1], 512 + 896 * ycc[2]].map { Int($0.rounded()) }
  }

  /// Writes patches side by side, three samples each, as planes of little-endian words (yuv444p10le
  /// and its like).
  static func write(_ patches: [[Int]], to path: String) throws {
    var data = Data()
    for plane in 0..<3 {
      let row = patches.flatMap { patch in
        (0..<size).flatMap { _ in [UInt8(patch[plane] & 255), UInt8(patch[plane] >> 8)] }
      }
      for _ in 0..<size { data.append(contentsOf: row) }
    }
    try data.write(to: URL(fileURLWithPath: path))
  }

  /// The middle pixel of each patch of a frame.
  static func middles(_ frame: RGBFrame) -> [[Int]] {
    stride(from: size / 2, to: frame.width, by: size).map { x in
      let i = 3 * (frame.width * (frame.height / 2) + x)
      return frame.bytes[i..<(i + 3)].map(Int.init)
    }
  }

  static func difference(_ a: [[Int]], _ b: [[Int]]) -> Int {
    zip(a.joined(), b.joined()).map { abs($0 - $1) }.max() ?? .max
  }
}

/// The first frame of a file, and its reader's notes on colors.
func firstFrame(_ path: String, _ options: ColorOptions = ColorOptions()) throws -> (
  RGBFrame, [String]
) {
  let reader = try VideoReader(path: path, color: options)
  guard let frame = try reader.next() else {
    throw MediaError(.decoding, file: path, "no frame", remedy: "")
  }
  return (frame, reader.colorNotes)
}
