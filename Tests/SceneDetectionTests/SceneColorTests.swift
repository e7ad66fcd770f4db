import CFFmpeg
import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

/// Scenes have the colors of their video, and notes report conversions.
@Suite struct SceneColorTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Splits a video without cuts and returns its only scene and the notes.
  private func scene(_ name: String) throws -> (path: String, notes: [String]) {
    var splitter = SceneSplitter()
    splitter.quality = .init(crf: 4, preset: "veryfast")
    let result = try splitter.split(
      folder.file(name), into: folder.file("out"), by: ContentDetector(threshold: 254))
    let file = try #require(result.scenes.first?.file)
    return (folder.file("out/" + file), result.notes)
  }

  private func gradient(_ options: [String], _ name: String) throws {
    try ffmpeg(
      [
        "-f", "lavfi", "-i",
        "gradients=s=96x64:d=0.4:r=25:c0=0x203050:c1=0xB09060:x0=0:y0=0:x1=95:y1=63:speed=0.00001",
      ]
        + options + [name], in: folder)
  }

  @Test(arguments: [
    "h.mkv -pix_fmt yuv420p10le -c:v ffv1 -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc -color_range tv",
    "l.mp4 -pix_fmt yuv422p10le -c:v libx265 -x265-params log-level=none:lossless=1 -color_primaries bt2020 -color_trc arib-std-b67 -colorspace bt2020nc -color_range tv",
    "d.mov -pix_fmt yuv422p10le -c:v prores_ks -qscale 2 -color_primaries smpte432 -color_trc bt709 -colorspace bt709 -color_range tv",
    "r.mkv -pix_fmt gbrp10le -c:v ffv1 -color_primaries bt2020 -color_trc smpte2084 -colorspace rgb -color_range pc",
    "e.mkv -pix_fmt yuv420p -c:v ffv1 -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc -color_range tv",
    "g.mkv -pix_fmt gray16le -c:v ffv1", "p.mkv -pix_fmt gray -c:v ffv1",
    "t.mkv -pix_fmt yuv444p12le -c:v ffv1 -color_primaries bt709 -color_trc bt709 -colorspace ycgco -color_range tv",
  ])
  func aSceneLooksAsItsVideo(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    try gradient(Array(words.dropFirst()), words[0])
    let (path, notes) = try scene(words[0])
    let source = try VideoReader(path: folder.file(words[0]))
    let reader = try VideoReader(path: path)
    let (wanted, found) = (try #require(try source.next()), try #require(try reader.next()))
    #expect(psnr(wanted, found) > 38, "\(psnr(wanted, found))")
    #expect(source.colorNotes == reader.colorNotes, "\(reader.colorNotes)")
    let isDeep = !["e.mkv", "p.mkv"].contains(words[0])
    #expect(
      reader.decoder.codec.pointee.pix_fmt == (isDeep ? AV_PIX_FMT_YUV420P10LE : AV_PIX_FMT_YUV420P)
        || words[0] == "p.mkv")
    #expect(notes.contains { $0.contains("10 bits") } == isDeep, "\(notes)")
    if line.contains("2084") {
      #expect(reader.decoder.codec.pointee.color_trc == AVCOL_TRC_SMPTE2084)
      #expect(reader.decoder.codec.pointee.color_primaries == AVCOL_PRI_BT2020)
      #expect(reader.decoder.codec.pointee.colorspace == AVCOL_SPC_BT2020_NCL)
    }
  }

  /// A scene has the tone curve of the complete video.
  @Test func theBrightestPixelStaysKnown() throws {
    try gradient(
      [
        "-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-x265-params",
        "log-level=none:lossless=1:hdr10=1:max-cll=600,100",
      ]
        + ["-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc"],
      "a.mp4")
    let reader = try VideoReader(path: try scene("a.mp4").path)
    let (frame, _) = try #require(try reader.nextDecoded())
    #expect(reader.colorStage.description(of: frame).peak == 600)
  }

  @Test func transparencyIsComposited() throws {
    try gradient(
      ["-vf", "format=rgba,geq=r=255:g=0:b=0:a=if(gt(X\\,47)\\,255\\,0)", "-c:v", "qtrle"], "a.mov")
    let (path, notes) = try scene("a.mov")
    #expect(
      notes.contains("In the scenes, transparent pixels were composited on black."), "\(notes)")
    let frame = try #require(try VideoReader(path: path).next())
    let (left, right) = (3 * (32 * 96 + 20), 3 * (32 * 96 + 70))
    #expect(frame.bytes[left..<(left + 3)].allSatisfy { $0 < 4 })
    #expect(frame.bytes[right] > 245 && frame.bytes[right + 1] < 8)
  }
}
