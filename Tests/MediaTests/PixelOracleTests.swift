import Foundation
import MediaTestSupport
import Testing

@testable import Media

/// Against upstream's readers, Pillow and PyAV; the fixtures come from Tests/Oracles/pictures.py.
@Suite struct PixelOracleTests {
  private static let folder =
    URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().path + "/Fixtures/pictures/"

  /// The min PSNR of each file in dB; nil where every byte must match.
  private static let files: [(name: String, decibels: Double?)] =
    // libjpeg and FFmpeg round differently, and upsample chroma with other formulas.
    (1...8).map { ("exif\($0).jpg", 55) } + [
      ("halved.jpg", 46), ("odd.jpg", 46), ("grey.jpg", 60),
      // LittleCMS computes in fixed point: 1 level.
      ("p3.png", 60), ("p3-table.png", 60), ("adobe.png", 60), ("srgb.png", nil),
      // Outside of sRGB's range one level of JPEG becomes several.
      ("adobe.jpg", 50),
      ("grey.png", nil), ("bilevel.png", nil), ("palette.png", nil), ("palette-alpha.png", nil),
      ("rgba.png", nil), ("grey-alpha.png", nil), ("exif6.png", nil),
      ("rgb16.png", nil), ("rgba16.png", nil),
      // Plain 8-bit layouts are exact; for others FFmpeg's versions differ in their scalers.
      ("bt709.mkv", nil), ("full.mkv", nil), ("planes.mkv", nil), ("rgb.mkv", nil),
      ("odd.mkv", 50), ("ten-bit.mkv", 48), ("ten-bit-full.mkv", 48), ("ten-bit-422.mkv", 46),
    ]

  private func lastFrame(_ name: String) throws -> (frame: RGBFrame, hasUnusedProfile: Bool) {
    let reader = try VideoReader(path: Self.folder + name, color: .upstream)
    var last: RGBFrame?
    while let frame = try reader.next() { last = frame }
    #expect(reader.ending == .complete)
    return (try #require(last), reader.hasUnusedProfile)
  }

  @Test func allFilesAreTested() throws {
    struct Cases: Decodable { let names: [String] }
    let data = try Data(contentsOf: URL(fileURLWithPath: Self.folder + "cases.json"))
    let tested = Self.files.map { $0.name }.sorted()
    #expect(try JSONDecoder().decode(Cases.self, from: data).names == tested)
  }

  @Test(arguments: files.indices) func pixelsEqualUpstreams(index: Int) throws {
    let (name, decibels) = Self.files[index]
    let (frame, hasUnusedProfile) = try lastFrame(name)
    let wanted = try lastFrame(name + ".wanted.png").frame
    #expect(frame.width == wanted.width && frame.height == wanted.height, "\(name)")
    let reached = psnr(frame, wanted)
    if let decibels {
      #expect(reached >= decibels, "\(name): \(reached) dB")
    } else {
      let isSame = frame.bytes == wanted.bytes
      #expect(isSame, "\(name): \(reached) dB")
    }
    #expect(!hasUnusedProfile)
  }

  /// A damaged profile is reported, and changes nothing.
  @Test func anUnusableProfileIsReported() throws {
    let folder = try TemporaryFolder()
    var bytes = try Data(contentsOf: URL(fileURLWithPath: Self.folder + "adobe.jpg"))
    let tag = try #require(bytes.range(of: Data("rTRC".utf8)))
    bytes.replaceSubrange(tag, with: Data("none".utf8))
    try bytes.write(to: URL(fileURLWithPath: folder.file("a.jpg")))
    let reader = try VideoReader(path: folder.file("a.jpg"))
    let frame = try #require(try reader.next())
    #expect(reader.hasUnusedProfile)
    #expect(psnr(frame, try lastFrame("adobe.jpg").frame) < 40)
  }

  /// A profile with primaries close to sRGB's and a single curve.
  private func profile(curve: [UInt8]) -> [UInt8] {
    func words(_ values: [UInt32]) -> [UInt8] {
      values.flatMap { value in [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) } }
    }
    let colors: [[UInt32]] = [
      [0x6FA2, 0x38F5, 0x0390], [0x6299, 0xB785, 0x18DA], [0x24A0, 0x0F84, 0xB6CF],
    ]
    let tags =
      zip(["rXYZ", "gXYZ", "bXYZ"], colors).map { ($0, Array("XYZ ".utf8) + words([0] + $1)) }
      + ["rTRC", "gTRC", "bTRC"].map { ($0, curve) }
    var (table, data) = (words([UInt32(tags.count)]), [UInt8]())
    for (name, content) in tags {
      table +=
        Array(name.utf8)
        + words([UInt32(128 + 4 + 12 * tags.count + data.count), UInt32(content.count)])
      data += content
    }
    var header = [UInt8](repeating: 0, count: 128)
    for (place, name) in [(16, "RGB "), (20, "XYZ "), (36, "acsp")] {
      header.replaceSubrange(place..<(place + 4), with: Array(name.utf8))
    }
    return header + table + data
  }

  @Test func curvesAreReadInEveryForm() throws {
    let frame = RGBFrame(bytes: [0, 128, 255, 64, 64, 64], width: 2, height: 1)
    func converted(_ type: String, _ rest: [UInt8]) throws -> [UInt8] {
      try #require(ColorProfile(profile(curve: Array(type.utf8) + [0, 0, 0, 0] + rest))).converted(
        frame
      )
      .bytes
    }
    // Linear light: sRGB's bytes for 64/255 and 128/255 of light are 137 and 188.
    let linear = try converted("curv", [0, 0, 0, 0])
    #expect(zip(linear, [0, 188, 255, 137, 137, 137]).allSatisfy { abs(Int($0) - $1) <= 1 })
    #expect(try converted("curv", [0, 0, 0, 1, 1, 0]) == linear)
    #expect(try converted("curv", [0, 0, 0, 2, 0, 0, 0xFF, 0xFF]) == linear)
    #expect(try converted("para", [0, 0, 0, 0, 0, 1, 0, 0]) == linear)
    // (32767 x) to the power of 8 is clipped to 1: white wherever there is light.
    let steep = try converted("para", [0, 1, 0, 0, 0, 8, 0, 0, 0x7F, 0xFF, 0, 0, 0, 0, 0, 0])
    #expect(steep.suffix(3).allSatisfy { $0 >= 254 })
  }

  /// Whatever a profile contains, reading it doesn't crash.
  @Test func scrambledProfilesDoNotCrash() throws {
    let image = try Data(contentsOf: URL(fileURLWithPath: Self.folder + "adobe.jpg"))
    let start = try #require(image.range(of: Data("ICC_PROFILE\0".utf8))).upperBound + 2
    let profile = Array(image[start..<(start + 600)])
    var state: UInt64 = 7
    var usable = 0
    for _ in 0..<2000 {
      var broken = profile
      for _ in 0..<3 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        broken[Int(state >> 33) % broken.count] = UInt8(truncatingIfNeeded: state >> 20)
      }
      let frame = RGBFrame(bytes: [0, 128, 255], width: 1, height: 1)
      if let profile = ColorProfile(broken) {
        usable += profile.converted(frame).bytes.count == 3 ? 1 : 0
      }
      _ = ColorProfile(Array(broken.prefix(Int(state >> 40) % 600)))
    }
    #expect((1..<2000).contains(usable))
  }
}
