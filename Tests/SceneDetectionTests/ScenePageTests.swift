import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

/// The content and the links of `scenes.html`.
@Suite struct ScenePageTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Decodes the images that are embedded in a page.
  private func images(_ page: String) throws -> [RGBFrame] {
    try page.components(separatedBy: "data:image/jpeg;base64,").dropFirst().enumerated().map {
      place, text in
      let data = try #require(Data(base64Encoded: String(text.prefix { $0 != "\"" })))
      let path = folder.file("\(place).jpg")
      try data.write(to: URL(fileURLWithPath: path))
      return try #require(try VideoReader(path: path).next())
    }
  }

  private func page(_ output: String) throws -> String {
    try String(contentsOfFile: folder.file(output) + "/scenes.html", encoding: .utf8)
  }

  @Test func eachSceneShowsItsFirstMiddleAndLastFrameAndPlays() throws {
    let frames = scenes([15, 40, 20])
    let path = try write(frames, to: folder.file("my film.mp4"))
    #expect(try SceneSplitter().split(path, into: folder.file("out")).scenes.count == 3)
    let page = try page("out")
    let shown = try images(page)
    #expect(shown.count == 9)
    // Of 40 frames every fourth is held: 16 and 20 are the nearest to 19.
    for (image, frame) in zip(shown, [0, 7, 14, 15, 15 + 20, 54, 55, 64, 74]) {
      #expect((image.width, image.height) == (64, 48))
      #expect(psnr(image, frames[frame]) > 26, "\(frame)")
    }
    for number in 1...3 {
      #expect(page.contains("<a class=play href=\"./my%20film-Scene-00\(number).mp4\""))
    }
    #expect(page.contains("00:00:00.600 to 00:00:02.200") && page.contains("frames 15 to 54"))
    #expect(page.contains("<dialog id=view>") && page.contains("width=device-width"))
  }

  @Test func scenesWithoutFilesPlayFromTheVideoItself() throws {
    let path = try write(scenes([15, 20]), to: folder.file("film.mp4"))
    var splitter = SceneSplitter()
    splitter.output = .none
    _ = try splitter.split(path, into: folder.file("a/out"))
    let page = try page("a/out")
    #expect(page.contains("href=\"../../film.mp4#t=0.000,0.600\""))
    #expect(page.contains("href=\"../../film.mp4#t=0.600,1.400\""))
    #expect(try images(page).count == 6)
  }

  @Test func copiesShowTheFramesThatTheyHold() throws {
    // Keyframes are only at 0 and 20, so the cut at 30 moves back to 20.
    let frames = scenes([30, 20])
    let plain = try write(frames, to: folder.file("plain.mp4"), crf: 2)
    try ffmpeg(
      [
        "-i", plain, "-c:v", "libx264", "-crf", "4", "-bf", "0", "-sc_threshold", "0",
        "-force_key_frames",
        "0.8", "-g", "999", "k.mp4",
      ],
      in: folder)
    var splitter = SceneSplitter()
    splitter.output = .copied
    let result = try splitter.split(folder.file("k.mp4"), into: folder.file("out"))
    #expect(result.scenes.map(\.scene) == [Scene(start: 0, end: 20), Scene(start: 20, end: 50)])
    let shown = try images(page("out"))
    #expect(shown.count == 6)
    for (image, frame) in zip(shown, [0, 10, 19, 20, 34, 49]) {
      #expect(psnr(image, frames[frame]) > 26, "\(frame)")
    }
  }

  @Test func whereNoFramesAreHeldForTheScenesTheyAreReadAgain() throws {
    let frames = scenes([15, 20])
    let path = try write(frames, to: folder.file("film.mp4"))
    for output in [SceneSplitter.Output.none, .encoded] {
      var splitter = SceneSplitter()
      splitter.output = output
      splitter.heldLimit = 1
      _ = try splitter.split(path, into: folder.file("\(output)"))
      let shown = try images(page("\(output)"))
      #expect(shown.count == 6)
      for (image, frame) in zip(shown, [0, 7, 14, 15, 24, 34]) {
        #expect(psnr(image, frames[frame]) > 26, "\(output) \(frame)")
      }
    }
  }

  @Test func shortScenesRepeatNoFrameAndThoseThatAreFilteredOutAreNotShown() throws {
    let path = try write(scenes([1]), to: folder.file("one.mp4"))
    _ = try SceneSplitter().split(path, into: folder.file("one"))
    #expect(try images(page("one")).count == 1)
    let film = try write(scenes([15, 16, 40]), to: folder.file("film.mp4"))
    _ = try SceneSplitter(filterShorterThan: SceneLength("20")).split(
      film, into: folder.file("out"))
    #expect(try images(page("out")).count == 3)
  }

  @Test func linksLeadFromThePagesFolderWhateverTheNames() {
    #expect(ClipPage.link(from: "/a/b", to: "/a/b/c d#?.mp4") == "./c%20d%23%3F.mp4")
    #expect(ClipPage.link(from: "/a/b", to: "/a/c/e.mp4") == "../c/e.mp4")
    #expect(ClipPage.link(from: "/", to: "/x/\"<.mp4") == "./x/%22%3C.mp4")
    #expect(ClipPage.link(from: "/e\u{301}", to: "/\u{E9}/a.mp4") == "../%C3%A9/a.mp4")
  }
}
