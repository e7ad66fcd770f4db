import Foundation
import MediaTestSupport
import Support
import Testing

@testable import Media
@testable import SceneDetection

@Suite struct SceneSplitterTests {
  @Test func hardCutsAreFoundExactly() throws {
    let folder = try TemporaryFolder()
    let path = try write(scenes([20, 33, 17, 16]), to: folder.file("film.mp4"))
    let found = try VideoReader(path: path).scenes(by: ContentDetector())
    #expect(found.map(\.start) == [0, 20, 53, 70])
    #expect(found.map(\.end) == [20, 53, 70, 86])
    // No change is large enough for this threshold: one scene.
    let none = try VideoReader(path: path).scenes(by: ContentDetector(threshold: 254))
    #expect(none == [Scene(start: 0, end: 86)])
  }

  @Test func scenesAreWrittenFrameExactlyWithTheirAudio() throws {
    let folder = try TemporaryFolder()
    let frames = scenes([20, 8, 30])
    let path = try write(
      frames, to: folder.file("a film.mp4"), audio: .init(sampleRate: 16000, channelCount: 1))
    let out = folder.file("out")
    var phases: [SplitProgress.Phase] = []
    let result = try SceneSplitter(filterShorterThan: .seconds(0.5)).split(
      path, into: out, by: ContentDetector(minimumSceneLength: 5)
    ) { progress in
      if phases.last != progress.phase { phases.append(progress.phase) }
    }
    #expect(phases == [.splitting])
    #expect(result.droppedScenes == 1 && result.frameCount == 58 && result.ending == .complete)
    #expect(result.notes.isEmpty)
    let names = ["a film-Scene-001.mp4", "a film-Scene-002.mp4"]
    #expect(result.scenes.map(\.file) == names)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: out).sorted() == names + [
        "scenes.csv", "scenes.html",
      ])
    #expect(
      try String(contentsOfFile: out + "/scenes.csv", encoding: .utf8) == """
        index,start_frame,end_frame,start_seconds,end_seconds,file
        1,0,20,0.000000,0.800000,a film-Scene-001.mp4
        2,28,58,1.120000,2.320000,a film-Scene-002.mp4

        """)
    for (name, range) in zip(names, [0..<20, 28..<58]) {
      let (read, ending) = try readAll(out + "/" + name)
      #expect(ending == .complete)
      #expect(read.count == range.count)
      for (frame, want) in zip(read, frames[range]) { #expect(psnr(frame, want) > 30) }
    }
    let audio = try AudioReader(path: out + "/" + names[1])
    var samples: [Float] = []
    while let chunk = try audio.next() { samples += chunk.channels[0] }
    #expect((19200..<(19200 + 1024)).contains(samples.count))
    // The scene starts at 1.12 s; a shift by one millisecond would give an error above 0.4.
    let want = tone(from: 17920, count: 19200, rate: 16000, channels: 1)[0]
    let error =
      zip(samples, want).dropFirst(2000).prefix(10000).map { abs($0 - $1) }.reduce(0, +) / 10000
    #expect(error < 0.05)
  }

  @Test func aRerunReplacesOnlyItsOwnFiles() throws {
    let folder = try TemporaryFolder()
    let path = try write(scenes([20, 20, 20]), to: folder.file("film.mp4"))
    let out = folder.file("out")
    _ = try SceneSplitter().split(path, into: out)
    for name in ["notes.txt", "film-Scene-004.mp4"] {
      try Data("mine".utf8).write(to: URL(fileURLWithPath: out + "/" + name))
    }
    _ = try SceneSplitter().split(path, into: out, by: ContentDetector(threshold: 254))
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: out).sorted()
        == ["film-Scene-001.mp4", "film-Scene-004.mp4", "notes.txt", "scenes.csv", "scenes.html"])
    #expect(try VideoReader.countFrames(path: out + "/film-Scene-001.mp4") == 60)
  }

  @Test func anInterruptedSplitLeavesNothing() throws {
    struct Stop: Error {}
    let folder = try TemporaryFolder()
    let path = try write(scenes([20, 20]), to: folder.file("film.mp4"))
    func interrupt() {
      #expect(throws: Stop.self) {
        try SceneSplitter().split(path, into: folder.file("out/deep")) { progress in
          if progress.frame == 30 { throw Stop() }
        }
      }
    }
    interrupt()
    #expect(try folder.contents() == ["film.mp4"])
    // Leftovers of a killed run are removed; other files stay.
    let out = folder.file("out/deep")
    try FileManager.default.createDirectory(
      atPath: out + "/.film.partial", withIntermediateDirectories: true)
    try Data("half".utf8).write(to: URL(fileURLWithPath: out + "/.film.partial/1.mp4"))
    try Data("mine".utf8).write(to: URL(fileURLWithPath: out + "/film-Scene-001.mp4"))
    interrupt()
    #expect(try FileManager.default.contentsOfDirectory(atPath: out) == ["film-Scene-001.mp4"])
    #expect(try String(contentsOfFile: out + "/film-Scene-001.mp4", encoding: .utf8) == "mine")
  }

  @Test func unusableInputAndOutputAreRefused() throws {
    let folder = try TemporaryFolder()
    try gradient(width: 16, height: 16, scene: 0, time: 0).writePNG(to: folder.file("a.png"))
    #expect(
      mediaError { _ = try SceneSplitter().split(folder.file("a.png"), into: folder.file("out")) }?
        .kind
        == .badOption)
    #expect(
      mediaError { _ = try SceneSplitter().split(folder.file("no.mp4"), into: folder.file("out")) }?
        .kind
        == .notReadable)
    let path = try write(scenes([3]), to: folder.file("film.mp4"))
    #expect(
      mediaError { _ = try SceneSplitter().split(path, into: folder.file("a.png")) }?.kind
        == .writing)
  }

  @Test func lengthsAreReadAsUpstream() throws {
    let rate = Rational(24000, 1001)
    #expect(try SceneLength("48").frames(at: rate) == 48)
    #expect(try SceneLength("2s").frames(at: rate) == 48)
    // Longer than any video, and too long for an integer.
    #expect(try SceneLength("9999999999999999:00:00").frames(at: rate) > 1 << 40)
    #expect(try SceneLength("1.5s").frames(at: Rational(25)) == 38)
    #expect(try SceneLength("00:01:02.5").frames(at: Rational(10)) == 625)
    #expect(try SceneLength("01:02").frames(at: Rational(10)) == 620)
    for text in ["", "s", "-1", "-2s", "2 s", "nans", "infs", "1e3s", "1:2:3:4", "00:61:00", "two"]
    {
      #expect(throws: Support.Issue.self, "\(text)") { _ = try SceneLength(text) }
    }
  }
}
