import Foundation
import Media
import MediaTestSupport
import Testing

@Suite struct AudioLevelTests {
  /// The result of FFmpeg's `ebur128`: integrated loudness, and whether there is any.
  private func reference(_ path: String) throws -> Double {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [
      "ffmpeg", "-hide_banner", "-nostats", "-i", path, "-af", "ebur128", "-f", "null", "-",
    ]
    let pipe = Pipe()
    process.standardError = pipe
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    let line = try #require(text.split(separator: "\n").last { $0.contains("I:") }, "\(text)")
    return try #require(Double(line.split(separator: " ").dropLast().last ?? ""), "\(line)")
  }

  /// Noise in bursts of several levels, so that both gates matter.
  private func noise(_ rate: Int, _ channels: Int) -> [[Float]] {
    var state: UInt64 = 12345
    return (0..<channels).map { channel in
      var low: Float = 0
      return (0..<rate * 5).map { i in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let white = Float(state >> 40) / Float(1 << 24) - 0.5
        low += 0.1 * (white - low)
        let level: Float = [0.3, 0.0002, 0.7, 0.02, 0.1][i / rate]
        return level * (channel == 0 ? white : 3 * low)
      }
    }
  }

  @Test(arguments: [
    (48000, 1), (48000, 2), (44100, 2), (24000, 2), (96000, 1), (48000, 6), (16000, 1),
  ]) func loudnessIsThatOfFFmpegsMeter(_ rate: Int, _ channels: Int) throws {
    let folder = try TemporaryFolder()
    let path = folder.file("a.wav")
    try WAVWriter.write(noise(rate, channels), sampleRate: rate, to: path)
    let found = try #require(try AudioLevel.measure(path: path).loudness)
    // FFmpeg prints tenths, and resamples audio that isn't 48 kHz.
    #expect(abs(found - (try reference(path))) < 0.11, "\(found)")
  }

  @Test(arguments: [("2.1", 3), ("quad", 4), ("5.0", 5), ("3.0", 3), ("6.1", 7)])
  func channelsCountByTheirPlaces(_ layout: String, _ channels: Int) throws {
    let folder = try TemporaryFolder()
    let (plain, path) = (folder.file("plain.wav"), folder.file("a.wav"))
    try WAVWriter.write(noise(48000, channels), sampleRate: 48000, to: plain)
    let map = (0..<channels).map(String.init).joined(separator: "|")
    _ = try ffmpeg(
      ["-i", plain, "-af", "channelmap=\(map):channel_layout=\(layout)", path], in: folder.path)
    let found = try #require(try AudioLevel.measure(path: path).loudness)
    #expect(abs(found - (try reference(path))) < 0.06, "\(found)")
  }

  @Test func theStandardsOwnExampleAndItsEnds() throws {
    // BS.1770: a sine of 997 Hz at full scale in one channel reads -3.01 LKFS.
    func level(_ samples: [Float]) -> AudioLevel {
      var meter = LoudnessMeter(sampleRate: 48000, channelCount: 1)
      // In uneven pieces.
      var start = 0
      while start < samples.count {
        meter.append([Array(samples[start..<min(samples.count, start + 1013)])])
        start += 1013
      }
      return meter.level
    }
    let sine = (0..<96000).map { sin(2 * Float.pi * 997 * Float($0) / 48000) }
    #expect(abs(try #require(level(sine).loudness) + 3.01) < 0.01)
    #expect(abs(try #require(level(sine).peak)) < 0.001)
    #expect(level(Array(sine.prefix(19199))).loudness == nil)
    #expect(level(Array(sine.prefix(19200))).loudness != nil)
    let silence = level([Float](repeating: 0, count: 48000))
    #expect(silence.loudness == nil && silence.peak == nil)
    #expect(level(sine.map { 1e-4 * $0 }).loudness == nil, "below the gate at -70")
  }

  @Test func `Thumbnails`() throws {
    let folder = try TemporaryFolder()
    let frame = gradient(width: 320, height: 180, scene: 1, time: 0)
    let data = try frame.thumbnail(side: 200, quality: 2)
    try data.write(to: URL(fileURLWithPath: folder.file("t.jpg")))
    let seen = try #require(try VideoReader(path: folder.file("t.jpg")).next())
    #expect((seen.width, seen.height) == (200, 113))
    func mean(_ frame: RGBFrame, _ channel: Int) -> Double {
      let values = stride(from: channel, to: frame.bytes.count, by: 3).map {
        Double(frame.bytes[$0])
      }
      return values.reduce(0, +) / Double(values.count)
    }
    for channel in 0..<3 {
      #expect(abs(mean(seen, channel) - mean(frame, channel)) < 1.5, "channel \(channel)")
    }
    // Nothing is upscaled, and odd sizes are possible.
    let small = gradient(width: 5, height: 3, scene: 0, time: 0)
    try small.thumbnail(side: 200).write(to: URL(fileURLWithPath: folder.file("s.jpg")))
    let same = try VideoReader(path: folder.file("s.jpg"))
    #expect((same.width, same.height) == (5, 3))
  }
}
