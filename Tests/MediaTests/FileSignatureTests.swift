import Foundation
import MediaTestSupport
import Testing

@testable import Media

/// Images that FFmpeg can't decode are named, whatever the file is called.
@Suite struct FileSignatureTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func refusal(_ name: String, _ bytes: Data) throws -> MediaError? {
    try bytes.write(to: URL(fileURLWithPath: folder.file(name)))
    return mediaError {
      let reader = try VideoReader(path: folder.file(name))
      while try reader.next() != nil {}
    }
  }

  private func number(_ value: Int, _ length: Int) -> Data {
    Data((0..<length).map { UInt8(value >> (8 * $0) & 255) })
  }

  /// A little-endian TIFF of one row of black pixels: tags with type and value.
  private func tiff(_ tags: [(Int, Int, Int)]) -> Data {
    let all =
      [
        (256, 3, 4), (257, 3, 1), (258, 3, 32), (259, 3, 1), (262, 3, 1), (273, 4, 200),
        (277, 3, 1),
        (278, 3, 1), (279, 4, 16),
      ]
      .filter { tag in !tags.contains { $0.0 == tag.0 } } + tags
    var bytes = Data("II".utf8) + number(42, 2) + number(8, 4) + number(all.count, 2)
    for (tag, type, value) in all.sorted(by: { $0.0 < $1.0 }) {
      bytes += number(tag, 2) + number(type, 2) + number(1, 4) + number(value, 4)
    }
    return bytes + Data(count: 300 - bytes.count)
  }

  private func box(_ brands: String) -> Data {
    Data(number(8 + brands.utf8.count, 4).reversed()) + Data("ftyp".utf8) + Data(brands.utf8)
      + Data(count: 64)
  }

  @Test func formatsAreNamedByTheirContent() throws {
    let psd = Data("8BPS".utf8) + Data(count: 100)
    for (bytes, name) in [
      (box("heic\0\0\0\0mif1heic"), "a HEIC image"), (box("mif1\0\0\0\0mif1heic"), "a HEIC image"),
      (box("mif1\0\0\0\0mif1avif"), "an AVIF image"),
      (box("avif\0\0\0\0avifmif1"), "an AVIF image"),
      (box("crx \0\0\0\u{1}crx isom"), "a RAW photo (Canon CR3)"), (psd, "a Photoshop document"),
      (Data("%PDF-1.7\n%".utf8) + Data(count: 100), "a PDF document"),
      (tiff([(339, 3, 3)]), "a TIFF image of 32-bit floating-point numbers"),
      (tiff([(258, 3, 32)]), "a TIFF image of 32 bits"),
      (tiff([(258, 3, 8), (50706, 4, 1)]), "a RAW photo (DNG)"),
      (tiff([(258, 3, 16), (262, 3, 32803)]), "a RAW photo"),
      (Data("II*\0\u{10}\0\0\0CR\u{2}\0".utf8) + Data(count: 100), "a RAW photo (Canon CR2)"),
      (Data("FUJIFILMCCD-RAW 0201".utf8) + Data(count: 100), "a RAW photo (Fujifilm)"),
    ] {
      for ending in ["jpg", "png", "mp4", "heic"] {
        let error = try refusal("a." + ending, bytes)
        #expect(
          error?.what.hasPrefix("is \(name)") == true,
          "\(name) as .\(ending): \(String(describing: error))")
        #expect(
          error?.what.hasSuffix("which the installed FFmpeg can't decode") == true
            && error?.remedy.isEmpty == false)
      }
    }
    // A video without its index is still recognized.
    #expect(
      try refusal("b.mp4", box("isom\0\0\u{2}\0isommp41"))?.what.hasPrefix(
        "an MP4 without its index") == true
    )
  }

  @Test func anAnimatedWebPIsNamed() throws {
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=32x32:rate=5:duration=1", "-c:v", "libwebp_anim",
        "-lossless", "1",
        "-f", "webp", "a.webp",
      ], in: folder)
    try FileManager.default.copyItem(atPath: folder.file("a.webp"), toPath: folder.file("b.png"))
    for name in ["a.webp", "b.png"] {
      let error = mediaError { _ = try VideoReader(path: folder.file(name)).next() }
      // Later FFmpeg versions read it.
      #expect(
        error == nil || error?.description.contains("is an animated WebP") == true,
        "\(String(describing: error))")
      #expect(error == nil || error?.remedy.contains("MP4 or GIF") == true)
    }
  }

  @Test func theContentCountsNotTheEnding() throws {
    for (format, codec) in [
      ("png", "png"), ("jpg", "mjpeg"), ("webp", "libwebp"), ("tiff", "tiff"), ("bmp", "bmp"),
      ("gif", "gif"),
    ] {
      let name = "a." + format
      try ffmpeg(
        [
          "-f", "lavfi", "-i", "testsrc=size=32x32:rate=25:duration=0.04", "-frames:v", "1", "-c:v",
          codec,
          name,
        ], in: folder)
      let wanted = try #require(try VideoReader(path: folder.file(name)).next())
      for ending in ["png", "jpg", "webp", "mp4", "tif", "heic"] {
        let other = folder.file("b." + ending)
        try Data(contentsOf: URL(fileURLWithPath: folder.file(name))).write(
          to: URL(fileURLWithPath: other))
        #expect(
          try VideoReader(path: other).next()?.bytes == wanted.bytes, "\(format) as .\(ending)")
      }
    }
  }
}
