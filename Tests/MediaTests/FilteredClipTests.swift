import Foundation
import Media
import MediaTestSupport
import Testing

@Suite struct FilteredClipTests {
  /// The times of all frames, the rate, and the size.
  private func timing(_ path: String) throws -> (times: [Double], rate: Rational, size: [Int]) {
    let reader = try VideoReader(path: path)
    var times: [Double] = []
    while let frame = try reader.next() { times.append(frame.seconds) }
    #expect(reader.ending == .complete)
    return (times, reader.frameRate, [reader.width, reader.height])
  }

  private func expectSameTiming(_ a: String, _ b: String) throws {
    let (from, to) = (try timing(a), try timing(b))
    #expect(from.rate == to.rate)
    #expect(from.times.count == to.times.count)
    for (a, b) in zip(from.times, to.times) { #expect(abs(a - b) < 1e-6) }
  }

  @Test(arguments: ["30000/1001", "25", "24000/1001", "50", "7/2"])
  func aConstantRateIsKept(rate: String) throws {
    let folder = try TemporaryFolder()
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=64x48:rate=\(rate):duration=1.5", "-pix_fmt", "yuv420p",
        "a.mp4",
      ],
      in: folder)
    let output = folder.file("b.mp4")
    let result = try FilteredClip().write(
      folder.file("a.mp4"), to: output, by: .edges(CannyEdges()))
    #expect(result.ending == .complete && result.notes.isEmpty)
    try expectSameTiming(folder.file("a.mp4"), output)
    #expect(try VideoReader(path: output).frameRate.description == rate)
    #expect(try folder.contents() == ["a.mp4", "b.mp4"])
  }

  /// Every third frame is late, and a late one is shown for longer.
  private func writeVariable(_ name: String, in folder: TemporaryFolder) throws {
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=64x48:rate=30:duration=2", "-vf",
        "settb=1/45000,setpts='N*1500+mod(N,3)*137+gt(N,40)*9000'", "-fps_mode", "passthrough",
        "-enc_time_base", "1/45000", "-pix_fmt", "yuv420p", name,
      ], in: folder)
  }

  @Test func aVariableRateIsKept() throws {
    let folder = try TemporaryFolder()
    try writeVariable("a.mp4", in: folder)
    let result = try FilteredClip().write(folder.file("a.mp4"), to: folder.file("b.mp4"), by: .gray)
    #expect(result.notes.isEmpty)
    try expectSameTiming(folder.file("a.mp4"), folder.file("b.mp4"))
    let times = try timing(folder.file("b.mp4")).times
    #expect(Set(zip(times, times.dropFirst()).map { Int((($1 - $0) * 1e4).rounded()) }).count > 2)
  }

  /// Matroska still states a rate of 30 for such a file; preprocessing uses the times of both.
  @Test func timesAreKeptAlsoWhereTheyContradictTheRate() throws {
    let folder = try TemporaryFolder()
    try writeVariable("a.mkv", in: folder)
    let result = try FilteredClip().write(folder.file("a.mkv"), to: folder.file("b.mp4"), by: .gray)
    #expect(result.notes.isEmpty && result.frames == 60)
    let (from, to) = (try timing(folder.file("a.mkv")), try timing(folder.file("b.mp4")))
    #expect(from.rate == Rational(30) && to.times.count == 60)
    #expect(zip(from.times, to.times).allSatisfy { abs($0 - $1) < 0.002 })
  }

  @Test func framesAreUprightEvenAndFiltered() throws {
    let folder = try TemporaryFolder()
    try write(scenes([5], width: 66, height: 36), to: folder.file("flat.mp4"))
    try ffmpeg(
      ["-i", "flat.mp4", "-c", "copy", "-metadata:s:v:0", "rotate=90", "turned.mp4"], in: folder)
    let blur = FrameFilter.blur(GaussianBlur(sigma: 2))
    _ = try FilteredClip().write(folder.file("turned.mp4"), to: folder.file("b.mp4"), by: blur)
    let (source, made) = (try readAll(folder.file("turned.mp4")), try readAll(folder.file("b.mp4")))
    #expect(made.frames.first.map { [$0.width, $0.height] } == [36, 66])
    for (a, b) in zip(source.frames, made.frames) { #expect(psnr(try blur.apply(to: a), b) > 30) }
    #expect(try VideoReader(path: folder.file("b.mp4")).quarterTurns == 0)

    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=63x47:rate=25:duration=0.2", "-pix_fmt", "yuv444p",
        "-vf",
        "setsar=4/3", "odd.mp4",
      ], in: folder)
    let odd = try FilteredClip().write(
      folder.file("odd.mp4"), to: folder.file("even.mp4"), by: .gray)
    #expect(odd.notes.count == 1)
    let even = try VideoReader(path: folder.file("even.mp4"))
    #expect([even.width, even.height] == [62, 46] && even.pixelAspect == Rational(4, 3))

    // 64 / 3 is nearest to 22, 48 / 3 to 16.
    try write(scenes([3]), to: folder.file("wide.mp4"))
    _ = try FilteredClip().write(
      folder.file("wide.mp4"), to: folder.file("small.mp4"), by: .downscale(3))
    #expect(try timing(folder.file("small.mp4")).size == [22, 16])
  }

  @Test func anImageGivesAnExactPNG() throws {
    let folder = try TemporaryFolder()
    let image = gradient(width: 31, height: 17, scene: 1, time: 0)
    try image.writePNG(to: folder.file("a.png"))
    let filter = FrameFilter.edges(CannyEdges(low: 5, high: 20))
    let result = try FilteredClip().write(
      folder.file("a.png"), to: folder.file("b.png"), by: filter)
    #expect(result.frames == 1 && result.ending == .complete)
    #expect(try readAll(folder.file("b.png")).frames.first?.bytes == filter.apply(to: image).bytes)
  }

  @Test func unreadableClipsLeaveNoOutput() throws {
    let folder = try TemporaryFolder()
    try Data("no film".utf8).write(to: URL(fileURLWithPath: folder.file("a.mp4")))
    let error = mediaError {
      _ = try FilteredClip().write(folder.file("a.mp4"), to: folder.file("b.mp4"), by: .gray)
    }
    #expect(error?.file == folder.file("a.mp4"))
    struct Stop: Error {}
    try write(scenes([9]), to: folder.file("c.mp4"))
    #expect(throws: Stop.self) {
      try FilteredClip().write(folder.file("c.mp4"), to: folder.file("b.mp4"), by: .gray) {
        if $0 == 4 { throw Stop() }
      }
    }
    #expect(try folder.contents() == ["a.mp4", "c.mp4"])
  }
}
