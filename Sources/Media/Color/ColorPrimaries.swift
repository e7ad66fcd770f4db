import CFFmpeg

/// A 3x3 matrix, in row order.
struct ColorMatrix: Equatable, Sendable {
  var rows: [Double]

  static let identity = ColorMatrix(rows: [1, 0, 0, 0, 1, 0, 0, 0, 1])

  static func * (a: ColorMatrix, b: ColorMatrix) -> ColorMatrix {
    var product = [Double](repeating: 0, count: 9)
    for row in 0..<3 {
      for column in 0..<3 {
        for inner in 0..<3 {
          product[3 * row + column] += a.rows[3 * row + inner] * b.rows[3 * inner + column]
        }
      }
    }
    return ColorMatrix(rows: product)
  }

  static func * (a: ColorMatrix, b: [Double]) -> [Double] {
    var product = [0.0, 0.0, 0.0]
    for row in 0..<3 {
      for column in 0..<3 { product[row] += a.rows[3 * row + column] * b[column] }
    }
    return product
  }

  var inverse: ColorMatrix {
    let m = rows
    func minor(_ a: Int, _ b: Int, _ c: Int, _ d: Int) -> Double { m[a] * m[b] - m[c] * m[d] }
    let cofactors: [Double] = [
      minor(4, 8, 5, 7), minor(2, 7, 1, 8), minor(1, 5, 2, 4), minor(5, 6, 3, 8), minor(0, 8, 2, 6),
      minor(2, 3, 0, 5), minor(3, 7, 4, 6), minor(1, 6, 0, 7), minor(0, 4, 1, 3),
    ]
    let determinant: Double = m[0] * cofactors[0] + m[1] * cofactors[3] + m[2] * cofactors[6]
    return ColorMatrix(rows: cofactors.map { $0 / determinant })
  }
}

/// Red, green, blue and white in CIE xy (ITU-T H.273, table 2).
struct ColorPrimaries: Equatable, Sendable {
  let name: String
  let red: [Double]
  let green: [Double]
  let blue: [Double]
  let white: [Double]

  private static let d65 = [0.3127, 0.3290]
  private static let illuminantC = [0.310, 0.316]

  static let bt709 = ColorPrimaries(
    name: "BT.709", red: [0.640, 0.330], green: [0.300, 0.600], blue: [0.150, 0.060], white: d65)
  static let bt2020 = ColorPrimaries(
    name: "BT.2020", red: [0.708, 0.292], green: [0.170, 0.797], blue: [0.131, 0.046], white: d65)

  /// Nil for BT.709, for unspecified tags, and for the primaries of standard definition (BT.601,
  /// EBU). Those are so similar to BT.709 that players treat them differently, and files often
  /// carry their tags wrongly.
  init?(_ tag: AVColorPrimaries) {
    switch tag {
    case AVCOL_PRI_BT2020: self = .bt2020
    case AVCOL_PRI_SMPTE432:
      self.init(
        name: "P3", red: [0.680, 0.320], green: [0.265, 0.690], blue: [0.150, 0.060],
        white: Self.d65)
    case AVCOL_PRI_SMPTE431:
      self.init(
        name: "DCI-P3", red: [0.680, 0.320], green: [0.265, 0.690], blue: [0.150, 0.060],
        white: [0.314, 0.351])
    case AVCOL_PRI_BT470M:
      self.init(
        name: "BT.470 M", red: [0.67, 0.33], green: [0.21, 0.71], blue: [0.14, 0.08],
        white: Self.illuminantC)
    case AVCOL_PRI_FILM:
      self.init(
        name: "film", red: [0.681, 0.319], green: [0.243, 0.692], blue: [0.145, 0.049],
        white: Self.illuminantC)
    case AVCOL_PRI_SMPTE428:
      self.init(
        name: "XYZ", red: [1, 0], green: [0, 1], blue: [0, 0], white: [1.0 / 3, 1.0 / 3])
    default: return nil
    }
  }

  private init(name: String, red: [Double], green: [Double], blue: [Double], white: [Double]) {
    (self.name, self.red, self.green, self.blue, self.white) = (name, red, green, blue, white)
  }

  /// Linear RGB to CIE XYZ with white at Y = 1.
  var toXYZ: ColorMatrix {
    let columns = [red, green, blue].map { xy in [xy[0], xy[1], 1 - xy[0] - xy[1]] }
    let m = ColorMatrix(rows: (0..<9).map { columns[$0 % 3][$0 / 3] })
    let scale = m.inverse * Self.xyz(white)
    return ColorMatrix(rows: (0..<9).map { m.rows[$0] * scale[$0 % 3] })
  }

  /// The matrix from linear RGB of these primaries to linear RGB of others; white stays white
  /// (Bradford adaptation).
  func matrix(to other: ColorPrimaries) -> ColorMatrix {
    guard self != other else { return .identity }
    let bradford = ColorMatrix(
      rows: [0.8951, 0.2664, -0.1614, -0.7502, 1.7135, 0.0367, 0.0389, -0.0685, 1.0296])
    let from = bradford * Self.xyz(white)
    let to = bradford * Self.xyz(other.white)
    let scale = ColorMatrix(rows: [
      to[0] / from[0], 0, 0, 0, to[1] / from[1], 0, 0, 0, to[2] / from[2],
    ])
    return other.toXYZ.inverse * bradford.inverse * scale * bradford * toXYZ
  }

  /// The weights of red, green and blue in luminance.
  var luminance: [Double] { Array(toXYZ.rows[3..<6]) }

  private static func xyz(_ white: [Double]) -> [Double] {
    [white[0] / white[1], 1, (1 - white[0] - white[1]) / white[1]]
  }
}
