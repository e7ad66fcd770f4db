/// Options for the conversion of a file's colors to RGB.
public struct ColorOptions: Equatable, Sendable {
  /// The background of transparent pixels; nil for the default, which is white for images and
  /// animated images, and black for video.
  public var background: RGBColor?
  /// Whether HDR (PQ, HLG) is tone-mapped to SDR, and other primaries and transfer functions are
  /// converted to BT.709. If false, code values are unchanged.
  public var convertsToSDR = true
  /// Whether to read like upstream: code values are unchanged, alpha is ignored, and the matrix is
  /// BT.601 if the file names none.
  public var matchesUpstream = false

  public init(
    background: RGBColor? = nil, convertsToSDR: Bool = true, matchesUpstream: Bool = false
  ) {
    self.background = background
    self.convertsToSDR = convertsToSDR
    self.matchesUpstream = matchesUpstream
  }

  /// The options that read files like upstream.
  public static let upstream = ColorOptions(convertsToSDR: false, matchesUpstream: true)
}

/// A color with 8 bits per channel.
public struct RGBColor: Equatable, Sendable, CustomStringConvertible {
  public let red: UInt8
  public let green: UInt8
  public let blue: UInt8

  public static let black = RGBColor(red: 0, green: 0, blue: 0)
  public static let white = RGBColor(red: 255, green: 255, blue: 255)

  public init(red: UInt8, green: UInt8, blue: UInt8) {
    (self.red, self.green, self.blue) = (red, green, blue)
  }

  /// Parses `black`, `white` or `#RRGGBB`; nil for other strings.
  public init?(_ text: String) {
    switch text.lowercased() {
    case "black": self = .black
    case "white": self = .white
    case let text:
      let digits = text.hasPrefix("#") ? text.dropFirst() : text[...]
      guard digits.utf8.count == 6, digits.allSatisfy(\.isHexDigit),
        let number = Int(digits, radix: 16)
      else { return nil }
      self.init(
        red: UInt8(number >> 16), green: UInt8(number >> 8 & 255), blue: UInt8(number & 255))
    }
  }

  public var description: String {
    switch self {
    case .black: "black"
    case .white: "white"
    default:
      "#"
        + [red, green, blue].map { byte in
          let digits = String(byte, radix: 16, uppercase: true)
          return digits.count == 1 ? "0" + digits : digits
        }.joined()
    }
  }
}
