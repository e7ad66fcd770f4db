import Foundation
import Media
import MediaTestSupport
import Testing

@Suite struct DecodedAudioTests {
  /// A constant for each channel.
  private func levels(_ values: [Float]) -> DecodedAudio {
    DecodedAudio(channels: values.map { [$0, 2 * $0] }, sampleRate: 48000)
  }

  @Test func channelsAreMixedAsUpstream() {
    let cases: [([Float], left: Double, right: Double)] = [
      ([0.25], 0.25, 0.25),
      ([0.25, -0.5], 0.25, -0.5),
      ([0.25, -0.5, 1], 0.25, 0.25),
      (
        [0.5, -0.25, 0.125, 9, 0.75, -1], (0.5 + 0.707 * 0.875) / 2.414,
        (-0.25 + 0.707 * -0.875) / 2.414
      ),
      (
        [0.5, -0.25, 0.125, 9, 0.75, -1, 0.5, 0.25], (0.5 + 0.707 * 1.375) / 3.121,
        (-0.25 + 0.707 * -0.625) / 3.121
      ),
    ]
    for (values, left, right) in cases {
      let stereo = levels(values).stereo()
      #expect(stereo.sampleRate == 48000 && stereo.sampleCount == 2)
      for (channel, wanted) in zip(stereo.channels, [left, right]) {
        #expect(
          abs(Double(channel[0]) - wanted) < 1e-6 && abs(Double(channel[1]) - 2 * wanted) < 1e-6)
      }
    }
  }

  @Test func readingStopsAtACompleteSample() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("tone.wav")
    try WAVWriter.write(
      tone(from: 0, count: 22050, rate: 22050, channels: 3), sampleRate: 22050, to: path)
    let whole = try DecodedAudio.read(path: path, maximumSeconds: nil)
    #expect(whole.channels.map(\.count) == [22050, 22050, 22050])
    #expect(whole.sampleRate == 22050 && whole.damage == nil)
    // floor(0.12345 * 22050) = 2722
    let part = try DecodedAudio.read(path: path, maximumSeconds: 0.12345)
    #expect(part.channels == whole.channels.map { Array($0.prefix(2722)) })
    #expect(try DecodedAudio.read(path: path, maximumSeconds: 9).channels == whole.channels)
    #expect(try DecodedAudio.read(path: path, maximumSeconds: 0).channels == [[], [], []])
    #expect(
      mediaError { _ = try DecodedAudio.read(path: path, maximumSeconds: -1) }?.kind == .badOption)
    #expect(
      mediaError { _ = try DecodedAudio.read(path: path, maximumSeconds: .nan) }?.kind == .badOption
    )
  }

  /// An AVI counts its audio in units of time, not in packets.
  @Test func anIntactAVIIsNotReportedAsDamaged() throws {
    let folder = try TemporaryFolder()
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=2", "-f", "lavfi", "-i",
        "sine=440:duration=2:sample_rate=48000", "-c:v", "mpeg4", "-c:a", "ac3", "-ac", "2",
        "a.avi",
      ], in: folder)
    let whole = try DecodedAudio.read(path: folder.file("a.avi"), maximumSeconds: nil)
    #expect(whole.damage == nil && whole.channels.count == 2)
    let data = try Data(contentsOf: URL(fileURLWithPath: folder.file("a.avi")))
    try data.prefix(data.count / 2).write(to: URL(fileURLWithPath: folder.file("cut.avi")))
    let half = try DecodedAudio.read(path: folder.file("cut.avi"), maximumSeconds: nil)
    #expect(half.channels[0].count < whole.channels[0].count && half.damage != nil)
    #expect(try DecodedAudio.read(path: folder.file("cut.avi"), maximumSeconds: 0.25).damage == nil)
  }

  /// torchcodec's samples of a 5.1 track, which upstream trains on; written by
  /// Tests/Oracles/sound.py.
  @Test func samplesOfARealClipEqualUpstreams() throws {
    struct Fixture: Decodable {
      let clip: String
      let rate: Int
      let count: Int
      let step: Int
      let channels: [[Float]]
    }
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().path
    let data = try Data(contentsOf: URL(fileURLWithPath: tests + "/Fixtures/sound.json"))
    let fixture = try JSONDecoder().decode(Fixture.self, from: data)
    let audio = try DecodedAudio.read(
      path: "\(tests)/../.deps/media/\(fixture.clip)", maximumSeconds: nil)
    #expect(audio.sampleRate == fixture.rate && audio.damage == nil)
    #expect(audio.channels.count == 6 && fixture.channels.count == 6)
    for (samples, wanted) in zip(audio.channels, fixture.channels) {
      #expect(samples.count == fixture.count)
      let picked = stride(from: 0, to: samples.count, by: fixture.step).map { samples[$0] }
      #expect(picked.count == wanted.count)
      // Processors may round the decoder's sums differently.
      #expect(zip(picked, wanted).allSatisfy { abs($0 - $1) < 1e-5 })
    }
    #expect(fixture.channels[0].contains { abs($0) > 0.01 })
  }

  /// AAC's priming is declared in MP4, and precedes time zero in Matroska; the audio is the same.
  @Test func primingIsSkippedInEveryContainer() throws {
    let folder = try TemporaryFolder()
    let noise = "aevalsrc=0.4*sin(440*2*PI*t)+0.1*random(0):s=44100:d=1"
    try ffmpeg(
      ["-f", "lavfi", "-i", noise, "-c:a", "aac", "-b:a", "96k", "-flags", "bitexact", "a.m4a"],
      in: folder)
    try ffmpeg(["-i", "a.m4a", "-c", "copy", "a.mkv"], in: folder)
    let mp4 = try DecodedAudio.read(path: folder.file("a.m4a"), maximumSeconds: 0.9)
    let matroska = try DecodedAudio.read(path: folder.file("a.mkv"), maximumSeconds: 0.9)
    #expect(mp4.channels[0].count == 39690)
    #expect(mp4.channels == matroska.channels)
  }

  @Test func damageIsReported() throws {
    let folder = try TemporaryFolder()
    try ffmpeg(
      ["-f", "lavfi", "-i", "sine=440:duration=2:sample_rate=48000", "-c:a", "ac3", "a.ac3"],
      in: folder)
    var data = try Data(contentsOf: URL(fileURLWithPath: folder.file("a.ac3")))
    for i in (data.count / 2)..<(data.count / 2 + 3000) {
      data[i] = UInt8(truncatingIfNeeded: 37 &* i)
    }
    try data.write(to: URL(fileURLWithPath: folder.file("b.ac3")))
    #expect(try DecodedAudio.read(path: folder.file("a.ac3"), maximumSeconds: nil).damage == nil)
    let audio = try DecodedAudio.read(path: folder.file("b.ac3"), maximumSeconds: nil)
    #expect(audio.damage?.contains("damaged") == true && audio.channels[0].count > 48000)
    // The audio before the damage is complete.
    #expect(try DecodedAudio.read(path: folder.file("b.ac3"), maximumSeconds: 0.5).damage == nil)
  }

  @Test func nonFiniteSamplesAreRefused() throws {
    let folder = try TemporaryFolder()
    func write(_ samples: [Float]) throws {
      var wav = Data("RIFF".utf8)
      func add(_ value: UInt32) {
        withUnsafeBytes(of: value.littleEndian) { wav.append(contentsOf: $0) }
      }
      add(36 + UInt32(4 * samples.count))
      wav += Data("WAVEfmt ".utf8)
      for value: UInt32 in [16, 3 | 1 << 16, 8000, 32000, 4 | 32 << 16] { add(value) }
      wav += Data("data".utf8)
      add(UInt32(4 * samples.count))
      for sample in samples { add(sample.bitPattern) }
      try wav.write(to: URL(fileURLWithPath: folder.file("a.wav")))
    }
    let path = folder.file("a.wav")
    try write([0.5, -2, 0.25])
    #expect(try DecodedAudio.read(path: path, maximumSeconds: nil).channels == [[0.5, -2, 0.25]])
    for bad in [Float.nan, .infinity] {
      try write([0.5, bad, 0.25])
      #expect(
        mediaError { _ = try DecodedAudio.read(path: path, maximumSeconds: nil) }?.kind == .decoding
      )
    }
    try write([])
    #expect(
      mediaError { _ = try DecodedAudio.read(path: path, maximumSeconds: nil) }?.kind == .decoding)
  }
}
