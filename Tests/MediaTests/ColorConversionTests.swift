import Foundation
import MediaTestSupport
import Testing

@testable import Media

/// HDR, wide gamut and rare matrices become SDR BT.709.
@Suite struct ColorConversionTests {
  private let folder: TemporaryFolder
  private static let grays = [0, 16, 64, 100, 128, 160, 180, 200, 220, 255].map { [$0, $0, $0] }
  private static let colors = [
    [160, 40, 40], [40, 150, 40], [40, 40, 160], [150, 150, 30], [30, 150, 150], [120, 80, 60],
    [200, 60, 20],
  ]

  init() throws { folder = try TemporaryFolder() }

  /// Writes samples losslessly with tags; `layout` has planes of words.
  private func make(
    _ name: String, _ patches: [[Int]], layout: String = "yuv444p10le",
    primaries: String = "bt2020",
    transfer: String, matrix: String = "bt2020nc", more: [String] = ["-c:v", "ffv1"]
  ) throws -> String {
    try ColorPatches.write(patches, to: folder.file("patches.raw"))
    let size = "\(patches.count * ColorPatches.size)x\(ColorPatches.size)"
    try ffmpeg(
      [
        "-f", "rawvideo", "-pix_fmt", layout, "-s", size, "-i", "patches.raw", "-color_primaries",
        primaries,
      ]
        + [
          "-color_trc", transfer, "-colorspace", matrix, "-color_range",
          layout.hasPrefix("gbr") ? "pc" : "tv",
        ]
        + more + [name], in: folder)
    return folder.file(name)
  }

  /// SDR's colors at 203 nits in PQ with BT.2020 primaries.
  private static func pq(_ rgb: [Int]) -> [Double] {
    ColorPatches.toBT2020(ColorPatches.light(rgb)).map { ColorPatches.pq(max(0, $0) * 203) }
  }

  @Test func sdrPlacedInPQKeepsItsLook() throws {
    let patches = Self.grays + Self.colors
    let samples = patches.map { ColorPatches.tenBits(ColorPatches.ycc(Self.pq($0))) }
    let (frame, notes) = try firstFrame(make("pq.mkv", samples, transfer: "smpte2084"))
    let found = ColorPatches.middles(frame)
    #expect(notes == ["HDR (PQ, BT.2020) was tone-mapped to SDR BT.709"])
    // Below the knee (91 nits, level 182) nothing changes; white is a little darker, which leaves
    // room for highlights.
    #expect(ColorPatches.difference(Array(found[..<7]), Array(patches[..<7])) <= 1, "\(found)")
    #expect(ColorPatches.difference(Array(found[10...]), Array(patches[10...])) <= 3, "\(found)")
    #expect((229...234).contains(found[9][0]), "\(found[9])")
    #expect(zip(found[..<9], found[1...9]).allSatisfy { $0[0] < $1[0] })

    let (raw, none) = try firstFrame(folder.file("pq.mkv"), ColorOptions(convertsToSDR: false))
    let codes = patches.map { Self.pq($0).map { Int((255 * $0).rounded()) } }
    #expect(ColorPatches.difference(ColorPatches.middles(raw), codes) <= 1 && none.isEmpty)
  }

  /// The peak of the material determines the compression of highlights.
  @Test func theBrightestPixelIsReadFromTheMetadata() throws {
    let samples = Self.grays.map { ColorPatches.tenBits(ColorPatches.ycc(Self.pq($0))) }
    let options = [
      "-c:v", "libx265", "-x265-params", "log-level=none:lossless=1:hdr10=1:max-cll=203,100",
    ]
    let (frame, _) = try firstFrame(make("cll.mp4", samples, transfer: "smpte2084", more: options))
    #expect(ColorPatches.difference(ColorPatches.middles(frame), Self.grays) <= 1)
  }

  @Test func highlightsRollOff() {
    let curve = ToneMapping(peak: 1000)
    #expect(abs(curve.mapped(1000) - 203) < 1e-6 && abs(curve.mapped(50) - 50) < 1e-9)
    // ITU-R BT.2390-11, annex 5, computed by hand for 203 nits.
    #expect(abs(curve.mapped(203) - 159.04) < 0.1, "\(curve.mapped(203))")
    let values = stride(from: 0.0, through: 1000, by: 10).map(curve.mapped)
    #expect(zip(values, values.dropFirst()).allSatisfy { $0 < $1 })
    #expect(ToneMapping(peak: 100).mapped(150) == 150 && ToneMapping(peak: 100).mapped(400) == 203)
    #expect(ToneMapping.peak(maximumLight: 0, mastering: 4000) == 4000)
    #expect(ToneMapping.peak(maximumLight: .nan, mastering: 0) == 1000)
  }

  /// Equal light gives equal frames in PQ and HLG.
  @Test func hlgIsShownAtAThousandNits() throws {
    let nits = [0, 1, 5, 20, 50, 100, 203, 400, 1000].map(Double.init)
    let pq = nits.map { ColorPatches.tenBits([ColorPatches.pq($0), 0, 0]) }
    // Gray: display light is the scene's to the power of 1.2.
    let hlg = nits.map { ColorPatches.tenBits([ColorPatches.hlg(pow($0 / 1000, 1 / 1.2)), 0, 0]) }
    let (a, _) = try firstFrame(make("a.mkv", pq, transfer: "smpte2084"))
    let (b, notes) = try firstFrame(make("b.mkv", hlg, transfer: "arib-std-b67"))
    #expect(notes == ["HDR (HLG, BT.2020) was tone-mapped to SDR BT.709"])
    let (first, second) = (ColorPatches.middles(a), ColorPatches.middles(b))
    #expect(ColorPatches.difference(first, second) <= 1, "\(first) \(second)")
    #expect(first[0] == [0, 0, 0] && first[8] == [255, 255, 255])
  }

  @Test func wideGamutWithAnSDRCurveIsConverted() throws {
    let patches = Self.grays + Self.colors
    let samples = patches.map { patch in
      let wide = ColorPatches.toBT2020(ColorPatches.light(patch)).map { pow(max(0, $0), 1 / 2.4) }
      return ColorPatches.tenBits(ColorPatches.ycc(wide))
    }
    let (frame, notes) = try firstFrame(make("wide.mkv", samples, transfer: "bt2020-10"))
    #expect(notes == ["color (BT.2020) was converted to SDR BT.709"])
    #expect(ColorPatches.difference(ColorPatches.middles(frame), patches) <= 2)
    #expect(ColorPatches.difference(Array(ColorPatches.middles(frame)[..<10]), Self.grays) <= 1)

    // Display P3, as phones record: red of BT.709 is (0.8225, 0.0332, 0.0171) of linear P3.
    let p3 = [[0.8225, 0.0332, 0.0171].map { pow($0, 1 / 2.4) }, [1, 1, 1], [0.5, 0.5, 0.5]]
      .map { ColorPatches.tenBits(ColorPatches.ycc($0, red: 0.2126, blue: 0.0722)) }
    let (phone, told) = try firstFrame(
      make("p3.mkv", p3, primaries: "smpte432", transfer: "bt709", matrix: "bt709"))
    #expect(told == ["color (P3) was converted to SDR BT.709"])
    #expect(
      ColorPatches.difference(
        ColorPatches.middles(phone), [[255, 0, 0], [255, 255, 255], [128, 128, 128]]) <= 3)
  }

  @Test(arguments: [("linear", 1.0), ("gamma28", 2.8)])
  func otherTransferFunctionsAreConverted(name: String, exponent: Double) throws {
    let codes = [0.0, 0.05, 0.2, 0.5, 0.8, 1]
    let samples = codes.map { ColorPatches.tenBits([$0, 0, 0]) }
    let (frame, notes) = try firstFrame(
      make("a.mkv", samples, primaries: "bt709", transfer: name, matrix: "bt709"))
    let wanted = codes.map { code in
      Array(repeating: Int((255 * pow(pow(code, exponent), 1 / 2.4)).rounded()), count: 3)
    }
    #expect(ColorPatches.difference(ColorPatches.middles(frame), wanted) <= 1, "\(frame)")
    #expect(notes.count == 1)
  }

  @Test(arguments: [
    ("bt709", 0.2126, 0.0722), ("fcc", 0.30, 0.11), ("bt470bg", 0.299, 0.114),
    ("smpte170m", 0.299, 0.114),
    ("smpte240m", 0.212, 0.087),
  ])
  func everyMatrixIsKnown(name: String, red: Double, blue: Double) throws {
    let patches = Self.colors
    let samples = patches.map { patch in
      ColorPatches.tenBits(ColorPatches.ycc(patch.map { Double($0) / 255 }, red: red, blue: blue))
    }
    let path = try make("a.mkv", samples, primaries: "bt709", transfer: "bt709", matrix: name)
    let (frame, notes) = try firstFrame(path)
    let found = ColorPatches.middles(frame)
    #expect(ColorPatches.difference(found, patches) <= 2 && notes.isEmpty, "\(found)")
  }

  @Test func yCgCoIsConverted() throws {
    let patches = Self.grays + Self.colors
    let samples = patches.map { patch in
      let c = patch.map { Double($0) / 255 }
      return ColorPatches.tenBits([
        c[0] / 4 + c[1] / 2 + c[2] / 4, -c[0] / 4 + c[1] / 2 - c[2] / 4, c[0] / 2 - c[2] / 2,
      ])
    }
    let (frame, notes) = try firstFrame(
      make("a.mkv", samples, primaries: "bt709", transfer: "bt709", matrix: "ycgco"))
    #expect(ColorPatches.difference(ColorPatches.middles(frame), patches) <= 1 && notes.isEmpty)
  }

  /// ITU-R BT.2100, table 7.
  @Test func iCtCpIsConverted() throws {
    let patches = Array(Self.grays[..<7]) + Self.colors
    let samples = patches.map { patch in
      let c = ColorPatches.toBT2020(ColorPatches.light(patch)).map { max(0, $0) * 203 }
      let lms = [
        (1688 * c[0] + 2146 * c[1] + 262 * c[2]) / 4096,
        (683 * c[0] + 2951 * c[1] + 462 * c[2]) / 4096,
        (99 * c[0] + 309 * c[1] + 3688 * c[2]) / 4096,
      ].map(ColorPatches.pq)
      return ColorPatches.tenBits([
        (lms[0] + lms[1]) / 2, (6610 * lms[0] - 13613 * lms[1] + 7003 * lms[2]) / 4096,
        (17933 * lms[0] - 17390 * lms[1] - 543 * lms[2]) / 4096,
      ])
    }
    let path = try make(
      "a.mp4", samples, transfer: "smpte2084", matrix: "ictcp", more: Self.lossless)
    let found = ColorPatches.middles(try firstFrame(path).0)
    #expect(ColorPatches.difference(found, patches) <= 3, "\(found)")
  }

  private static let lossless = ["-c:v", "libx265", "-x265-params", "log-level=none:lossless=1"]

  /// ITU-R BT.2020, table 4.
  @Test func constantLuminanceIsConverted() throws {
    func curve(_ x: Double) -> Double { x < 0.0181 ? 4.5 * x : 1.0993 * pow(x, 0.45) - 0.0993 }
    func light(_ y: Double) -> Double {
      y < 0.0815 ? y / 4.5 : pow((y + 0.0993) / 1.0993, 1 / 0.45)
    }
    let patches = Self.grays + Self.colors
    let samples = patches.map { patch in
      let c = ColorPatches.toBT2020(patch.map { light(Double($0) / 255) })
      let y = curve(0.2627 * c[0] + 0.6780 * c[1] + 0.0593 * c[2])
      let (b, r) = (curve(max(0, c[2])) - y, curve(max(0, c[0])) - y)
      return ColorPatches.tenBits([
        y, b <= 0 ? b / 1.9404 : b / 1.5816, r <= 0 ? r / 1.7184 : r / 0.9936,
      ])
    }
    let path = try make(
      "a.mp4", samples, transfer: "bt2020-10", matrix: "bt2020c", more: Self.lossless)
    let found = ColorPatches.middles(try firstFrame(path).0)
    #expect(ColorPatches.difference(found, patches) <= 3, "\(found)")
  }

  /// RGB, other depths, subsampled chroma and packed layouts are converted the same way.
  @Test(arguments: [
    "gbrp10le ffv1 a.mkv", "gbrp16le ffv1 a.mkv", "yuv420p10le ffv1 a.mkv",
    "yuv422p12le ffv1 a.mkv",
    "yuv444p16le ffv1 a.mkv", "yuv422p10le v210 a.mov", "gbrp10le r210 a.mov", "rgb48be png a.mkv",
    "bgra ffv1 a.mkv", "yuv422p ffv1 a.mkv", "yuva444p10le ffv1 a.mkv",
  ])
  func everyLayoutIsConverted(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    let layout = words[0]
    let patches = Self.grays[1...6] + [[150, 60, 60], [60, 150, 60]]
    let samples = patches.map { patch in
      let c = Self.pq(patch).map { Int((65535 * $0).rounded()) }
      return [c[1], c[2], c[0]]
    }
    let isRGB = !layout.hasPrefix("yuv")
    let filter = isRGB ? [] : ["-vf", "scale=out_color_matrix=bt2020:out_range=tv"]
    let path = try make(
      words[2], samples, layout: "gbrp16le", transfer: "smpte2084",
      matrix: isRGB ? "rgb" : "bt2020nc",
      more: filter + ["-color_range", isRGB ? "pc" : "tv", "-pix_fmt", layout, "-c:v", words[1]])
    let found = ColorPatches.middles(try firstFrame(path).0)
    // Eight bits of PQ are coarse.
    let limit = layout == "bgra" || layout == "yuv422p" ? 12 : 4
    #expect(ColorPatches.difference(found, Array(patches)) <= limit, "\(line) \(found)")
  }

  @Test func untaggedVideoIsBT709From720LinesUp() throws {
    func red(_ size: String, _ name: String, _ options: ColorOptions) throws -> [Int] {
      // Samples of BT.709's (200, 50, 50).
      try ffmpeg(
        [
          "-f", "lavfi", "-i",
          "color=0x808080:s=\(size):d=0.04,format=yuv444p,geq=lum=86:cb=118:cr=183",
        ]
          + ["-c:v", "libx264", "-qp", "0", name], in: folder)
      let frame = try firstFrame(folder.file(name), options).0
      return frame.bytes[..<3].map(Int.init)
    }
    let hd = try red("1280x720", "hd.mp4", ColorOptions())
    let portrait = try red("720x1280", "portrait.mp4", ColorOptions())
    let sd = try red("640x480", "sd.mp4", ColorOptions())
    let upstream = try red("1280x720", "hd2.mp4", .upstream)
    let (luma, cb, cr) = ((86.0 - 16) / 219, (118.0 - 128) / 224, (183.0 - 128) / 224)
    func rgb(_ r: Double, _ b: Double) -> [Int] {
      let (red, blue) = (luma + 2 * (1 - r) * cr, luma + 2 * (1 - b) * cb)
      return [red, (luma - r * red - b * blue) / (1 - r - b), blue].map {
        Int(($0 * 255).rounded())
      }
    }
    for found in [hd, portrait] {
      #expect(ColorPatches.difference([found], [rgb(0.2126, 0.0722)]) <= 2, "\(found)")
    }
    for found in [sd, upstream] {
      #expect(ColorPatches.difference([found], [rgb(0.299, 0.114)]) <= 2, "\(found)")
    }
    #expect(upstream == sd)
  }

  /// Images in formats without a range tag use the full range.
  @Test(arguments: [
    "gray16.tiff gray16le", "gray16.png gray16be", "gray8.png gray", "gray16.pgm gray16be",
    "gray8.tiff gray",
    "gray.pgm gray", "ya8.png ya8", "ya16.png ya16be", "gray.jpg gray", "gray.bmp gray",
    "gray.webp gray",
    "gray.jp2 gray16le", "gray10.mkv gray10le", "gray16.mkv gray16le", "gray12.mkv gray12le",
    "gray.mkv gray",
  ])
  func grayRunsFromBlackToWhite(_ line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    let codec =
      words[0].hasSuffix(".mkv")
      ? ["-c:v", "ffv1"] : words[0].hasSuffix(".webp") ? ["-lossless", "1"] : []
    var data = Data()
    for _ in 0..<16 { for x in 0..<256 { data += [UInt8(x), UInt8(x)] } }
    try data.write(to: URL(fileURLWithPath: folder.file("ramp.raw")))
    try ffmpeg(
      [
        "-f", "rawvideo", "-pix_fmt", "gray16le", "-s", "256x16", "-i", "ramp.raw", "-frames:v",
        "1",
      ]
        + ["-pix_fmt", words[1]] + codec + [words[0]], in: folder)
    let frame = try firstFrame(folder.file(words[0])).0
    let row = (0..<256).map { Int(frame.bytes[3 * (256 * 8 + $0)]) }
    let isLossy =
      words[0].hasSuffix("jpg") || words[0].hasSuffix("jp2") || words[0].hasSuffix("webp")
    let most = (0..<256).map { abs(row[$0] - $0) }.max() ?? 255
    #expect(most <= (isLossy ? 3 : 1), "\(row)")
  }

  @Test func aPNGCanDeclareHDR() throws {
    let patches = Array(Self.grays[..<7])
    let samples = patches.map { patch in
      let c = Self.pq(patch).map { Int((65535 * $0).rounded()) }
      return [c[1], c[2], c[0]]
    }
    let path = try make(
      "a.png", samples, layout: "gbrp16le", transfer: "smpte2084", matrix: "rgb",
      more: ["-pix_fmt", "rgb48be"])
    var png = try Data(contentsOf: URL(fileURLWithPath: path))
    // After the header's chunk; the checksum isn't verified.
    png.insert(contentsOf: [0, 0, 0, 4] + Array("cICP".utf8) + [9, 16, 0, 1, 0, 0, 0, 0], at: 33)
    try png.write(to: URL(fileURLWithPath: folder.file("b.png")))
    let (frame, notes) = try firstFrame(folder.file("b.png"))
    #expect(notes == ["HDR (PQ, BT.2020) was tone-mapped to SDR BT.709"])
    // Images are coded by sRGB's curve.
    let wanted = patches.map { patch in
      ColorPatches.light(patch).map { Int((255 * TransferFunction.sRGB.code($0)).rounded()) }
    }
    #expect(ColorPatches.difference(ColorPatches.middles(frame), wanted) <= 1)
  }
}
