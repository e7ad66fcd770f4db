import Foundation
import Media
import MediaTestSupport
import Testing

@Suite struct VideoFileTests {
  @Test func writtenFramesAreReadBack() throws {
    let folder = try TemporaryFolder()
    let frames = scenes([10, 8])
    let path = try write(
      frames, to: folder.file("clip.mp4"), rate: Rational(30000, 1001),
      audio: .init(sampleRate: 16000, channelCount: 2))
    #expect(try folder.contents() == ["clip.mp4"])

    let reader = try VideoReader(path: path)
    #expect(reader.width == 64 && reader.height == 48)
    #expect(reader.frameRate == Rational(30000, 1001))
    #expect(reader.frameCount == .declared(18))
    #expect(reader.hasAudio && !reader.isImage && reader.quarterTurns == 0)
    #expect(abs((reader.duration ?? 0) - 18 * 1001 / 30000) < 1e-3)

    let (read, ending) = try readAll(path)
    #expect(ending == .complete)
    #expect(read.map(\.index) == Array(0..<18))
    for (i, frame) in read.enumerated() {
      #expect(abs(frame.seconds - Double(i) * 1001 / 30000) < 1e-4)
      // Halved chroma and x264 at crf 12 leave far more than this; a shifted frame or matrix leaves
      // 25.
      #expect(psnr(frame, frames[i]) > 36)
    }
    #expect(try VideoReader.countFrames(path: path) == 18)
  }

  @Test func bt709IsTaggedAndConverted() throws {
    let folder = try TemporaryFolder()
    // Pure green differs by 20 levels in red between the matrices of BT.601 and BT.709.
    let green = RGBFrame(
      bytes: (0..<(32 * 32)).flatMap { _ in [0, 200, 0] as [UInt8] }, width: 32, height: 32)
    let path = try write([green, green], to: folder.file("green.mp4"))
    let frame = try #require(try readAll(path).frames.first)
    #expect(psnr(frame, green) > 40)
  }

  @Test func audioKeepsItsLengthAndPlace() throws {
    let folder = try TemporaryFolder()
    let path = try write(
      scenes([25]), to: folder.file("clip.mp4"), audio: .init(sampleRate: 16000, channelCount: 2))
    let reader = try AudioReader(path: path)
    #expect(reader.sampleRate == 16000 && reader.channelCount == 2)
    var left: [Float] = []
    var right: [Float] = []
    while let chunk = try reader.next() {
      if left.isEmpty { #expect(chunk.start == 0) }
      left += chunk.channels[0]
      right += chunk.channels[1]
    }
    #expect(reader.ending == .complete)
    // The last AAC frame may be padded.
    #expect((16000..<(16000 + 1024)).contains(left.count))
    let want = tone(from: 0, count: 16000, rate: 16000, channels: 2)
    for (got, want) in zip([left, right], want) {
      let error =
        zip(got, want).dropFirst(2000).prefix(10000).map { abs($0 - $1) }.reduce(0, +) / 10000
      #expect(error < 0.02)
    }
  }

  @Test func aPNGIsExactAndOneFrame() throws {
    let folder = try TemporaryFolder()
    let image = gradient(width: 31, height: 17, scene: 2, time: 5)
    let path = folder.file("odd 100%d.png")
    try image.writePNG(to: path)
    #expect(try folder.contents() == ["odd 100%d.png"])
    let reader = try VideoReader(path: path)
    #expect(reader.isImage && reader.frameCount == .declared(1) && reader.frameRate == Rational(1))
    #expect(reader.width == 31 && reader.height == 17 && reader.duration == 0 && !reader.hasAudio)
    #expect(try reader.next()?.bytes == image.bytes)
    #expect(try reader.next() == nil)
    #expect(reader.ending == .complete)
  }

  @Test func theWriterRefusesWhatItCannotWrite() throws {
    let folder = try TemporaryFolder()
    let odd = mediaError {
      _ = try VideoWriter(
        path: folder.file("a.mp4"), width: 63, height: 48, frameRate: Rational(25))
    }
    #expect(odd?.kind == .badOption)
    let rate = mediaError {
      _ = try VideoWriter(path: folder.file("a.mp4"), width: 64, height: 48, frameRate: Rational(0))
    }
    #expect(rate?.kind == .badOption)
    let audio = mediaError {
      _ = try VideoWriter(
        path: folder.file("a.mp4"), width: 64, height: 48, frameRate: Rational(25),
        audio: .init(sampleRate: 12345, channelCount: 2))
    }
    #expect(audio?.kind == .badOption)
    let nowhere = mediaError {
      _ = try VideoWriter(
        path: folder.file("no/a.mp4"), width: 64, height: 48, frameRate: Rational(25))
    }
    #expect(nowhere?.kind == .writing)
    let size = mediaError {
      let writer = try VideoWriter(
        path: folder.file("a.mp4"), width: 64, height: 48, frameRate: Rational(25))
      try writer.append(gradient(width: 48, height: 64, scene: 0, time: 0))
    }
    #expect(size?.kind == .badOption)
    let empty = mediaError {
      try VideoWriter(path: folder.file("a.mp4"), width: 64, height: 48, frameRate: Rational(25))
        .finish()
    }
    #expect(empty?.kind == .badOption)
    #expect(try folder.contents() == [])
  }

  @Test func anAbandonedFileLeavesTheOldOneAlone() throws {
    let folder = try TemporaryFolder()
    let path = try write(scenes([3]), to: folder.file("clip.mp4"))
    let before = try Data(contentsOf: URL(fileURLWithPath: path))
    do {
      let writer = try VideoWriter(path: path, width: 64, height: 48, frameRate: Rational(25))
      try writer.append(gradient(width: 64, height: 48, scene: 1, time: 0))
      let contents = try folder.contents()
      #expect(
        contents.count == 2 && contents[0].hasPrefix(".clip.mp4.")
          && contents[0].hasSuffix(".partial"))
    }
    #expect(try folder.contents() == ["clip.mp4"])
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
  }
}
