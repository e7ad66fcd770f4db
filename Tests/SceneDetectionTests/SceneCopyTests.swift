import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

/// Copied scenes contain the frames that their table lists, in a container that supports their
/// streams.
@Suite struct SceneCopyTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func copy(_ name: String, _ detector: any SceneDetector = ContentDetector()) throws
    -> SplitResult
  {
    var splitter = SceneSplitter()
    splitter.output = .copied
    return try splitter.split(folder.file(name), into: folder.file("out"), by: detector)
  }

  /// Two scenes of 64x48, with a keyframe every ten frames.
  private func makeFilm(
    _ name: String, _ lengths: [Int] = [30, 20], _ options: [String] = ["-bf", "2"]
  )
    throws
  {
    try write(scenes(lengths), to: folder.file("plain.mp4"))
    try ffmpeg(
      [
        "-i", "plain.mp4", "-c:v", "libx264", "-x264-params", "keyint=10:min-keyint=10:scenecut=0",
        "-pix_fmt", "yuv420p",
      ] + options + [name], in: folder)
  }

  /// Checks that the frames of the scenes are those of the source, in sequence and as listed in the
  /// table.
  private func requireAgreement(_ result: SplitResult, with name: String) throws {
    let source = try readAll(folder.file(name)).frames
    #expect(result.scenes.first?.scene.start == 0 && result.scenes.last?.scene.end == source.count)
    let table = try String(contentsOfFile: folder.file("out/scenes.csv"), encoding: .utf8)
    for scene in result.scenes {
      let file = try #require(scene.file)
      #expect(table.contains(file))
      let frames = try readAll(folder.file("out/" + file)).frames
      #expect(frames.count == scene.scene.length, "\(file)")
      for (frame, wanted) in zip(frames, source[scene.scene.start...]) {
        #expect(frame.bytes == wanted.bytes)
      }
      for (frame, wanted) in zip(frames, source[scene.scene.start...]) {
        #expect(abs(frame.seconds - (wanted.seconds - scene.startSeconds)) < 0.002)
      }
    }
  }

  @Test(arguments: ["e.mp4 0.2 0", "e.mov 0.2 2", "e.mp4 0.52 2", "e.mkv 0.2 0", "e.ts 0.2 2"])
  func framesThatAnEditListHidesStayHidden(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    try makeFilm("film.mp4", [30, 20], ["-bf", words[2]])
    try ffmpeg(["-ss", words[1], "-i", "film.mp4", "-c", "copy", words[0]], in: folder)
    let result = try copy(words[0])
    #expect(result.scenes.count == 2 && result.notes.isEmpty)
    try requireAgreement(result, with: words[0])
  }

  @Test func framesAfterTheEndOfAnEditListStayHidden() throws {
    try makeFilm("film.mp4", [30, 20], ["-bf", "0"])
    var bytes = try Data(contentsOf: URL(fileURLWithPath: folder.file("film.mp4")))
    // 45 of 50 frames: the duration of the only edit, in milliseconds.
    let place = try #require(bytes.range(of: Data("elst".utf8))).upperBound + 8
    try #require(Array(bytes[place..<(place + 4)]) == [0, 0, 7, 0xD0])
    bytes.replaceSubrange(place..<(place + 4), with: [0, 0, 7, 0x08])
    try bytes.write(to: URL(fileURLWithPath: folder.file("cut.mp4")))
    #expect(try readAll(folder.file("cut.mp4")).frames.count == 45)
    #expect(try VideoReader(path: folder.file("cut.mp4")).frameCount == .declared(45))
    try requireAgreement(copy("cut.mp4"), with: "cut.mp4")
  }

  @Test(arguments: [
    "a.mov mov -c:v libx264 -c:a pcm_s16le", "a.mov mov -c:v prores_ks -c:a pcm_s24be",
    "a.mov mp4 -c:v libx264 -c:a aac",
    "a.mp4 mp4 -c:v libx264 -c:a flac -strict -2", "a.mkv mkv -c:v libx264 -c:a pcm_s16le",
    "a.mkv mkv -c:v ffv1 -c:a flac",
    "a.avi mkv -c:v mjpeg -c:a pcm_s16le",
    "a.ts mkv -c:v libx264 -c:a aac",
    "a.avi mkv -vf scale=720:576 -c:v dvvideo -pix_fmt yuv420p -c:a pcm_s16le",
    "a.mov mov -c:v qtrle -c:a pcm_s16be", "a.mov mp4 -c:v png -c:a alac",
    "a.avi mkv -c:v rawvideo -pix_fmt yuyv422 -c:a pcm_s16le",
  ])
  func theContainerTakesTheStreams(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=1", "-f", "lavfi", "-i",
        "sine=sample_rate=48000:duration=1", "-shortest",
      ] + words.dropFirst(2) + [words[0]], in: folder)
    // An earlier run's scene in another container is removed.
    try FileManager.default.createDirectory(
      atPath: folder.file("out"), withIntermediateDirectories: true)
    let old = words[1] == "nut" ? "a-Scene-002.mp4" : "a-Scene-002.nut"
    try Data("x".utf8).write(to: URL(fileURLWithPath: folder.file("out/" + old)))
    try Data("\(SceneTable.header)\n2,0,9,0.0,0.4,\(old)\n".utf8).write(
      to: URL(fileURLWithPath: folder.file("out/scenes.csv")))
    let result = try copy(words[0])
    #expect(result.scenes.map(\.file) == ["a-Scene-001." + words[1]])
    try requireAgreement(result, with: words[0])
    let file = folder.file("out/a-Scene-001." + words[1])
    #expect(try VideoReader(path: file).hasAudio)
    let audio = try DecodedAudio.read(path: file, maximumSeconds: nil)
    #expect(audio.damage == nil && abs(audio.channels[0].count - 48000) < 3000)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.file("out")).sorted() == [
        "a-Scene-001." + words[1], "scenes.csv", "scenes.html",
      ])
  }
}
