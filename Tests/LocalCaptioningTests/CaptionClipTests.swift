import Foundation
import LanguageModels
import Media
import MediaTestSupport
import Support
import Testing
import Torch

@testable import LocalCaptioning

@Suite struct CaptionClipTests {
  private static let model = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Fixtures/models/qwen25_omni").path

  private func processor() throws -> QwenOmniProcessor {
    try QwenOmniProcessor(
      folder: Self.model, configuration: QwenOmniConfiguration(folder: Self.model))
  }

  private func read(
    _ path: String, fps: Double = 2, readsAudio: Bool = true
  ) throws -> CaptionClip {
    var options = QwenOmniProcessor.Options()
    options.fps = fps
    options.videoBounds = 256...1600
    return try CaptionClip.read(
      path: path, processor: processor(), options: options, readsAudio: readsAudio)
  }

  @Test func aClipHasItsChosenFramesAndItsAudio() throws {
    let folder = try TemporaryFolder()
    let path = try write(
      scenes([10, 10, 10, 10]), to: folder.file("clip.mp4"), rate: Rational(10),
      audio: .init(sampleRate: 48_000, channelCount: 2))
    let clip = try read(path)
    let frames = try #require(clip.frames)
    // 64 x 48, scaled to at most 1600 pixels in multiples of 8.
    #expect(frames.shape == [8, 3, 32, 40] && frames.dtype == .uint8)
    let audio = try #require(clip.audio)
    #expect(abs(audio.count - 64_000) < 1600)
    #expect(audio.allSatisfy { abs($0) <= 1 } && (audio.max() ?? 0) > 0.2)
    // Scenes alternate every two chosen frames: red first, then blue.
    let colors = try frames.to(.float32).mean([2, 3])
    #expect(try colors.select(0, 0).argmax().item() == 0)
    #expect(try colors.select(0, 3).argmax().item() == 2)
    #expect(clip.parts(isInterleaved: false).count == 2)
    #expect(clip.parts(isInterleaved: true).count == 1)
    #expect(try read(path, readsAudio: false).audio == nil)
  }

  @Test func aClipWithoutAudioHasItsFrames() throws {
    let folder = try TemporaryFolder()
    let path = try write(scenes([5]), to: folder.file("silent.mp4"), rate: Rational(25))
    let clip = try read(path)
    #expect(clip.frames?.size(0) == 4 && clip.audio == nil && clip.image == nil)
    for isInterleaved in [false, true] {
      #expect(clip.parts(isInterleaved: isInterleaved).count == 1)
    }
  }

  @Test func aSingleFrameIsSeenTwice() throws {
    let folder = try TemporaryFolder()
    let path = try write(scenes([1]), to: folder.file("one.mp4"))
    let frames = try #require(try read(path).frames)
    #expect(frames.size(0) == 2)
    #expect(try Tensor.isEqual(frames.select(0, 0), frames.select(0, 1)))
  }

  @Test func anImageIsAnImage() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("still.png")
    try scenes([1])[0].writePNG(to: path)
    let clip = try read(path)
    #expect(clip.image?.size(0) == 3 && clip.frames == nil && clip.audio == nil)
  }

  @Test func audioFilesHaveOnlyAudio() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("sound.wav")
    // Exact in 16 bits.
    let samples = (0..<4000).map { Float($0 * 7 % 65_536 - 32_768) / 32_768 }
    try WAVWriter.write([samples], sampleRate: 16_000, to: path)
    let clip = try read(path)
    #expect(clip.frames == nil && clip.image == nil)
    #expect(try #require(clip.audio).count == 4000)
    #expect(try #require(clip.audio).allSatisfy { ($0 * 32_768).rounded() == $0 * 32_768 })
    let short = folder.file("short.wav")
    try WAVWriter.write([Array(samples[..<100])], sampleRate: 16_000, to: short)
    #expect(throws: MediaError.self) { try read(short) }
  }

  /// The fixture hears three seconds.
  @Test func audioThatIsTooLongIsNoted() throws {
    let folder = try TemporaryFolder()
    for (seconds, count) in [(3, 0), (4, 1)] {
      let path = folder.file("\(seconds).wav")
      try WAVWriter.write(
        [[Float](repeating: 0.25, count: seconds * 16_000)], sampleRate: 16_000, to: path)
      #expect(try read(path).notes.count == count)
    }
  }

  @Test func filesThatAreNotMediaAreRefused() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("text.mp4")
    try "not a clip".write(toFile: path, atomically: true, encoding: .utf8)
    #expect(throws: MediaError.self) { try read(path) }
    #expect(throws: MediaError.self) { try read(folder.file("missing.mp4")) }
  }

  /// A strip that is too long for the model is refused by its file's name.
  @Test func impossibleSizesNameTheFile() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("strip.png")
    try RGBFrame(bytes: [UInt8](repeating: 9, count: 3 * 404 * 2), width: 404, height: 2)
      .writePNG(to: path)
    let error = #expect(throws: Support.Issue.self) { try read(path) }
    #expect(error?.description.contains("strip.png") == true)
  }
}
