import Foundation
import Media
import MediaTestSupport
import Testing

@Suite struct BadFileTests {
  @Test func aMissingFileAndAFolderAreNamed() throws {
    let folder = try TemporaryFolder()
    let missing = mediaError { _ = try VideoReader(path: folder.file("no.mp4")) }
    #expect(missing?.kind == .notReadable)
    #expect(missing?.file == folder.file("no.mp4"))
    #expect(missing?.description == "\(folder.file("no.mp4")): no such file. Check the path.")
    #expect(mediaError { _ = try VideoReader(path: folder.path) }?.kind == .notReadable)
    #expect(mediaError { _ = try AudioReader(path: folder.file("no.wav")) }?.kind == .notReadable)
  }

  @Test(arguments: ["", "just some words, not a film\n", "#EXTM3U\nhttp://127.0.0.1:1/a.ts\n"])
  func filesThatAreNotMediaAreRefused(text: String) throws {
    let folder = try TemporaryFolder()
    for name in ["a.mp4", "a.txt", "a.png", "a.avi", "a.m3u8"] {
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder.file(name)))
      let error = mediaError { _ = try VideoReader(path: folder.file(name)) }
      let refusals: [MediaError.Kind?] = [.notMedia, .noStream, .decoding]
      #expect(refusals.contains(error?.kind), "\(name): \(String(describing: error))")
    }
  }

  /// The messages for files that are broken in a known way.
  @Test func theSentenceSaysWhatIsWrong() throws {
    let folder = try TemporaryFolder()
    func what(_ name: String, _ bytes: Data) throws -> String {
      try bytes.write(to: URL(fileURLWithPath: folder.file(name)))
      let error = mediaError {
        let reader = try VideoReader(path: folder.file(name))
        while try reader.next() != nil {}
      }
      #expect(error?.file == folder.file(name) && error?.remedy.isEmpty == false)
      return error?.what ?? "nothing"
    }
    #expect(try what("zero.mp4", Data()) == "is empty (0 bytes)")
    #expect(try what("zero.png", Data()) == "is empty (0 bytes)")
    #expect(
      mediaError { _ = try AudioReader(path: folder.file("zero.mp4")) }?.what
        == "is empty (0 bytes)")

    let whole = try Data(
      contentsOf: URL(fileURLWithPath: write(scenes([9]), to: folder.file("whole.mp4"))))
    // The index at the file's end, where cameras write it, is lost first.
    try ffmpeg(["-i", "whole.mp4", "-c", "copy", "late.mp4"], in: folder)
    let late = try Data(contentsOf: URL(fileURLWithPath: folder.file("late.mp4")))
    #expect(try what("cut.mp4", late.prefix(200)).hasPrefix("an MP4 without its index"))
    #expect(
      try what("tail.mp4", whole.suffix(whole.count / 2)).hasPrefix("not a readable media file"))

    try ffmpeg(["-i", "whole.mp4", "-t", "0", "none.avi"], in: folder)
    let none = try Data(contentsOf: URL(fileURLWithPath: folder.file("none.avi")))
    #expect(try what("none.avi", none) == "not one frame can be decoded")

    // A PNG whose header states a size; the size is checked before the checksum.
    for size: UInt32 in [0, 40_000, 0x7FFF_FFFF] {
      var png =
        Data([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A, 0, 0, 0, 13]) + Data("IHDR".utf8)
      for _ in 0..<2 { withUnsafeBytes(of: size.bigEndian) { png.append(contentsOf: $0) } }
      png += Data([8, 2, 0, 0, 0, 0, 0, 0, 0])
      #expect(try what("size.png", png).contains("damaged, or its size is invalid"))
    }
  }

  @Test func aCoverImageIsNoVideo() throws {
    let folder = try TemporaryFolder()
    try gradient(width: 32, height: 32, scene: 0, time: 0).writePNG(to: folder.file("cover.png"))
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "sine=440:duration=1", "-i", "cover.png", "-map", "0:a", "-map", "1:v",
        "-c:v",
        "copy",
        "-disposition:v", "attached_pic", "a.mp3",
      ], in: folder)
    let error = mediaError { _ = try VideoReader(path: folder.file("a.mp3")) }
    #expect(error?.kind == .noStream && error?.what == "holds no video except a cover image")
    #expect(try DecodedAudio.read(path: folder.file("a.mp3"), maximumSeconds: nil).damage == nil)
  }

  @Test func aChangeOfSizeIsReported() throws {
    let folder = try TemporaryFolder()
    for (name, size) in [("a.ts", "64x48"), ("b.ts", "96x48")] {
      try ffmpeg(
        [
          "-f", "lavfi", "-i", "testsrc=size=\(size):rate=25:duration=0.2", "-c:v", "mpeg2video",
          name,
        ],
        in: folder)
    }
    let both = try ["a.ts", "b.ts"].map {
      try Data(contentsOf: URL(fileURLWithPath: folder.file($0)))
    }
    try (both[0] + both[1]).write(to: URL(fileURLWithPath: folder.file("c.ts")))
    var ending: Ending?
    let error = mediaError { ending = try readAll(folder.file("c.ts")).ending }
    #expect(error?.what.contains("unlike those before it") ?? (ending?.damage != nil))
  }

  @Test func aMissingTrackIsReported() throws {
    let folder = try TemporaryFolder()
    let silent = try write(scenes([3]), to: folder.file("silent.mp4"))
    #expect(mediaError { _ = try AudioReader(path: silent) }?.kind == .noStream)
  }

  /// Truncated anywhere, the file is rejected, or gives fewer frames and reports it.
  @Test(arguments: [10, 500, 900, 1500, 2500, 50, 5000])
  func aTruncatedFileIsDistinguished(keptPerMille: Int) throws {
    let folder = try TemporaryFolder()
    let whole = try write(scenes([20, 20], width: 96, height: 96), to: folder.file("whole.mp4"))
    let data = try Data(contentsOf: URL(fileURLWithPath: whole))
    let count = keptPerMille > 1000 ? keptPerMille : data.count * keptPerMille / 1000
    let path = folder.file("cut.mp4")
    try data.prefix(min(count, data.count - 20)).write(to: URL(fileURLWithPath: path))
    var frames = 0
    var ending: Ending?
    let error = mediaError {
      let reader = try VideoReader(path: path)
      while try reader.next() != nil { frames += 1 }
      ending = reader.ending
    }
    if error == nil {
      #expect(frames <= 40)
      #expect(ending != nil && ending != .complete)
    } else {
      #expect([.notMedia, .decoding, .noStream].contains(error?.kind))
    }
  }

  @Test func damageInTheMiddleIsReported() throws {
    let folder = try TemporaryFolder()
    let path = try write(scenes([20, 20], width: 96, height: 96), to: folder.file("clip.mp4"))
    var data = try Data(contentsOf: URL(fileURLWithPath: path))
    for i in (data.count * 6 / 10)..<(data.count * 8 / 10) { data[i] = 0xFF }
    try data.write(to: URL(fileURLWithPath: path))
    let (frames, ending) = try readAll(path)
    #expect(frames.count < 40)
    #expect(ending != .complete)
  }

  /// Random bytes in the headers: whatever the result, nothing crashes and memory isn't corrupted.
  @Test func scrambledHeadersDoNotCrash() throws {
    let folder = try TemporaryFolder()
    let whole = try write(
      scenes([6]), to: folder.file("clip.mp4"), audio: .init(sampleRate: 16000, channelCount: 1))
    let data = try Data(contentsOf: URL(fileURLWithPath: whole))
    var state: UInt64 = 99
    var outcomes = 0
    for _ in 0..<60 {
      var broken = data
      for _ in 0..<8 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        broken[Int(state >> 33) % min(broken.count, 2500)] = UInt8(truncatingIfNeeded: state >> 20)
      }
      let path = folder.file("broken.mp4")
      try broken.write(to: URL(fileURLWithPath: path))
      do {
        _ = try readAll(path)
        let audio = try AudioReader(path: path)
        while try audio.next() != nil {}
      } catch let error as MediaError {
        #expect(!error.what.isEmpty && !error.remedy.isEmpty)
      }
      outcomes += 1
    }
    #expect(outcomes == 60)
  }
}
