import Foundation
import Media
import TestSupport
import Testing
import Torch

@testable import Datasets

/// The colors and transparency of clips in the cache.
@Suite struct PreprocessingColorTests {
  private let fixture: PreprocessingFixture

  init() throws { fixture = try PreprocessingFixture() }

  private func make(_ name: String, _ options: [String]) throws {
    try runFFmpeg(
      ["-f", "lavfi", "-i", "testsrc2=s=64x64:d=0.36:r=25"] + options + [fixture.file(name)])
  }

  private func latents(_ name: String) throws -> Tensor {
    try fixture.cached("latents/\(name)").tensor("latents").clone()
  }

  @Test func hdrIsReportedAndRecordedAndHasAnOption() throws {
    try make(
      "hdr.mkv",
      [
        "-pix_fmt", "yuv420p10le", "-c:v", "ffv1", "-color_primaries", "bt2020", "-color_trc",
        "smpte2084",
      ]
        + ["-colorspace", "bt2020nc", "-color_range", "tv"])
    try make("plain.mkv", ["-pix_fmt", "yuv420p", "-c:v", "ffv1"])
    try fixture.dataset([("hdr.mkv", "x"), ("plain.mkv", "y")])
    var options = try fixture.options()
    let report = try fixture.run(options)
    let note = "HDR (PQ, BT.2020) was tone-mapped to SDR BT.709"
    #expect(report.warnings.map(\.reason) == ["\(fixture.file("hdr.mkv")): \(note)"])
    #expect(report.failures.isEmpty)
    #expect(try fixture.cached("latents/hdr").metadata["color"] == note)
    #expect(try fixture.cached("latents/plain").metadata["color"] == nil)
    let mapped = try latents("hdr")

    let check = try CacheChecker(cache: fixture.file(".precomputed")).run()
    #expect(check.notes.contains("\(note): hdr"), "\(check.notes)")
    #expect(try fixture.run(options).upToDate == 2)

    options.color.convertsToSDR = false
    let raw = try fixture.run(options)
    #expect(raw.encoded(.latents) == 2 && raw.warnings.isEmpty)
    #expect(try fixture.cached("latents/hdr").metadata["color"] == nil)
    #expect(try fixture.difference(latents("hdr"), mapped) > 0.05)
    // Upstream mode doesn't convert code values either, and ignores the option.
    options.isCompatible = true
    _ = try fixture.run(options)
    #expect(try fixture.difference(latents("hdr"), mapped) > 0.05)
  }

  /// A cache made with earlier rules is made again, except for files of `--compat`, whose pixels
  /// are the same.
  @Test func cachesFromBeforeColorsWereUnderstoodAreEncodedAnew() throws {
    try make("a.mkv", ["-pix_fmt", "yuv420p", "-c:v", "ffv1"])
    try fixture.dataset([("a.mkv", "x")])
    var options = try fixture.options()
    _ = try fixture.run(options)
    #expect(try fixture.cached("latents/a").metadata["content"] == "ltx latents 3")
    options.isCompatible = true
    #expect(try fixture.run(options).encoded(.latents) == 1)
    #expect(try fixture.cached("latents/a").metadata["content"] == "ltx latents 2")
  }

  @Test func transparentPixelsTakeTheBackground() throws {
    // Red is hidden under alpha 0.
    try make(
      "a.png", ["-frames:v", "1", "-vf", "format=rgba,geq=r=255:g=0:b=0:a='if(gt(X,31),255,0)'"])
    try make(
      "w.png",
      [
        "-frames:v", "1", "-vf",
        "format=rgb24,geq=r=255:g='if(gt(X,31),0,255)':b='if(gt(X,31),0,255)'",
      ])
    try make("b.png", ["-frames:v", "1", "-vf", "format=rgb24,geq=r='if(gt(X,31),255,0)':g=0:b=0"])
    try fixture.dataset([("a.png", "x"), ("w.png", "x"), ("b.png", "x")])
    var options = try fixture.options("64x64x1")
    let report = try fixture.run(options)
    #expect(
      report.warnings.map(\.reason) == [
        "\(fixture.file("a.png")): transparent pixels were composited on white"
      ])
    #expect(try fixture.difference(latents("a"), latents("w")) == 0)
    options.color.background = .black
    #expect(try fixture.run(options).encoded(.latents) == 3)
    #expect(try fixture.difference(latents("a"), latents("b")) == 0)
  }

  /// A mask is white on black, whatever is under its transparent pixels.
  @Test func transparentPixelsOfAMaskAreBlack() throws {
    try fixture.clip("c.mp4", frames: 9)
    try make(
      "m.png",
      ["-frames:v", "1", "-vf", "format=rgba,geq=r=255:g=255:b=255:a='if(gt(X,31),255,0)'"])
    try fixture.dataset([["video": "c.mp4", "caption": "x", "video_mask": "m.png"]])
    _ = try fixture.run(fixture.options())
    let mask = try fixture.cached("video_masks/c").tensor("mask")
    #expect(try mask.select(0, 0).select(0, 0).array(of: Float.self) == [0, 1])
  }
}
