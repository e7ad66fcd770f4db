import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

/// Interlaced frames become one image each, like in FFmpeg's filter.
@Suite struct DeinterlacingTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Twelve frames with fields from 50 images per second.
  private func makeInterlaced(_ name: String, bottomFirst: Bool = false, _ options: [String]) throws
  {
    let order = bottomFirst ? "interleave_bottom" : "interleave_top"
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc2=size=96x64:rate=50:duration=0.48", "-vf",
        "tinterlace=\(order)",
      ]
        + options
        + [name], in: folder)
  }

  /// The frames from FFmpeg's program.
  private func frames(of name: String, filter: String, layout: String) throws -> [RGBFrame] {
    try ffmpeg(
      [
        // Without vector instructions, because those of FFmpeg 5 for 10 bits round differently.
        "-cpuflags", "0", "-i", name, "-vf", filter, "-fps_mode", "passthrough", "-c:v", "ffv1",
        "-pix_fmt",
        layout,
        "wanted.mkv",
      ],
      in: folder)
    let reader = try VideoReader(path: folder.file("wanted.mkv"), deinterlaces: false)
    var frames: [RGBFrame] = []
    while let frame = try reader.next() { frames.append(frame) }
    return frames
  }

  private func read(_ name: String, deinterlaces: Bool) throws -> (
    frames: [RGBFrame], reader: VideoReader
  ) {
    let reader = try VideoReader(path: folder.file(name), deinterlaces: deinterlaces)
    var frames: [RGBFrame] = []
    while let frame = try reader.next() { frames.append(frame) }
    return (frames, reader)
  }

  @Test(arguments: [
    "a.mp4 yuv420p -c:v libx264 -flags +ilme+ildct -x264-params tff=1",
    "a.mkv yuv420p -c:v libx264 -flags +ilme+ildct -x264-params bff=1",
    "a.ts yuv420p -c:v mpeg2video -flags +ilme+ildct -top 1 -b:v 4M",
    "a.mov yuv422p10le -c:v prores_ks -flags +ildct -top 1",
    "a.mkv yuv422p -c:v ffv1 -top 1 -field_order tt",
    "a.mkv yuv444p16le -c:v ffv1 -top 0 -field_order bb",
  ])
  func imagesAreThoseOfTheFilter(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    try makeInterlaced(
      words[0], bottomFirst: line.contains("bff") || line.contains("-top 0"),
      ["-pix_fmt", words[1]] + words.dropFirst(2))
    let (frames, reader) = try read(words[0], deinterlaces: true)
    #expect(reader.isDeinterlaced && reader.deinterlacingObstacle == nil && frames.count == 12)
    let wanted = try self.frames(
      of: words[0], filter: "bwdif=mode=send_frame:deint=interlaced", layout: words[1])
    #expect(wanted.count == 12)
    for (index, (frame, wanted)) in zip(frames, wanted).enumerated() {
      // For deeper layouts, FFmpeg confuses bytes with rows near the upper and lower edge, and in
      // the first frame.
      if index == 0, words[1].hasSuffix("le") { continue }
      let edge = words[1].hasSuffix("le") ? 3 * 96 * 4 : 0
      let isAlike =
        frame.bytes.dropFirst(edge).dropLast(edge) == wanted.bytes.dropFirst(edge).dropLast(edge)
      #expect(isAlike, "frame \(index): \(psnr(frame, wanted)) dB")
    }
    let (stored, plain) = try read(words[0], deinterlaces: false)
    let combed = try self.frames(of: words[0], filter: "null", layout: words[1])
    #expect(!plain.isDeinterlaced && stored.map(\.bytes) == combed.map(\.bytes))
    #expect(stored[5].bytes != frames[5].bytes)
  }

  /// Layouts that the filter doesn't accept, marked as interlaced by the container only.
  @Test(arguments: [
    "a.mov uyvy422 -c:v rawvideo -field_order tt -top 1",
    "a.mov rgb24 -c:v rawvideo -field_order tt -top 1",
  ])
  func packedLayoutsAreDeinterlaced(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    try makeInterlaced(words[0], ["-pix_fmt", words[1]] + words.dropFirst(2))
    let (frames, reader) = try read(words[0], deinterlaces: true)
    #expect(reader.isDeinterlaced && frames.count == 12)
    let layout = words[1] == "rgb24" ? "gbrp" : "yuv422p"
    let wanted = try self.frames(
      of: words[0], filter: "format=\(layout),bwdif=mode=send_frame", layout: layout)
    for (index, (frame, wanted)) in zip(frames, wanted).enumerated() {
      #expect(psnr(frame, wanted) > 38, "frame \(index): \(psnr(frame, wanted)) dB")
    }
  }

  /// Progressive frames are unchanged, even between interlaced ones.
  @Test func progressiveFramesStay() throws {
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=0.4", "-pix_fmt", "yuv420p",
        "plain.mp4",
      ],
      in: folder)
    let (frames, reader) = try read("plain.mp4", deinterlaces: true)
    #expect(!reader.isDeinterlaced)
    #expect(try frames.map(\.bytes) == read("plain.mp4", deinterlaces: false).frames.map(\.bytes))
    // A transport stream with both kinds.
    try makeInterlaced(
      "a.ts", ["-pix_fmt", "yuv420p", "-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-top", "1"])
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=0.4", "-pix_fmt", "yuv420p",
        "-c:v",
        "mpeg2video", "-output_ts_offset", "1", "b.ts",
      ], in: folder)
    let both = try ["a.ts", "b.ts"].map {
      try Data(contentsOf: URL(fileURLWithPath: folder.file($0)))
    }
    try (both[0] + both[1]).write(to: URL(fileURLWithPath: folder.file("c.ts")))
    let mixed = try read("c.ts", deinterlaces: true).frames
    let stored = try read("c.ts", deinterlaces: false).frames
    #expect(mixed.count == stored.count && mixed.count > 20)
    #expect(zip(mixed, stored).dropFirst(13).allSatisfy { $0.bytes == $1.bytes })
    #expect(zip(mixed, stored).prefix(8).allSatisfy { $0.bytes != $1.bytes })
  }

  @Test func splitWritesDeinterlacedFramesAndSaysSo() throws {
    try makeInterlaced(
      "a.mp4",
      ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-flags", "+ilme+ildct", "-x264-params", "tff=1"])
    var splitter = SceneSplitter()
    splitter.quality = VideoWriter.Quality(crf: 2, preset: "superfast")
    let result = try splitter.split(folder.file("a.mp4"), into: folder.file("out"))
    #expect(result.notes.contains { $0.contains("was deinterlaced") })
    let (written, reader) = try read("out/a-Scene-001.mp4", deinterlaces: true)
    #expect(!reader.isDeinterlaced)
    let source = try read("a.mp4", deinterlaces: true).frames
    #expect(written.count == 12 && zip(written, source).allSatisfy { psnr($0, $1) > 38 })
    // Copies are unchanged, and marked as interlaced.
    splitter.output = .copied
    let copied = try splitter.split(folder.file("a.mp4"), into: folder.file("copies"))
    #expect(copied.notes.isEmpty)
    #expect(try read("copies/a-Scene-001.mp4", deinterlaces: true).reader.isDeinterlaced)
    splitter.output = .encoded
    splitter.deinterlaces = false
    #expect(try splitter.split(folder.file("a.mp4"), into: folder.file("stored")).notes.isEmpty)
    let stored = try read("stored/a-Scene-001.mp4", deinterlaces: false).frames
    let combed = try read("a.mp4", deinterlaces: false).frames
    #expect(zip(stored, combed).allSatisfy { psnr($0, $1) > 38 })
  }
}
