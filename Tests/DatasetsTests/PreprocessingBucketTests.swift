import Foundation
import Media
import TestSupport
import Testing

@testable import Datasets

/// The choice of a clip's bucket, and the notes on surprising choices.
@Suite struct PreprocessingBucketTests {
  private let fixture: PreprocessingFixture

  init() throws { fixture = try PreprocessingFixture() }

  private func run(
    _ clip: String, _ buckets: String, _ change: (inout PreprocessingOptions) -> Void = { _ in }
  ) throws -> (report: PreprocessingReport, shape: [Int]?) {
    try fixture.dataset([(clip, "a caption")])
    var options = try fixture.options(buckets)
    change(&options)
    let report = try fixture.run(options)
    let name = "latents/" + (clip as NSString).deletingPathExtension
    return (
      report, fixture.isCached(name) ? try fixture.cached(name).entries["latents"]?.shape : nil
    )
  }

  @Test func aClipDoesNotBecomeAStillImageBecauseOfItsAspect() throws {
    try fixture.clip("square.mp4", width: 64, height: 64, frames: 40)
    let (report, shape) = try run("square.mp4", "128x64x9;64x64x1")
    #expect(shape?.suffix(3) == [2, 2, 4])
    #expect(report.warnings.isEmpty, "\(report.warnings)")
    // A rerun makes the same choice.
    #expect(try run("square.mp4", "128x64x9;64x64x1").report.upToDate(.latents) == 1)
    // Upstream chooses by the aspect ratio, and the choice is reported.
    let compatible = try run("square.mp4", "128x64x9;64x64x1") { $0.isCompatible = true }
    #expect(compatible.shape?.suffix(3) == [1, 2, 2])
    #expect(
      compatible.report.warnings.map(\.reason) == [
        "\(fixture.file("square.mp4")): only the first of its 40 frames is used, as a still image: in upstream mode the "
          + "aspect ratio alone chooses the bucket 64x64x1"
      ])
  }

  @Test func aClipThatCanOnlyBeAStillImageIsReported() throws {
    try fixture.clip("short.mp4", width: 64, height: 64, frames: 5)
    let short = try run("short.mp4", "64x64x9;64x64x1")
    #expect(short.shape?.suffix(3) == [1, 2, 2])
    #expect(short.report.warnings.count == 1 && short.report.failures.isEmpty)
    #expect(
      short.report.warnings.first?.reason.contains(
        "only the first of its 5 frames is used, as a still image: the shortest bucket with motion needs 9. Add"
      )
        == true)
    // A later check of the cache reports it as well.
    let checked = try CacheChecker(cache: fixture.file(".precomputed")).run()
    #expect(
      checked.notes.contains(
        "1 clip is cached as a still image, because the bucket has 1 frame: short"),
      "\(checked.notes)")
    try fixture.clip("long.mp4", width: 64, height: 64, frames: 12)
    let long = try run("long.mp4", "64x64x1;96x64x1")
    #expect(
      long.report.warnings.first?.reason.hasSuffix(
        "only the first of its 12 frames is used, as a still image: all buckets have 1 frame")
        == true)
    // A clip of one frame and an image don't become shorter.
    try fixture.clip("one.mp4", width: 64, height: 64, frames: 1)
    #expect(try run("one.mp4", "64x64x9;64x64x1").report.warnings.isEmpty)
    try runFFmpeg([
      "-f", "lavfi", "-i", "testsrc=s=64x64", "-frames:v", "1", fixture.file("image.png"),
    ])
    let image = try run("image.png", "64x64x9;64x64x1;64x64x17")
    #expect(image.shape?.suffix(3) == [1, 2, 2] && image.report.warnings.isEmpty)
    #expect(try run("image.png", "64x64x9;64x64x1;64x64x17").report.upToDate(.latents) == 1)
  }

  @Test func aClipThatFpsMakesTooShortIsReportedInItsOwnFrames() throws {
    try fixture.clip("a.mp4", width: 64, height: 64, frames: 49, rate: Rational(30))
    try fixture.clip("b.mp4", width: 64, height: 64, frames: 9, rate: Rational(30))
    try fixture.dataset([("a.mp4", "one"), ("b.mp4", "two")])
    var options = try fixture.options("64x64x49;64x64x25")
    options.frameRate = 25
    let report = try fixture.run(options)
    #expect(
      report.warnings.map(\.reason) == [
        "\(fixture.file("a.mp4")): 49 frames at 30 fps are 41 at the requested 25 fps, so it gets the bucket 64x64x25 instead "
          + "of 64x64x49"
      ])
    #expect(
      report.failures.map(\.reason) == [
        "\(fixture.file("b.mp4")): 9 frames at 30 fps are 8 at the requested 25 fps, but the shortest bucket needs 25. Add a shorter "
          + "bucket or remove the row."
      ])
    // Without --fps both are counted in their own frames.
    #expect(try fixture.run(fixture.options("64x64x49;64x64x25")).warnings.isEmpty)
  }

  @Test func aMissingFileIsReportedWithTheLikelyPath() throws {
    try fixture.clip("clips/b.mp4", width: 64, height: 64, frames: 9)
    try fixture.dataset([("clips\\b.mp4", "one"), ("clips/b.mp4", "two")])
    let report = try fixture.run(fixture.options())
    #expect(report.failures.count == 1 && report.encoded(.latents) == 1)
    #expect(
      report.failures.first?.reason.hasSuffix(
        "there is no such file. Its backslashes separate folders on Windows only, and \(fixture.file("clips/b.mp4")) is "
          + "there: write / instead of \\.") == true)
  }
}
