import Foundation
import Media
import MediaTestSupport
import Testing

@Suite struct AudioFileTests {
  /// A sine with an amplitude.
  private func sine(_ frequency: Double, count: Int, rate: Int, amplitude: Float = 0.5) -> [Float] {
    (0..<count).map {
      amplitude * Float(sin(2 * Double.pi * frequency * Double($0) / Double(rate)))
    }
  }

  /// The amplitude of a frequency in the middle of the audio, and of everything else.
  private func analyze(_ audio: [Float], _ frequency: Double, rate: Int) -> (
    amplitude: Double, rest: Double
  ) {
    let middle = Array(audio[(audio.count / 4)..<(3 * audio.count / 4)])
    var (cosine, sine) = (0.0, 0.0)
    for (i, sample) in middle.enumerated() {
      let angle = 2 * Double.pi * frequency * Double(i) / Double(rate)
      cosine += Double(sample) * cos(angle)
      sine += Double(sample) * sin(angle)
    }
    let scale = 2 / Double(middle.count)
    var rest = 0.0
    for (i, sample) in middle.enumerated() {
      let angle = 2 * Double.pi * frequency * Double(i) / Double(rate)
      let difference = Double(sample) - scale * (cosine * cos(angle) + sine * sin(angle))
      rest += difference * difference
    }
    return (
      scale * (cosine * cosine + sine * sine).squareRoot(),
      (rest / Double(middle.count)).squareRoot()
    )
  }

  @Test func aWAVIsReadAsItWasWritten() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("sound.wav")
    let (left, right) = (
      sine(440, count: 22050, rate: 22050), sine(1000, count: 22050, rate: 22050, amplitude: 3)
    )
    try WAVWriter.write([left, right], sampleRate: 22050, to: path)
    #expect(try folder.contents() == ["sound.wav"])
    let clip = try AudioClip.read(path: path)
    #expect(clip.sampleRate == 22050 && clip.sampleCount == 22050 && clip.duration == 1)
    for i in left.indices {
      #expect(abs(clip.channels[0][i] - left[i]) < 1e-4)
      #expect(abs(clip.channels[1][i] - min(1, max(-1, right[i]))) < 1e-4)
    }
    let part = try AudioClip.read(path: path, from: 0.25, duration: 0.5)
    #expect(part.channels[0] == Array(clip.channels[0][5513..<(5513 + 11025)]))
    #expect(try AudioClip.read(path: path, from: 0.9, duration: 5).sampleCount == 2205)
  }

  @Test func anyNumberOfChannelsBecomesStereo() throws {
    let folder = try TemporaryFolder()
    let mono = folder.file("mono.wav")
    let tone = sine(440, count: 8000, rate: 8000)
    try WAVWriter.write([tone], sampleRate: 8000, to: mono)
    let both = try AudioClip.read(path: mono)
    #expect(both.channels[0] == both.channels[1])
    #expect(abs(analyze(both.channels[0], 440, rate: 8000).amplitude - 0.5) < 1e-3)
    #expect(try AudioReader(path: mono).next()?.channels.count == 1)

    // Left, right, center, low, surround left and right, each with its own tone.
    let surround = folder.file("surround.wav")
    let tones = (0..<6).map { sine(500 * Double($0 + 1), count: 16000, rate: 16000) }
    try WAVWriter.write(tones, sampleRate: 16000, to: surround)
    let mixed = try AudioClip.read(path: surround)
    let weights: [[Double]] = [[1, 0, 0.7071, 0, 0.7071, 0], [0, 1, 0.7071, 0, 0, 0.7071]]
    for (channel, weights) in zip(mixed.channels, weights) {
      for (index, weight) in weights.enumerated() {
        let loud = analyze(channel, 500 * Double(index + 1), rate: 16000).amplitude
        #expect(abs(loud - 0.5 * weight / 2.4142) < 1e-3, "channel \(index)")
      }
    }

    // Three channels in a WAV without a mask: FFmpeg treats them as left, right, low or center.
    let three = folder.file("three.wav")
    try WAVWriter.write(Array(tones.prefix(3)), sampleRate: 16000, to: three)
    #expect(try AudioClip.read(path: three).channels.count == 2)
  }

  /// Writes a second of frames and `samples` of audio at 48 kHz.
  private func writeVideo(_ path: String, audio: [[Float]]) throws {
    let writer = try VideoWriter(
      path: path, width: 64, height: 48, frameRate: Rational(25),
      audio: .init(sampleRate: 48000, channelCount: 2, matchesVideo: true),
      quality: .init(crf: 20, preset: "superfast"))
    for frame in scenes([25]) { try writer.append(frame) }
    try writer.append(audio: audio)
    try writer.finish()
  }

  @Test(arguments: [30000, 48000, 90000])
  func audioOfAVideoIsAsLongAsTheImages(samples: Int) throws {
    let folder = try TemporaryFolder()
    let path = folder.file("clip.mp4")
    let audio = [
      sine(440, count: samples, rate: 48000),
      sine(1000, count: samples, rate: 48000, amplitude: 0.25),
    ]
    try writeVideo(path, audio: audio)
    #expect(try folder.contents() == ["clip.mp4"])
    #expect(try readAll(path).frames.count == 25)
    let clip = try AudioClip.read(path: path)
    #expect(clip.sampleRate == 48000)
    // The last AAC frame may be padded.
    #expect((48000..<(48000 + 1024)).contains(clip.sampleCount))
    let heard = min(samples, 48000)
    for (channel, (frequency, amplitude)) in zip(clip.channels, [(440.0, 0.5), (1000.0, 0.25)]) {
      let (loud, rest) = analyze(Array(channel.prefix(heard)), frequency, rate: 48000)
      #expect(abs(loud - amplitude) < 0.01 && rest < 0.02)
      if heard < 46000 { #expect(channel[(heard + 2048)...].allSatisfy { abs($0) < 1e-3 }) }
    }
    // The same input gives the same file.
    let again = folder.file("again.mp4")
    try writeVideo(again, audio: audio)
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: path))
        == Data(contentsOf: URL(fileURLWithPath: again)))
  }

  @Test func loudAudioIsClippedAndNonFiniteSamplesAreRefused() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("clip.mp4")
    let loud = sine(100, count: 48000, rate: 48000, amplitude: 50)
    try writeVideo(path, audio: [loud, loud])
    let peak = try AudioClip.read(path: path).channels[0].map(abs).max() ?? 0
    #expect(peak < 1.5)

    let broken = folder.file("broken.mp4")
    let numbers = [Float](repeating: 0, count: 5000) + [.nan] + [Float](repeating: 0, count: 5000)
    #expect(mediaError { try writeVideo(broken, audio: [numbers, numbers]) }?.kind == .badOption)
    #expect(
      mediaError {
        try WAVWriter.write([numbers], sampleRate: 48000, to: folder.file("broken.wav"))
      }?.kind
        == .badOption)
    #expect(try folder.contents() == ["clip.mp4"])
  }

  @Test func readAndWriteFailuresAreReported() throws {
    let folder = try TemporaryFolder()
    let wav = folder.file("a.wav")
    #expect(mediaError { try WAVWriter.write([], sampleRate: 8000, to: wav) }?.kind == .badOption)
    #expect(
      mediaError { try WAVWriter.write([[], []], sampleRate: 8000, to: wav) }?.kind == .badOption)
    #expect(
      mediaError { try WAVWriter.write([[0], [0, 0]], sampleRate: 8000, to: wav) }?.kind
        == .badOption)
    #expect(mediaError { try WAVWriter.write([[0]], sampleRate: 0, to: wav) }?.kind == .badOption)
    let nowhere = folder.file("no/a.wav")
    #expect(
      mediaError { try WAVWriter.write([[0]], sampleRate: 8000, to: nowhere) }?.kind == .writing)
    #expect(try folder.contents() == [])

    let silent = try write(scenes([5]), to: folder.file("silent.mp4"))
    #expect(mediaError { _ = try AudioClip.read(path: silent) }?.kind == .noStream)
    try WAVWriter.write([sine(440, count: 8000, rate: 8000)], sampleRate: 8000, to: wav)
    #expect(mediaError { _ = try AudioClip.read(path: wav, from: 2) }?.kind == .decoding)
    #expect(mediaError { _ = try AudioClip.read(path: wav, from: -1) }?.kind == .badOption)
    #expect(mediaError { _ = try AudioClip.read(path: wav, duration: 0) }?.kind == .badOption)
  }
}
