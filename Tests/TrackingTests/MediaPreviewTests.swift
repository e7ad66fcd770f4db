import Foundation
import Media
import Testing

@testable import Tracking

@Suite struct MediaPreviewTests {
  private let folder = TemporaryFolder()

  private func preview(_ name: String, side: Int = 1024) throws -> MediaPreview {
    try MediaPreview(
      ValidationMedia(name: "s", path: "\(folder.path)/\(name)", caption: ""), side: side)
  }

  /// The brightness in the middle of each quarter, row by row.
  private func quarters(_ image: MediaPreview.Image) throws -> [Int] {
    let path = folder.path + "/sheet.jpg"
    try image.data.write(to: URL(fileURLWithPath: path))
    let reader = try VideoReader(path: path)
    #expect(reader.width == image.width && reader.height == image.height)
    let frame = try #require(try reader.next())
    return [(1, 1), (1, 3), (3, 1), (3, 3)].map { row, column in
      Int(frame.bytes[3 * (row * frame.height / 4 * frame.width + column * frame.width / 4)])
    }
  }

  private func grayVideo(_ name: String, levels: [UInt8], audio: Bool = false) throws {
    let writer = try VideoWriter(
      path: "\(folder.path)/\(name)", width: 64, height: 48, frameRate: Rational(25),
      audio: audio ? VideoWriter.Audio(sampleRate: 16000, channelCount: 1, matchesVideo: true) : nil
    )
    for level in levels {
      try writer.append(
        RGBFrame(bytes: Array(repeating: level, count: 3 * 64 * 48), width: 64, height: 48))
    }
    if audio { try writer.append(audio: [(0..<16000).map { Float(sin(Double($0) / 8)) / 2 }]) }
    try writer.finish()
  }

  @Test func aVideoIsFourOfItsFramesFromFirstToLast() throws {
    try grayVideo("a.mp4", levels: [20, 90, 90, 60, 90, 90, 120, 90, 90, 200])
    let preview = try preview("a.mp4")
    let image = try #require(preview.image)
    #expect(image.width == 128 && image.height == 96)
    // H.264 and JPEG change gray by a few levels.
    for (level, expected) in zip(try quarters(image), [20, 60, 120, 200]) {
      #expect(abs(level - expected) < 6)
    }
    #expect(preview.audio == nil)
  }

  @Test(
    arguments: [([50], [50, 50, 50, 50]), ([50, 150], [50, 50, 50, 150])] as [([UInt8], [Int])])
  func aVideoOfFewFramesRepeatsThem(levels: [UInt8], expected: [Int]) throws {
    try grayVideo("a.mp4", levels: levels)
    let image = try #require(try preview("a.mp4").image)
    for (level, expected) in zip(try quarters(image), expected) {
      #expect(abs(level - expected) < 6)
    }
  }

  @Test func aLargeVideoIsMadeSmall() throws {
    try grayVideo("a.mp4", levels: [20, 30])
    let image = try #require(try preview("a.mp4", side: 64).image)
    #expect(image.width == 64 && image.height == 48)
    #expect(try quarters(image).count == 4)
  }

  @Test func theAudioOfAVideoIsAWAV() throws {
    try grayVideo("a.mp4", levels: Array(repeating: 20, count: 25), audio: true)
    let audio = try #require(try preview("a.mp4").audio)
    let path = folder.path + "/a.wav"
    try audio.data.write(to: URL(fileURLWithPath: path))
    let clip = try AudioClip.read(path: path)
    #expect(audio.sampleRate == 16000 && audio.channels == 2)
    #expect(clip.sampleRate == 16000 && clip.sampleCount == audio.samples)
    // one second, rounded to AAC's frames
    #expect(abs(clip.duration - 1) < 0.1)
  }

  @Test func anImageIsItsOwnFile() throws {
    let path = folder.path + "/a.png"
    try SampleFiles.image(path, width: 40, height: 30)
    let image = try #require(try preview("a.png").image)
    #expect(image.data == FileManager.default.contents(atPath: path))
    #expect(image.width == 40 && image.height == 30)
  }

  @Test func aFileThatIsNoMediaIsAnErrorThatNamesIt() throws {
    let path = folder.path + "/a.mp4"
    try Data("no video".utf8).write(to: URL(fileURLWithPath: path))
    #expect { try preview("a.mp4") } throws: { "\($0)".contains(path) }
  }
}
