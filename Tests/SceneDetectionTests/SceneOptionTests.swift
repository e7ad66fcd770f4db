import Foundation
import MediaTestSupport
import Support
import Testing

@testable import Media
@testable import SceneDetection

@Suite struct SceneOptionTests {
  private func ranges(_ result: SplitResult) -> [[Int]] {
    result.scenes.map { [$0.scene.start, $0.scene.end] }
  }

  @Test func partsOfAVideoAreSplit() throws {
    let folder = try TemporaryFolder()
    let path = try write(
      scenes([20, 33, 17, 16]), to: folder.file("film.mp4"),
      audio: .init(sampleRate: 16000, channelCount: 1))
    for (range, want) in [
      (SplitRange(start: .frames(10)), [[10, 20], [20, 53], [53, 70], [70, 86]]),
      (SplitRange(start: .seconds(1), end: .frames(60)), [[25, 53], [53, 60]]),
      (SplitRange(start: .seconds(0.81), duration: .seconds(2)), [[20, 53], [53, 70]]),
      (SplitRange(duration: .frames(5)), [[0, 5]]),
      (SplitRange(start: .frames(15), skipEnd: 20), [[15, 20], [20, 53], [53, 66]]),
    ] as [(SplitRange, [[Int]])] {
      var splitter = SceneSplitter()
      splitter.range = range
      let out = folder.file("out")
      let result = try splitter.split(path, into: out, by: ContentDetector(minimumSceneLength: 5))
      #expect(ranges(result) == want, "\(range)")
      #expect(result.ending == .complete)
      for scene in result.scenes {
        #expect(
          try VideoReader.countFrames(path: out + "/" + (try #require(scene.file)))
            == scene.scene.length)
        #expect(abs(scene.startSeconds - Double(scene.scene.start) / 25) < 1e-6)
        #expect(abs(scene.endSeconds - Double(scene.scene.end) / 25) < 1e-6)
      }
    }
    var splitter = SceneSplitter()
    splitter.range.start = .frames(86)
    let error = mediaError { _ = try splitter.split(path, into: folder.file("none")) }
    #expect(error?.kind == .badOption && error?.what.contains("86") == true)
    #expect(!FileManager.default.fileExists(atPath: folder.file("none")))
  }

  @Test func onlySoManyScenesAreTaken() throws {
    let folder = try TemporaryFolder()
    let path = try write(scenes([20, 8, 30, 20, 20]), to: folder.file("film.mp4"))
    for output in [SceneSplitter.Output.encoded, .none] {
      var splitter = SceneSplitter(filterShorterThan: .frames(10))
      splitter.output = output
      splitter.maximumCount = 2
      let result = try splitter.split(
        path, into: folder.file("out"), by: ContentDetector(minimumSceneLength: 5))
      #expect(ranges(result) == [[0, 20], [28, 58]])
      #expect(result.droppedScenes == 1)
    }
  }

  @Test func imagesShowTheirFrames() throws {
    let folder = try TemporaryFolder()
    let frames = scenes([20, 30])
    let path = try write(frames, to: folder.file("a&b.mp4"), crf: 4)
    var splitter = SceneSplitter()
    splitter.imagesPerScene = 3
    let out = folder.file("out")
    let result = try splitter.split(path, into: out)
    #expect(
      result.scenes[1].images
        == ["a&b-Scene-002-01.jpg", "a&b-Scene-002-02.jpg", "a&b-Scene-002-03.jpg"])
    #expect(SceneImages.frames(of: Scene(start: 20, end: 50), count: 3) == [21, 35, 49])
    #expect(SceneImages.frames(of: Scene(start: 7, end: 8), count: 2) == [7, 7])
    #expect(SceneImages.frames(of: Scene(start: 10, end: 20), count: 1) == [15])
    for (name, frame) in zip(result.scenes[1].images, [21, 35, 49]) {
      let image = try #require(try VideoReader(path: out + "/" + name).next())
      #expect(psnr(image, frames[frame]) > 30)
    }
    let page = try String(contentsOfFile: out + "/scenes.html", encoding: .utf8)
    #expect(page.contains("<img loading=\"lazy\" src=\"./a%26b-Scene-002-03.jpg\""))
    #expect(page.contains(">a&amp;b-Scene-001.mp4</a>") && !page.contains("a&b"))
    // A run without images removes those of the previous one.
    try Data("mine".utf8).write(to: URL(fileURLWithPath: out + "/a&b-Scene-009-01.jpg"))
    _ = try SceneSplitter().split(path, into: out)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: out).filter { $0.hasSuffix("jpg") }
        == ["a&b-Scene-009-01.jpg"])
  }

  @Test func copiesAreCutAtKeyframes() throws {
    let folder = try TemporaryFolder()
    let plain = try write(
      scenes([20, 33, 17, 16]), to: folder.file("plain.mp4"),
      audio: .init(sampleRate: 16000, channelCount: 1), crf: 2)
    // Keyframes are at 0, 20, 40, 53 and 80, so the cut at 70 moves back to 53, which already has a
    // cut.
    let path = folder.file("film.mp4")
    try ffmpeg(
      [
        "-i", plain, "-c:v", "libx264", "-g", "250", "-sc_threshold", "0", "-force_key_frames",
        "expr:eq(n,0)+eq(n,20)+eq(n,40)+eq(n,53)+eq(n,80)", "-c:a", "copy", path,
      ], in: folder.path)
    let source = try readAll(path).frames
    var splitter = SceneSplitter(filterShorterThan: .frames(18))
    splitter.output = .copied
    for kind in ["mp4", "mkv"] {
      if kind == "mkv" {
        try ffmpeg(["-i", path, "-c", "copy", folder.file("film.mkv")], in: folder.path)
      }
      let out = folder.file("out" + kind)
      let result = try splitter.split(folder.file("film." + kind), into: out)
      // 17 and 16 frames are both too short.
      #expect(ranges(result) == [[0, 20], [20, 53]])
      #expect(result.droppedScenes == 1)
      #expect(result.notes.count == 1 && result.notes[0].hasPrefix("1 cut has no keyframe"))
      for scene in result.scenes {
        let name = try #require(scene.file)
        #expect(name.hasSuffix("." + kind))
        // Copied frames are identical.
        let (read, ending) = try readAll(out + "/" + name)
        #expect(ending == .complete)
        #expect(
          read.map(\.bytes) == source[scene.scene.start..<scene.scene.end].map(\.bytes),
          "\(kind) \(name)")
        let audio = try AudioReader(path: out + "/" + name)
        var samples = 0
        while let chunk = try audio.next() { samples += chunk.sampleCount }
        #expect(abs(samples - scene.scene.length * 640) <= 3 * 1024, "\(samples)")
      }
    }
  }

  @Test func aFileWithoutTimesIsCodedAnewOnly() throws {
    let folder = try TemporaryFolder()
    let plain = try write(scenes([20, 33]), to: folder.file("plain.mp4"))
    let path = folder.file("film.h264")
    try ffmpeg(["-i", plain, "-c", "copy", path], in: folder.path)
    var splitter = SceneSplitter()
    splitter.output = .copied
    let error = mediaError { _ = try splitter.split(path, into: folder.file("out")) }
    #expect(error?.kind == .badOption && error?.remedy == "Leave out `copy`.")
    #expect(!FileManager.default.fileExists(atPath: folder.file("out")))
    let result = try SceneSplitter().split(path, into: folder.file("out"))
    #expect(ranges(result) == [[0, 20], [20, 53]])
  }

  @Test func optionsThatMeanNothingAreRefused() throws {
    for options in [
      DetectorOptions(.content, threshold: 256), DetectorOptions(.content, threshold: .nan),
      DetectorOptions(.content, minimumSceneLength: -1),
      DetectorOptions(.histogram, threshold: 1.5),
      DetectorOptions(.histogram, lumaOnly: true), DetectorOptions(.content, adaptiveWindow: 3),
      DetectorOptions(.adaptive, adaptiveWindow: 0), DetectorOptions(.adaptive, fadeBias: 0),
      DetectorOptions(.threshold, fadeBias: 1.5),
    ] {
      #expect(throws: Support.Issue.self, "\(options)") { _ = try options.makeDetector() }
    }

    let folder = try TemporaryFolder()
    let path = try write(scenes([3]), to: folder.file("film.mp4"))
    for change in [
      { $0.frameSkip = -1 }, { $0.frameSkip = .max }, { $0.downscale = 0 }, { $0.maximumCount = 0 },
      { $0.imagesPerScene = -1 },
      { $0.imagesPerScene = 1001 }, { $0.quality = .init(crf: 52, preset: "veryfast") },
      { $0.quality = .init(crf: 22, preset: "instant") }, { $0.range.skipEnd = -1 },
      {
        $0.range.end = .frames(2)
        $0.range.duration = .frames(2)
      },
      {
        $0.frameSkip = 1
        $0.statisticsFile = folder.file("a.csv")
      },
    ] as [(inout SceneSplitter) -> Void] {
      var splitter = SceneSplitter()
      change(&splitter)
      #expect(throws: Support.Issue.self) {
        _ = try splitter.split(path, into: folder.file("out"))
      }
    }
    #expect(try folder.contents() == ["film.mp4"])
  }

  @Test func everyVideoOfAFolderGetsAPlace() throws {
    let folder = try TemporaryFolder()
    let files = [
      "a.mp4", "A.mkv", "b.MOV", "sub/a.mp4", "out/a-Scene-001.mp4", ".hidden.mp4", "notes.txt",
      "c.jpg",
    ]
    for sub in ["sub", "out"] {
      try FileManager.default.createDirectory(
        atPath: folder.file(sub), withIntermediateDirectories: true)
    }
    for name in files { try Data().write(to: URL(fileURLWithPath: folder.file(name))) }
    let found = try VideoFolder(folder.path, output: folder.file("out"))
    #expect(
      found.entries.map(\.video) == ["A.mkv", "a.mp4", "b.MOV", "sub/a.mp4"].map(folder.file))
    #expect(
      found.entries.map(\.output)
        == ["A.mkv", "a.mp4", "b", "sub/a"].map { folder.file("out/" + $0) })
    // The output must not be the input folder, in any spelling.
    for output in ["out", "sub/../out/"] {
      let error = mediaError {
        _ = try VideoFolder(folder.file("out"), output: folder.file(output))
      }
      #expect(error?.kind == .badOption)
    }
    try FileManager.default.createDirectory(
      atPath: folder.file("twins"), withIntermediateDirectories: true)
    for name in ["a.mp4", "a.mov", "A.mp4.mkv"] {
      try Data().write(to: URL(fileURLWithPath: folder.file("twins/" + name)))
    }
    let twins = try VideoFolder(folder.file("twins"), output: folder.file("out")).entries.map(
      \.output)
    #expect(Set(twins.map { $0.lowercased() }).count == 3)
    try FileManager.default.createDirectory(
      atPath: folder.file("empty"), withIntermediateDirectories: true)
    #expect(
      mediaError { _ = try VideoFolder(folder.file("empty"), output: folder.file("out")) }?.kind
        == .notReadable)
  }
}
