import Foundation
import Media
import MediaTestSupport
import Testing

/// `MonoAudio` against `ffmpeg -ac 1 -ar 16000`.
@Suite struct MonoAudioTests {
  /// Writes a clip with `ffmpeg`, and compares the audio that it decodes.
  ///
  /// - Returns: The largest difference in steps of 16 bits.
  private func difference(_ name: String, _ arguments: [String]) throws -> Int {
    let folder = try TemporaryFolder()
    try ffmpeg(arguments + [name], in: folder)
    try ffmpeg(
      [
        "-i", name, "-vn", "-ac", "1", "-ar", "16000", "-c:a", "pcm_s16le", "-f", "s16le",
        "out.raw",
      ],
      in: folder)
    let data = try Data(contentsOf: URL(filePath: folder.file("out.raw")))
    let expected = data.withUnsafeBytes { Array($0.bindMemory(to: Int16.self)) }
    let samples = try MonoAudio.read(path: folder.file(name), sampleRate: 16_000)
    try #require(samples.count == expected.count)
    return zip(samples, expected).reduce(0) { max($0, abs(Int($1.0 * 32_768) - Int($1.1))) }
  }

  private func tone(_ rate: Int, _ layout: String) -> [String] {
    let channels = [
      "0.3*sin(880*t)", "0.6*sin(2500*t)", "0.2*sin(9000*t)", "0.1", "0.4*sin(50*t)",
      "0.5*cos(3000*t)",
    ]
    let count = layout == "mono" ? 1 : layout == "stereo" ? 2 : 6
    return [
      "-f", "lavfi", "-i",
      "aevalsrc=\(channels[..<count].joined(separator: "|")):s=\(rate):c=\(layout):d=1.37",
    ]
  }

  @Test func sixteenBitMonoIsUnchanged() throws {
    #expect(try difference("mono.wav", tone(16_000, "mono") + ["-c:a", "pcm_s16le"]) == 0)
  }

  @Test(arguments: [
    ("stereo.wav", 44_100, "stereo", "pcm_s16le"), ("stereo.m4a", 44_100, "stereo", "aac"),
    ("float.wav", 22_050, "mono", "pcm_f32le"), ("six.wav", 48_000, "5.1", "pcm_s24le"),
    ("six.mkv", 48_000, "5.1", "ac3"),
  ])
  func otherFormatsAreMixedAndResampled(
    name: String, rate: Int, layout: String, codec: String
  ) throws {
    #expect(try difference(name, tone(rate, layout) + ["-c:a", codec]) == 0)
  }
}
