import DemoData
import DemoJudges
import Foundation
import Media
import Support
import Testing

@Suite struct DemoDatasetTests {
  /// A folder that is removed with the value.
  private final class Folder {
    let path = FileManager.default.temporaryDirectory
      .appendingPathComponent("demo-data-\(UUID().uuidString)").path

    deinit {
      // A test that failed early has written nothing.
      try? FileManager.default.removeItem(atPath: path)
    }

    func file(_ name: String) -> String { path + "/" + name }
    var names: [String] {
      get throws { try FileManager.default.contentsOfDirectory(atPath: path).sorted() }
    }
  }

  private static func decode(_ path: String) throws -> [RGBFrame] {
    let reader = try VideoReader(path: path)
    var frames: [RGBFrame] = []
    while let frame = try reader.next() { frames.append(frame) }
    return frames
  }

  private static func verdict(_ frames: ArraySlice<RGBFrame>) throws -> VideoVerdict {
    VideoVerdict(
      try #require(
        DecodedFrames(frames.map(\.bytes), width: DemoScene.side, height: DemoScene.side)))
  }

  @Test(arguments: DemoScene.Style.allCases)
  func clipsAreDecodedAndRecognized(style: DemoScene.Style) throws {
    let folder = Folder()
    let dataset = try DemoDataset(world: DemoWorld(seed: 21, style: style), clipCount: 16)
    var counts: [Int] = []
    let paths = try dataset.write(to: folder.path) { counts.append($0) }
    #expect(counts == Array(1...16))
    #expect(
      paths
        == ["clips/", "dataset.json", "scenes.json", "held-out.json"].map { folder.file($0) })
    #expect(try folder.names == ["clips", "dataset.json", "held-out.json", "scenes.json"])

    let scenes = try DemoDataset.readScenes(path: folder.file("scenes.json"))
    #expect(scenes == dataset.clips.map(\.scene))
    let heldOut = try DemoDataset.readScenes(path: folder.file("held-out.json"))
    #expect(heldOut.count == DemoDataset.heldOutCount && heldOut.allSatisfy { $0.isHeldOut })
    let rows = try #require(
      JSON(parsing: Data(contentsOf: URL(fileURLWithPath: folder.file("dataset.json")))).array)
    #expect(rows.map { $0["caption"]?.string } == scenes.map(\.caption))

    var score = Score()
    for (row, scene) in zip(rows, scenes) {
      let path = folder.file(try #require(row["media_path"]?.string))
      let frames = try Self.decode(path)
      #expect(frames.count == DemoScene.frameCount)
      #expect(frames.allSatisfy { $0.width == 128 && $0.height == 128 })
      #expect(abs((frames.last?.seconds ?? 0) - 1) < 1e-6)
      let audio = try AudioClip.read(path: path)
      #expect(audio.sampleRate == 48_000 && abs(audio.sampleCount - 50_000) < 1024)
      score.add(try Self.verdict(frames[...]), scene)
      score.add(AudioVerdict(channels: audio.channels, sampleRate: audio.sampleRate), scene)
    }
    #expect(score.video == 1 && score.audio == 1, "\(score)")
  }

  @Test func theOtherEncoderServesToo() throws {
    let folder = Folder()
    var dataset = try DemoDataset(
      world: DemoWorld(seed: 22, part: .heldOut), clipCount: 4)
    dataset.codec = .mpeg4
    try #require(VideoWriter.Codec.mpeg4.isAvailable)
    _ = try dataset.write(to: folder.path)
    #expect(try folder.names == ["clips", "dataset.json", "scenes.json"])
    for clip in dataset.clips {
      let frames = try Self.decode(folder.file(clip.mediaPath))
      #expect(frames.count == DemoScene.frameCount)
      let verdict = try Self.verdict(frames[...])
      #expect(verdict.color == clip.scene.color && verdict.shape == clip.scene.shape)
    }
  }

  /// Cuts are where the clips end, and large enough for the detector that `ltx split` uses.
  @Test(arguments: DemoScene.Style.allCases)
  func filmsHaveCutsThatCanBeFound(style: DemoScene.Style) throws {
    let folder = Folder()
    let dataset = try DemoDataset(
      world: DemoWorld(seed: 23, style: style), clipCount: 8, layout: .film)
    _ = try dataset.write(to: folder.path)
    #expect(
      try folder.names == ["dataset.json", "film.mp4", "held-out.json", "scenes.json"])
    #expect(dataset.clips[7].mediaPath == "scenes/film-Scene-008.mp4")
    let frames = try Self.decode(folder.file("film.mp4"))
    #expect(frames.count == 8 * DemoScene.frameCount)
    for (index, clip) in dataset.clips.enumerated() {
      let start = index * DemoScene.frameCount
      let verdict = try Self.verdict(frames[start..<start + DemoScene.frameCount])
      #expect(verdict.color == clip.scene.color && verdict.direction == clip.scene.direction)
    }
    let audio = try AudioClip.read(path: folder.file("film.mp4"))
    #expect(abs(audio.duration - 8 * DemoScene.seconds) < 0.03)
  }

  @Test func inputThatCannotBeUsedIsRefused() throws {
    let world = DemoWorld(seed: 1)
    for (count, layout, problem) in [
      (0, .clips, "clips: must be between 1 and 10000 (got 0)"),
      (10_001, .clips, "clips: must be between 1 and 10000 (got 10001)"),
      (201, .film, "clips: must be between 1 and 200 for a film (got 201)"),
    ] as [(Int, DemoDataset.Layout, String)] {
      let error = #expect(throws: Support.Issue.self) {
        try DemoDataset(world: world, clipCount: count, layout: layout)
      }
      #expect(error?.description == problem)
    }
    let folder = Folder()
    try FileManager.default.createDirectory(
      atPath: folder.path, withIntermediateDirectories: false)
    let dataset = try DemoDataset(world: world, clipCount: 1)
    // An empty folder is used, one with content is not.
    _ = try dataset.write(to: folder.path)
    let error = #expect(throws: Support.Issue.self) { try dataset.write(to: folder.path) }
    #expect(error?.description == "\(folder.path): is not empty. Choose another folder.")
    #expect(throws: Support.Issue.self) { try dataset.write(to: folder.file("dataset.json")) }
    #expect(throws: Support.Issue.self) {
      try DemoDataset.readScenes(path: folder.file("dataset.json"))
    }
  }

  /// Nothing remains of a run that fails.
  @Test func aFailedRunLeavesNothing() throws {
    struct Stop: Error {}
    let folder = Folder()
    let dataset = try DemoDataset(world: DemoWorld(seed: 1), clipCount: 3)
    #expect(throws: Stop.self) {
      try dataset.write(to: folder.file("inner")) { if $0 == 2 { throw Stop() } }
    }
    let names = try folder.names
    #expect(names.isEmpty)
  }
}
