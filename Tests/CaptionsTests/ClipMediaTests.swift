import Foundation
import Media
import TestSupport
import Testing

@testable import Captions

@Suite struct ClipMediaTests {
  private let folder: ScratchFolder

  init() throws { folder = try ScratchFolder() }

  @Test(
    arguments: [
      (250, 25.0, 2.0, 20, 237), (25, 25, 2, 4, 18), (3, 25, 2, 3, 2), (1, 25, 2, 1, 0),
      (10_000, 25, 2, 64, 9843), (50, 25, 100, 50, 49), (100, 0, 2, 64, 98),
    ] as [(Int, Double, Double, Int, Int)])
  func framesAreSpreadFromTheFirstOne(
    count: Int, rate: Double, fps: Double, number: Int, last: Int
  ) {
    let places = ClipMedia.framePlaces(count: count, rate: rate, fps: fps)
    #expect(places.count == number && places.first == 0 && places.last == last)
    #expect(Set(places).count == number)
  }

  @Test func framesAndAudioOfAClip() throws {
    try TestClips.video(folder.file("a.mp4"), frames: 75)
    let frames = try ClipMedia.frames(of: folder.file("a.mp4"), fps: 2)
    #expect(frames.count == 6 && Set(frames).count == 6)
    #expect(frames.allSatisfy { $0.starts(with: [0xFF, 0xD8]) })
    let wav = try #require(try ClipMedia.audio(of: folder.file("a.mp4")))
    try wav.write(to: URL(fileURLWithPath: folder.file("a.wav")))
    let audio = try DecodedAudio.read(path: folder.file("a.wav"), maximumSeconds: nil)
    #expect(audio.sampleRate == 16_000 && audio.channels.count == 1)
    #expect(abs(audio.channels[0].count - 48_000) < 1600)
    #expect((audio.channels[0].max() ?? 0) > 0.3)
  }

  @Test func aSilentClipHasNoAudioAndAnImageOneFrame() throws {
    try TestClips.video(folder.file("a.mp4"), hasAudio: false)
    #expect(try ClipMedia.audio(of: folder.file("a.mp4")) == nil)
    try TestClips.image(folder.file("a.png"))
    #expect(try ClipMedia.frames(of: folder.file("a.png"), fps: 2).count == 1)
  }
}
