import Foundation
import Media
import Testing

@Suite struct DecodedSoundTests {
  /// A constant for each channel.
  private func levels(_ values: [Float]) -> DecodedSound {
    DecodedSound(channels: values.map { [$0, 2 * $0] }, sampleRate: 48000)
  }

  @Test func channelsAreMixedAsTheReferenceMixesThem() {
    let cases: [([Float], left: Double, right: Double)] = [
      ([0.25], 0.25, 0.25),
      ([0.25, -0.5], 0.25, -0.5),
      ([0.25, -0.5, 1], 0.25, 0.25),
      ([0.5, -0.25, 0.125, 9, 0.75, -1], (0.5 + 0.707 * 0.875) / 2.414, (-0.25 + 0.707 * -0.875) / 2.414),
      (
        [0.5, -0.25, 0.125, 9, 0.75, -1, 0.5, 0.25], (0.5 + 0.707 * 1.375) / 3.121,
        (-0.25 + 0.707 * -0.625) / 3.121
      ),
    ]
    for (values, left, right) in cases {
      let stereo = levels(values).stereo()
      #expect(stereo.sampleRate == 48000 && stereo.sampleCount == 2)
      for (channel, wanted) in zip(stereo.channels, [left, right]) {
        #expect(abs(Double(channel[0]) - wanted) < 1e-6 && abs(Double(channel[1]) - 2 * wanted) < 1e-6)
      }
    }
  }

  @Test func readingStopsAtTheWholeSample() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("tone.wav")
    try WAVWriter.write(tone(from: 0, count: 22050, rate: 22050, channels: 3), sampleRate: 22050, to: path)
    let whole = try DecodedSound.read(path: path, maximumSeconds: nil)
    #expect(whole.channels.map(\.count) == [22050, 22050, 22050])
    #expect(whole.sampleRate == 22050 && whole.damage == nil)
    // floor(0.12345 * 22050) = 2722
    let part = try DecodedSound.read(path: path, maximumSeconds: 0.12345)
    #expect(part.channels == whole.channels.map { Array($0.prefix(2722)) })
    #expect(try DecodedSound.read(path: path, maximumSeconds: 9).channels == whole.channels)
    #expect(try DecodedSound.read(path: path, maximumSeconds: 0).channels == [[], [], []])
    #expect(mediaError { _ = try DecodedSound.read(path: path, maximumSeconds: -1) }?.kind == .badOption)
    #expect(mediaError { _ = try DecodedSound.read(path: path, maximumSeconds: .nan) }?.kind == .badOption)
  }

  /// An AVI counts its sound in units of time, not in packets.
  @Test func aWholeAVIIsNotTakenForDamaged() throws {
    let folder = try TemporaryFolder()
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=2", "-f", "lavfi", "-i",
        "sine=440:duration=2:sample_rate=48000", "-c:v", "mpeg4", "-c:a", "ac3", "-ac", "2", "a.avi",
      ], in: folder)
    let whole = try DecodedSound.read(path: folder.file("a.avi"), maximumSeconds: nil)
    #expect(whole.damage == nil && whole.channels.count == 2)
    let data = try Data(contentsOf: URL(fileURLWithPath: folder.file("a.avi")))
    try data.prefix(data.count / 2).write(to: URL(fileURLWithPath: folder.file("cut.avi")))
    let half = try DecodedSound.read(path: folder.file("cut.avi"), maximumSeconds: nil)
    #expect(half.channels[0].count < whole.channels[0].count && half.damage != nil)
    #expect(try DecodedSound.read(path: folder.file("cut.avi"), maximumSeconds: 0.25).damage == nil)
  }
}
