import Foundation
import Media
import TestSupport
import Testing
import Torch

@testable import Datasets

@Suite struct FrameClockTests {
  private func read(_ times: [Double], declared: [Double] = [25], unit: Double = 0.001)
    -> FrameClock.Reading
  {
    let rounded = times.map { ($0 / unit).rounded() * unit }
    return FrameClock(declared: declared, unit: unit).read(rounded)
  }

  private func steady(_ count: Int, _ rate: Double) -> [Double] {
    (0..<count).map { Double($0) / rate }
  }

  @Test func aMissingFrameKeepsTheNominalRate() {
    var times = steady(10, 25)
    times.remove(at: 4)
    #expect(read(times) == .gaps(rate: 25, count: 1))
    // A mean rate from the container, as FFmpeg estimates it.
    #expect(read(times, declared: [22.5, 25]) == .gaps(rate: 25, count: 1))
    #expect(read(times, declared: [22.222]) == .gaps(rate: 25, count: 1))
    // A first frame that lasts a second.
    let late = [0] + steady(8, 30000.0 / 1001).map { $0 + 1.001 }
    #expect(read(late, declared: [9, 30000.0 / 1001]) == .gaps(rate: 30000.0 / 1001, count: 29))
    // Several in a row, and at 60 fps, where milliseconds are coarse.
    let kept = (0..<40).filter { ![7, 8, 20].contains($0) }
    #expect(read(kept.map { Double($0) / 60 }, declared: [55, 60]) == .gaps(rate: 60, count: 3))
  }

  @Test(arguments: [24000.0 / 1001, 25, 29.97, 30, 50, 59.94, 120]) func roundedTimesAreSteady(
    rate: Double
  ) {
    #expect(read(steady(121, rate), declared: [rate]) == .asDeclared)
    #expect(read(steady(9, rate), declared: [rate * 1.001]) == .asDeclared)
  }

  @Test func phonesAndPulldownKeepTheContainersRate() {
    // Times that jitter by a fifth of a frame, at 29.85 fps.
    let phone = (0..<121).map { frame -> Double in
      var jitter = 0.0
      if frame % 7 == 3 { jitter = 0.007 } else if frame % 5 == 1 { jitter = -0.006 }
      return Double(frame) / 29.85 + jitter
    }
    #expect(read(phone, declared: [29.85, 30]) == .asDeclared)
    // One late frame, with the next one on time.
    var late = steady(25, 30)
    late[9] += 0.025
    #expect(read(late, declared: [30]) == .asDeclared)
    // Film frames shown alternately for two and three fields.
    let film = (0..<48).map { frame -> Double in
      let fields = frame / 2 * 5 + frame % 2 * 3
      return Double(fields) / 59.94
    }
    #expect(read(film, declared: [23.976, 29.97]) == .asDeclared)
  }

  @Test func ratesThatChangeHaveAMean() {
    let times = steady(10, 10) + steady(23, 40).map { $0 + 1 }
    #expect(read(times, declared: [20]) == .uneven(rate: 32 / 1.55))
    // Twice as fast as the container says, without a gap.
    #expect(read(steady(33, 50), declared: [25]) == .uneven(rate: 50))
  }

  /// Real files: frames are shown for as long as their times say.
  @Test(arguments: ["4", "1"]) func framesAreRepeatedWhereOthersAreMissing(missing: String)
    throws
  {
    let folder = try ScratchFolder()
    try runFFmpeg([
      "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=1", "-vf",
      "select='not(eq(n\\,\(missing)))'",
      "-fps_mode",
      "passthrough", "-c:v", "ffv1", "-pix_fmt", "bgr0", folder.file("gap.mkv"),
    ])
    try runFFmpeg([
      "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=1", "-c:v", "ffv1", "-pix_fmt",
      "bgr0",
      folder.file("whole.mkv"),
    ])
    let reader = ClipReader(buckets: try ResolutionBucket.list("64x64x17"))
    let (gap, whole) = (
      try reader.read(folder.file("gap.mkv")), try reader.read(folder.file("whole.mkv"))
    )
    #expect(
      gap.frameRate == 25
        && gap.notes.contains { $0.contains("1 frame is missing") && $0.contains("25 per second") })
    #expect(whole.frameRate == 25 && whole.notes.isEmpty)
    let place = try #require(Int(missing))
    for frame in 0..<17 {
      let wanted = frame == place ? frame - 1 : frame
      let difference = try (gap.pixels.select(2, frame) - whole.pixels.select(2, wanted)).abs()
        .amax().item()
      #expect(difference == 0, "frame \(frame)")
    }
    let compatible = ClipReader(buckets: reader.buckets, isCompatible: true)
    let upstream = try compatible.read(folder.file("gap.mkv"))
    #expect(upstream.notes.isEmpty)
    #expect(
      try (upstream.pixels.select(2, place) - whole.pixels.select(2, place + 1)).abs().amax().item()
        == 0)
  }

  /// Headers may claim any number of frames.
  @Test(arguments: ["a.avi -c:v mjpeg", "a.flv -c:v flv1", "a.mkv -c:v ffv1"])
  func framesAreCountedWhereTheHeaderCantBeBelieved(line: String) throws {
    let folder = try ScratchFolder()
    let words = line.split(separator: " ").map(String.init)
    try runFFmpeg(
      ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=2.4"] + words.dropFirst() + [
        folder.file(words[0])
      ])
    let path = folder.file(words[0])
    if words[0].hasSuffix("avi") {
      var data = try Data(contentsOf: URL(fileURLWithPath: path))
      let one = Data([1, 0, 0, 0])
      let main = try #require(data.range(of: Data("avih".utf8))).upperBound
      data.replaceSubrange((main + 4 + 16)..<(main + 4 + 20), with: one)
      let stream = try #require(data.range(of: Data("strh".utf8))).upperBound
      data.replaceSubrange((stream + 4 + 32)..<(stream + 4 + 36), with: one)
      try data.write(to: URL(fileURLWithPath: path))
    }
    let reader = ClipReader(buckets: try ResolutionBucket.list("64x64x57"))
    try reader.check(path)
    #expect(try reader.read(path).bucket.frames == 57)
    let long = ClipReader(buckets: try ResolutionBucket.list("64x64x65"))
    #expect(throws: MediaError.self) { try long.check(path) }
  }
}
