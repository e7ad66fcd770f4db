import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

/// Damaged audio, unusual time stamps and unusual names.
@Suite struct SceneDamageTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// Creates a second of video and audio as a transport stream, which can be appended to another
  /// one.
  private func stream(_ name: String, channels: Int = 1, from seconds: Int = 0) throws -> Data {
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=1", "-f", "lavfi", "-i",
        "sine=sample_rate=48000:duration=1", "-ac", "\(channels)", "-c:v", "libx264", "-c:a", "aac",
        "-output_ts_offset", "\(seconds)", name,
      ], in: folder)
    return try Data(contentsOf: URL(fileURLWithPath: folder.file(name)))
  }

  private func sampleCount(_ path: String) throws -> Int {
    let audio = try AudioReader(path: path)
    var count = 0
    while let chunk = try audio.next() { count += chunk.sampleCount }
    return count
  }

  @Test(arguments: [4, 2000]) func aGapInTheTimesIsSilenceUnlessItIsDamage(second: Int) throws {
    let data = try stream("a.ts") + stream("b.ts", from: second)
    let path = folder.file("film.ts")
    try data.write(to: URL(fileURLWithPath: path))
    let result = try SceneSplitter().split(path, into: folder.file("out"))
    // The demuxer marks a packet as damaged where the two streams join.
    let notes = result.notes.filter { !$0.hasPrefix("Damage:") }
    let samples = try sampleCount(folder.file("out/film-Scene-001.mp4"))
    #expect(try VideoReader.countFrames(path: folder.file("out/film-Scene-001.mp4")) == 50)
    if second == 4 {
      #expect(notes.count == 1 && notes[0].hasPrefix("Its audio has a gap of "), "\(result.notes)")
      #expect(abs(samples - 5 * 48000) < 4800, "\(samples)")
    } else {
      #expect(notes.count == 1 && notes[0].contains("time stamps jump by 199"))
      #expect(abs(samples - 48000) < 4800, "\(samples)")
    }
  }

  /// Tests with and without holding frames.
  @Test(arguments: [256 << 20, 0]) func audioThatChangesOnTheWayIsConverted(heldLimit: Int) throws {
    let data = try stream("a.ts") + stream("b.ts", channels: 2, from: 1)
    let path = folder.file("film.ts")
    try data.write(to: URL(fileURLWithPath: path))
    var splitter = SceneSplitter()
    splitter.heldLimit = heldLimit
    let result = try splitter.split(path, into: folder.file("out"))
    let notes = result.notes.filter { !$0.hasPrefix("Damage:") }
    #expect(
      notes.first?.contains(
        "(48000 Hz with 1 channel to 48000 Hz with 2 channels), and was converted")
        == true, "\(result.notes)")
    #expect(result.frameCount == 50)
    let samples = try sampleCount(folder.file("out/film-Scene-001.mp4"))
    #expect(abs(samples - 2 * 48000) < 4800, "\(samples)")
  }

  /// Matroska may claim a constant rate regardless of its frames.
  @Test func framesKeepTheirTimesWhateverTheFileSaysOfItsRate() throws {
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=4", "-c:v", "libx264", "-bf", "0",
        "plain.mkv",
      ], in: folder)
    let path = folder.file("film.mkv")
    try ffmpeg(
      [
        "-i", "plain.mkv", "-c", "copy", "-bsf:v", "setts=ts='if(lt(N,50),N*20,1000+(N-50)*60)'",
        path,
      ], in: folder)
    #expect(try VideoReader(path: path).hasConstantRate)
    _ = try SceneSplitter().split(path, into: folder.file("out"))
    let source = try readAll(path).frames.map(\.seconds)
    let written = try readAll(folder.file("out/film-Scene-001.mp4")).frames.map(\.seconds)
    #expect(source.count == 100 && written.count == 100)
    #expect(zip(source, written).allSatisfy { abs($0 - $1) < 0.002 })
  }

  /// The last cluster of a file gets the largest possible time.
  @Test func timesOutOfRangeAreSkipped() throws {
    let path = folder.file("film.mkv")
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=2", "-c:v", "libx264", "-g", "10",
        "-f",
        "matroska", "-live", "1", "-cluster_time_limit", "500", path,
      ], in: folder)
    var data = try Data(contentsOf: URL(fileURLWithPath: path))
    // Its two-byte size, checksum and two-byte time are replaced by an unknown size and an
    // eight-byte time.
    let cluster = try #require(data.range(of: Data([0x1F, 0x43, 0xB6, 0x75]), options: .backwards))
      .upperBound
    try #require(
      data[cluster + 2] == 0xBF && data[cluster + 8] == 0xE7 && data[cluster + 9] == 0x82)
    let most = Array(repeating: UInt8(0xFF), count: 7)
    data.replaceSubrange(cluster..<(cluster + 12), with: [0x01] + most + [0xE7, 0x88, 0x7F] + most)
    try data.write(to: URL(fileURLWithPath: path))
    #expect(try FrameTiming(path: path, rate: Rational(25)) == .constant)
    let (frames, _) = try readAll(path)
    #expect(frames.count > 25 && frames.allSatisfy { abs($0.seconds) < 1e9 })
    #expect(try !SceneSplitter().split(path, into: folder.file("out")).scenes.isEmpty)
  }

  @Test func rotationIsKeptInCopies() throws {
    let plain = try write(scenes([20, 20]), to: folder.file("plain.mp4"))
    try ffmpeg(["-i", plain, "-c", "copy", "-metadata:s:v:0", "rotate=90", "film.mp4"], in: folder)
    let turns = try VideoReader(path: folder.file("film.mp4")).quarterTurns
    #expect(turns != 0)
    var splitter = SceneSplitter()
    splitter.output = .copied
    let result = try splitter.split(folder.file("film.mp4"), into: folder.file("out"))
    for scene in result.scenes {
      let copy = try VideoReader(path: folder.file("out/" + (try #require(scene.file))))
      #expect(copy.quarterTurns == turns)
    }
  }

  /// Frames that are shown before a keyframe, but need it to be decoded.
  @Test func copiesTellWhatOpenGroupsLose() throws {
    let plain = try write(scenes([24, 48]), to: folder.file("plain.mp4"))
    let path = folder.file("film.mkv")
    try ffmpeg(
      [
        "-i", plain, "-c:v", "libx264", "-x264-params",
        "open-gop=1:keyint=24:bframes=3:b-adapt=0:scenecut=0",
        path,
      ], in: folder)
    var splitter = SceneSplitter()
    splitter.output = .copied
    let result = try splitter.split(path, into: folder.file("out"))
    #expect(result.scenes.count == 2)
    for scene in result.scenes {
      let frames = try readAll(folder.file("out/" + (try #require(scene.file)))).frames
      #expect(frames.count == scene.scene.length)
      #expect(abs(scene.endSeconds - Double(scene.scene.end) / 25) < 0.002)
    }
    let lost = result.scenes[1].scene.start - result.scenes[0].scene.end
    #expect(lost > 0 && result.notes.count == 1)
    #expect(result.notes.first?.hasPrefix(lost == 1 ? "1 frame is" : "\(lost) frames are") == true)
  }

  /// A quotation mark or comma with a combining accent is one character, but still ends a field.
  @Test func marksWithAccentsInNamesAreMarks() throws {
    let name = "x\"\u{301} onload=alert(1) y=<\u{301},\u{301}"
    let path = try write(scenes([3]), to: folder.file(name + ".mp4"))
    let out = folder.file("out")
    var splitter = SceneSplitter()
    splitter.imagesPerScene = 1
    _ = try splitter.split(path, into: out)
    let page = try String(contentsOfFile: out + "/scenes.html", encoding: .utf8)
    #expect(
      page.contains("alt=\"x&quot;\u{301} onload=alert(1) y=&lt;\u{301},\u{301}-Scene-001-01.jpg\"")
    )
    #expect(page.contains("Content-Security-Policy"))
    let table = try String(contentsOfFile: out + "/scenes.csv", encoding: .utf8)
    #expect(
      table.unicodeScalars.elementsEqual(
        """
        index,start_frame,end_frame,start_seconds,end_seconds,file
        1,0,3,0.000000,0.120000,"x""\u{301} onload=alert(1) y=<\u{301},\u{301}-Scene-001.mp4"

        """.unicodeScalars))
    #expect(try SceneTable(folder: out).files(ofStem: name).count == 2)
  }

  @Test func theTableOfMeasurementsReplacesNothingElse() throws {
    let path = try write(scenes([20, 20]), to: folder.file("film.mp4"))
    let before = try Data(contentsOf: URL(fileURLWithPath: path))
    try FileManager.default.createSymbolicLink(
      atPath: folder.file("link.csv"), withDestinationPath: path)
    for name in [
      "film.mp4", "link.csv", "out/scenes.csv", "out/scenes.html", "out/film-Scene-001.mp4",
    ] {
      var splitter = SceneSplitter()
      splitter.output = .none
      splitter.statisticsFile = folder.file(name)
      let error = mediaError { _ = try splitter.split(path, into: folder.file("out")) }
      #expect(error?.kind == .badOption && error?.file == folder.file(name), "\(name)")
    }
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
    #expect(try folder.contents() == ["film.mp4", "link.csv"])
  }
}
