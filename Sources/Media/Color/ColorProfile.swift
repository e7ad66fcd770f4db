import Foundation

/// The ICC profile of an image, if it consists of three primaries (or gray) with one curve each,
/// like those of cameras, phones and screens. Profiles with tables, like those of printers, are not
/// supported.
///
/// ICC.1:2022, tags `rXYZ` (9.2.44), `rTRC` (9.2.43), types `curv` (10.6) and `para` (10.18).
struct ColorProfile {
  /// The linear light of each byte, for red, green and blue.
  private let curves: [[Float]]
  /// The matrix from the profile's linear light to sRGB's.
  private let matrix: [Float]

  /// - Returns: Nil for another kind of profile, or a damaged one.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= 132, bytes[36..<40].elementsEqual("acsp".utf8),
      bytes[20..<24].elementsEqual("XYZ ".utf8)
    else { return nil }
    let tags = Tags(bytes)
    if bytes[16..<20].elementsEqual("GRAY".utf8) {
      guard let curve = tags.curve("kTRC") else { return nil }
      curves = [curve, curve, curve]
      matrix = [1, 0, 0, 0, 1, 0, 0, 0, 1]
      return
    }
    // If a profile has both, color management uses the tables.
    guard bytes[16..<20].elementsEqual("RGB ".utf8), tags["A2B0"] == nil,
      let red = tags.xyz("rXYZ"), let green = tags.xyz("gXYZ"), let blue = tags.xyz("bXYZ"),
      let redCurve = tags.curve("rTRC"), let greenCurve = tags.curve("gTRC"),
      let blueCurve = tags.curve("bTRC")
    else { return nil }
    curves = [redCurve, greenCurve, blueCurve]
    var product: [Float] = []
    for row in 0..<3 {
      let (x, y, z) = (Self.toSRGB[3 * row], Self.toSRGB[3 * row + 1], Self.toSRGB[3 * row + 2])
      for color in [red, green, blue] {
        product.append(Float(x * color[0] + y * color[1] + z * color[2]))
      }
    }
    matrix = product
  }

  /// The matrix from XYZ with white D50 to linear sRGB: the inverse of the primaries in IEC
  /// 61966-2-1, adapted from D65 to D50 by Bradford's method.
  private static let toSRGB: [Double] = [
    3.1341864, -1.6172090, -0.4906941, -0.9787485, 1.9161301, 0.0334334, 0.0719639, -0.2289939,
    1.4057537,
  ]

  /// The sRGB byte for linear light in steps of 1/65535.
  private static let encoded: [UInt8] = (0...65535).map { step in
    let light = Double(step) / 65535
    let value = light <= 0.0031308 ? 12.92 * light : 1.055 * pow(light, 1 / 2.4) - 0.055
    return UInt8((255 * value).rounded())
  }

  /// Returns the image in sRGB. Colors outside sRGB are clipped to its range, like in upstream's
  /// color management.
  func converted(_ frame: RGBFrame) -> RGBFrame {
    let bytes = [UInt8](unsafeUninitializedCapacity: frame.bytes.count) { target, count in
      count = frame.bytes.count
      frame.bytes.withUnsafeBufferPointer { source in
        curves[0].withUnsafeBufferPointer { reds in
          curves[1].withUnsafeBufferPointer { greens in
            curves[2].withUnsafeBufferPointer { blues in
              matrix.withUnsafeBufferPointer { m in
                Self.encoded.withUnsafeBufferPointer { encoded in
                  var i = 0
                  while i < source.count {
                    let (r, g, b) = (
                      reds[Int(source[i])], greens[Int(source[i &+ 1])], blues[Int(source[i &+ 2])]
                    )
                    var row = 0
                    while row < 3 {
                      let light = m[3 &* row] * r + m[3 &* row &+ 1] * g + m[3 &* row &+ 2] * b
                      target[i &+ row] =
                        encoded[light <= 0 ? 0 : light >= 1 ? 65535 : Int(light * 65535 + 0.5)]
                      row &+= 1
                    }
                    i &+= 3
                  }
                }
              }
            }
          }
        }
      }
    }
    return RGBFrame(
      bytes: bytes, width: frame.width, height: frame.height, index: frame.index,
      seconds: frame.seconds)
  }
}

/// The tags of a profile. A tag outside of its bounds counts as missing.
private struct Tags {
  private let bytes: [UInt8]
  private var places: [String: Range<Int>] = [:]

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
    let count = Self.number(bytes[128..<132])
    for index in 0..<min(count, 100) {
      let entry = 132 + 12 * index
      guard entry + 12 <= bytes.count else { return }
      let name = String(decoding: bytes[entry..<(entry + 4)], as: UTF8.self)
      let start = Self.number(bytes[(entry + 4)..<(entry + 8)])
      let length = Self.number(bytes[(entry + 8)..<(entry + 12)])
      guard start + length <= bytes.count else { continue }
      places[name] = start..<(start + length)
    }
  }

  subscript(_ name: String) -> ArraySlice<UInt8>? { places[name].map { bytes[$0] } }

  func xyz(_ name: String) -> [Double]? {
    guard let tag = self[name], tag.count >= 20, tag.prefix(4).elementsEqual("XYZ ".utf8) else {
      return nil
    }
    return (0..<3).map { Self.fixed(tag.dropFirst(8 + 4 * $0)) }
  }

  /// The linear light of each byte.
  func curve(_ name: String) -> [Float]? {
    guard let tag = self[name], tag.count >= 12 else { return nil }
    let function: (Double) -> Double
    if tag.prefix(4).elementsEqual("curv".utf8) {
      let count = Self.number(tag.dropFirst(8).prefix(4))
      guard tag.count >= 12 + 2 * count else { return nil }
      let values = (0..<count).map { Double(Self.number(tag.dropFirst(12 + 2 * $0).prefix(2))) }
      switch count {
      case 0: function = { $0 }
      case 1: function = { pow($0, values[0] / 256) }
      default:
        function = { x in
          let place = x * Double(count - 1)
          let below = min(count - 2, Int(place))
          return (values[below] + (values[below + 1] - values[below]) * (place - Double(below)))
            / 65535
        }
      }
    } else if tag.prefix(4).elementsEqual("para".utf8) {
      let kind = Self.number(tag.dropFirst(8).prefix(2))
      guard kind < 5, case let count = [1, 3, 4, 5, 7][kind], tag.count >= 12 + 4 * count else {
        return nil
      }
      function = Self.parametric(kind, (0..<count).map { Self.fixed(tag.dropFirst(12 + 4 * $0)) })
    } else {
      return nil
    }
    let curve = (0..<256).map { function(Double($0) / 255) }
    guard curve.allSatisfy(\.isFinite) else { return nil }
    return curve.map { Float(min(1, max(0, $0))) }
  }

  /// - Parameter p: The parameters g, a, b, c, d, e, f.
  private static func parametric(_ kind: Int, _ p: [Double]) -> (Double) -> Double {
    switch kind {
    case 0: { pow($0, p[0]) }
    case 1: { $0 >= -p[2] / p[1] ? pow(p[1] * $0 + p[2], p[0]) : 0 }
    case 2: { $0 >= -p[2] / p[1] ? pow(p[1] * $0 + p[2], p[0]) + p[3] : p[3] }
    case 3: { $0 >= p[4] ? pow(p[1] * $0 + p[2], p[0]) : p[3] * $0 }
    default: { $0 >= p[4] ? pow(p[1] * $0 + p[2], p[0]) + p[5] : p[3] * $0 + p[6] }
    }
  }

  private static func number(_ bytes: ArraySlice<UInt8>) -> Int {
    bytes.reduce(0) { $0 << 8 | Int($1) }
  }

  private static func fixed(_ bytes: ArraySlice<UInt8>) -> Double {
    Double(Int32(truncatingIfNeeded: number(bytes.prefix(4)))) / 65536
  }
}
