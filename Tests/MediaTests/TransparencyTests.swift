import Foundation
import MediaTestSupport
import Testing

@testable import Media

/// Transparent pixels are shown on a background.
@Suite struct TransparencyTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Left half red at alpha 0, right half green at alpha 128, below that blue and opaque.
  private func make(_ name: String, _ options: [String], frames: Int = 1) throws -> String {
    var frame = Data()
    for y in 0..<32 {
      for x in 0..<64 {
        frame += y >= 16 ? [0, 0, 255, 255] : x < 32 ? [255, 0, 0, 0] : [0, 255, 0, 128]
      }
    }
    let data = (0..<frames).reduce(into: Data()) { data, _ in data += frame }
    try data.write(to: URL(fileURLWithPath: folder.file("rgba.raw")))
    try ffmpeg(
      ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", "64x32", "-r", "25", "-i", "rgba.raw"] + options
        + [name],
      in: folder)
    return folder.file(name)
  }

  private func corners(_ frame: RGBFrame) -> [[Int]] {
    [(16, 8), (48, 8), (32, 24)].map { x, y in
      let i = 3 * (frame.width * y + x)
      return frame.bytes[i..<(i + 3)].map(Int.init)
    }
  }

  @Test(arguments: [
    "a.png|-frames:v 1", "a16.png|-frames:v 1 -pix_fmt rgba64be",
    "a.webp|-frames:v 1 -c:v libwebp -lossless 1",
    "a.tiff|-frames:v 1 -pix_fmt rgba", "a.apng|-c:v apng -pix_fmt rgba",
    "qtrle.mov|-c:v qtrle -pix_fmt argb",
    "png.mov|-c:v png -pix_fmt rgba", "ffv1.mkv|-c:v ffv1 -pix_fmt bgra",
    "yuva.mkv|-c:v ffv1 -pix_fmt yuva420p",
    "deep.mkv|-c:v ffv1 -pix_fmt yuva444p16le", "gbrap.mkv|-c:v ffv1 -pix_fmt gbrap12le",
    "prores.mov|-c:v prores_ks -pix_fmt yuva444p10le -qscale 1",
    "vp9.webm|-c:v libvpx-vp9 -pix_fmt yuva420p -crf 4",
    "vp8.webm|-c:v libvpx -pix_fmt yuva420p -crf 4 -b:v 4M -auto-alt-ref 0",
    "raw.avi|-c:v rawvideo -pix_fmt bgra",
    "a.tga|-frames:v 1 -pix_fmt bgra", "huff.avi|-c:v huffyuv -pix_fmt bgra",
    "ut.avi|-c:v utvideo -pix_fmt gbrap",
  ])
  func alphaIsComposited(line: String) throws {
    let words = line.split(separator: "|").map(String.init)
    let path = try make(words[0], words[1].split(separator: " ").map(String.init))
    let isLossless = !["prores.mov", "vp9.webm", "vp8.webm", "yuva.mkv", "deep.mkv"].contains(
      words[0])
    let isImage = ["png", "webp", "tiff", "apng", "tga"].contains { words[0].hasSuffix("." + $0) }
    let cases: [(RGBColor?, [Int])] = [
      (nil, isImage ? [255, 255, 255] : [0, 0, 0]), (RGBColor("#204060"), [0x20, 0x40, 0x60]),
    ]
    for (background, color) in cases {
      let (frame, notes) = try firstFrame(path, ColorOptions(background: background))
      let green = zip([0, 255, 0], color).map { ($0 * 128 + $1 * 127 + 127) / 255 }
      let found = corners(frame)
      let limit = isLossless ? 1 : 6
      #expect(
        ColorPatches.difference(found, [color, green, [0, 0, 255]]) <= limit, "\(line) \(found)")
      let name = background ?? (isImage ? .white : .black)
      #expect(notes == ["transparent pixels were composited on \(name)"], "\(line)")
    }
    // Upstream's readers ignore alpha.
    let (raw, none) = try firstFrame(path, .upstream)
    // WebP's encoder clears hidden colors.
    guard !path.hasSuffix(".webp") else { return }
    #expect(none.isEmpty && corners(raw)[0] != [0, 0, 0] && corners(raw)[0] != [255, 255, 255])
  }

  @Test func palettesAndGrayAreComposited() throws {
    for (name, options) in [
      ("p.gif", ["-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse", "-frames:v", "1"]),
      (
        "p.png",
        ["-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse,format=pal8", "-frames:v", "1"]
      ),
      ("g.png", ["-pix_fmt", "ya8", "-frames:v", "1"]),
      ("g16.png", ["-pix_fmt", "ya16be", "-frames:v", "1"]),
    ] {
      let (frame, notes) = try firstFrame(make(name, options), ColorOptions(background: .black))
      #expect(corners(frame)[0].allSatisfy { $0 <= 1 }, "\(name) \(corners(frame))")
      #expect(notes == ["transparent pixels were composited on black"], "\(name)")
    }
  }

  @Test func opaqueAlphaIsNotReported() throws {
    try ffmpeg(
      ["-f", "lavfi", "-i", "color=red:s=32x32,format=rgba", "-frames:v", "1", "a.png"], in: folder)
    let (frame, notes) = try firstFrame(folder.file("a.png"))
    #expect(Array(frame.bytes[..<3]) == [254, 0, 0] || Array(frame.bytes[..<3]) == [255, 0, 0])
    #expect(notes.isEmpty)
  }

  @Test func colorsHaveNames() {
    #expect(RGBColor("#0a0B0c") == RGBColor(red: 10, green: 11, blue: 12))
    #expect(RGBColor("White") == .white && RGBColor("black") == .black)
    #expect(
      RGBColor("#12345") == nil && RGBColor("grue") == nil && RGBColor("") == nil
        && RGBColor("#+12345") == nil)
    #expect(RGBColor("#0A0B0C")?.description == "#0A0B0C" && RGBColor.white.description == "white")
  }

  /// A TIFF with one strip of a given compression.
  private func tiff(_ compression: UInt16, _ strip: Data) -> Data {
    var data = Data("II".utf8) + [42, 0, 8, 0, 0, 0]
    let entries: [(UInt16, UInt16, UInt32)] = [
      (256, 4, 64), (257, 4, 32), (258, 3, 8), (259, 3, UInt32(compression)), (262, 3, 1),
      (273, 4, 200),
      (277, 3, 1), (278, 4, 32), (279, 4, UInt32(strip.count)),
    ]
    data += [UInt8(entries.count), 0]
    for (tag, type, value) in entries {
      for word in [tag, type, 1, 0] { data += [UInt8(word & 255), UInt8(word >> 8)] }
      for shift in [0, 8, 16, 24] { data.append(UInt8(value >> UInt32(shift) & 255)) }
    }
    data += Data(count: 200 - data.count)
    return data + strip
  }

  /// FFmpeg returns an uninitialized buffer for some compressions.
  @Test(arguments: [
    (UInt16(7), "JPEG"), (6, "old JPEG"), (34712, "JPEG 2000"), (50000, "Zstandard"),
    (50001, "WebP"),
  ])
  func aTIFFThatIsNotDecodedIsAnError(compression: UInt16, name: String) throws {
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=s=64x32", "-frames:v", "1", "-pix_fmt", "gray", "-c:v",
        "mjpeg",
        "a.jpg",
      ],
      in: folder)
    let strip = try Data(contentsOf: URL(fileURLWithPath: folder.file("a.jpg")))
    try tiff(compression, strip).write(to: URL(fileURLWithPath: folder.file("a.tiff")))
    let error = mediaError { _ = try VideoReader(path: folder.file("a.tiff")) }
    #expect(
      error?.what == "is a TIFF with \(name) compression, which the installed FFmpeg can't decode",
      "\(String(describing: error))")
    // The same file without compression can be read.
    let ramp = Data((0..<2048).map { UInt8($0 % 64 * 4) })
    try tiff(1, ramp).write(to: URL(fileURLWithPath: folder.file("b.tiff")))
    #expect(try firstFrame(folder.file("b.tiff")).0.bytes[3 * 63] == 252)
  }
}
