import Foundation
import Media
import TestSupport
import Testing

@testable import Datasets

/// Damaged and interlaced clips through all of preprocessing.
@Suite struct PreprocessingDamageTests {
  private let fixture: PreprocessingFixture

  init() throws { fixture = try PreprocessingFixture() }

  @Test func damagedFramesAreReportedRecordedAndRefusedWhenAsked() throws {
    let whole = fixture.file("whole.mp4")
    try runFFmpeg([
      "-f", "lavfi", "-i", "testsrc2=size=96x96:rate=25:duration=1,noise=alls=20:allf=t", "-c:v",
      "libx264",
      "-bf", "0",
      "-g", "30", "-pix_fmt", "yuv420p", whole,
    ])
    // The middle of the media data: past the first frames of the keyframe's group.
    var data = try Data(contentsOf: URL(fileURLWithPath: whole))
    let media = try #require(data.range(of: Data("mdat".utf8))).upperBound
    let size = data.count - media
    for place in (media + size * 3 / 10)..<(media + size * 5 / 10) {
      data[place] = UInt8((place * 7919) >> 3 & 255)
    }
    try data.write(to: URL(fileURLWithPath: fixture.file("bad.mp4")))
    try fixture.dataset([("whole.mp4", "a"), ("bad.mp4", "b")])
    var options = try fixture.options("64x64x17")
    let report = try fixture.run(options)
    // Some frames can be decoded with errors, others not at all.
    func tellsDamage(_ text: String?) -> Bool {
      text?.contains("damaged") == true || text?.contains("missing after frame") == true
    }
    #expect(report.failures.isEmpty && report.warnings.allSatisfy { $0.sample == "bad" })
    #expect(report.warnings.contains { tellsDamage($0.reason) }, "\(report.warnings)")
    #expect(tellsDamage(try fixture.cached("latents/bad").metadata["source_damage"]))
    #expect(try fixture.cached("latents/whole").metadata["source_damage"] == nil)
    // Cached despite the damage, and recorded as damaged.
    #expect(try fixture.run(options).upToDate == 2)
    let check = try CacheChecker(cache: report.outputFolder).run()
    #expect(check.problems.contains { $0.kind == .damage && $0.sample == "bad" })
    #expect(!check.problems.contains { $0.kind == .damage && $0.sample == "whole" })
    options.isStrict = true
    let strict = try fixture.run(options)
    #expect(strict.failures.map(\.sample) == ["bad"])
    #expect(tellsDamage(strict.failures.first?.reason))
    // The first frames are intact.
    options.buckets = try ResolutionBucket.list("64x64x1")
    #expect(try fixture.run(options).failures.isEmpty)
  }

  @Test func interlacedClipsAreDeinterlacedUnlessTheyAreToStay() throws {
    try runFFmpeg([
      "-f", "lavfi", "-i", "testsrc2=size=64x64:rate=50:duration=0.6", "-vf",
      "tinterlace=interleave_top",
      "-c:v", "libx264",
      "-flags", "+ilme+ildct", "-x264-params", "tff=1", "-pix_fmt", "yuv420p",
      fixture.file("a.mp4"),
    ])
    try fixture.dataset([("a.mp4", "x")])
    var options = try fixture.options()
    let report = try fixture.run(options)
    #expect(report.failures.isEmpty && report.encoded(.latents) == 1)
    #expect(report.notes.contains { $0.contains("1 clip is interlaced and was deinterlaced") })
    #expect(try fixture.run(options).upToDate == 1)
    options.deinterlaces = false
    let stored = try fixture.run(options)
    #expect(stored.encoded(.latents) == 1 && !stored.notes.contains { $0.contains("interlaced") })
    let buckets = options.buckets
    let path = fixture.file("a.mp4")
    let combed = try ClipReader(buckets: buckets, deinterlaces: false).read(path).pixels
    #expect(
      try fixture.difference(
        combed, ClipReader(buckets: buckets, isCompatible: true).read(path).pixels) == 0)
    #expect(try fixture.difference(combed, ClipReader(buckets: buckets).read(path).pixels) > 0.1)
  }
}
