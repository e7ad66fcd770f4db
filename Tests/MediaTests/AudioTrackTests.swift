import Foundation
import MediaTestSupport
import Support
import Testing

@testable import Media
@testable import SceneDetection

/// The choice among several audio tracks, and the notes about it.
@Suite struct AudioTrackTests {
  private let folder: TemporaryFolder

  init() throws {
    folder = try TemporaryFolder()
    let video = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=1"]
    let tones = [300, 500, 700].flatMap {
      ["-f", "lavfi", "-i", "sine=frequency=\($0):sample_rate=48000:duration=1"]
    }
    try ffmpeg(
      video + tones + [
        "-map", "0", "-map", "1", "-map", "2", "-map", "3", "-c:v", "libx264", "-c:a", "flac",
        "three.mkv",
      ],
      in: folder)
  }

  /// A copy of the file with three tracks of 300, 500 and 700 Hz.
  private func copy(_ options: [String], to name: String = "a.mkv") throws -> String {
    try ffmpeg(["-i", "three.mkv", "-map", "0", "-c", "copy"] + options + [name], in: folder)
    return folder.file(name)
  }

  /// The audible frequency in Hz, from zero crossings.
  private func frequency(_ path: String, _ track: AudioTrackChoice = .automatic) throws -> Int {
    let audio = try AudioClip.read(path: path, track: track).channels[0]
    let part = audio[4800..<(4800 + 24000)]
    let crossings = zip(part, part.dropFirst()).count { $0 < 0 && $1 >= 0 }
    return (2 * crossings + 5) / 10 * 10
  }

  private func note(_ path: String, _ track: AudioTrackChoice = .automatic) throws -> String? {
    try AudioReader(path: path, track: track).trackNote
  }

  @Test func theDefaultTrackIsRead() throws {
    #expect(try frequency(copy(["-disposition:a:0", "0", "-disposition:a:1", "default"])) == 500)
    #expect(
      try note(folder.file("a.mkv"))
        == "has 3 audio tracks (1: flac, 48000 Hz, 1 channel; 2: flac, 48000 Hz, 1 channel, default; "
        + "3: flac, 48000 Hz, 1 channel); track 2, marked default, is used; choose another with `audioTrack`"
    )
    // With several defaults, or none, the first track is used.
    let all = [
      "-disposition:a:0", "default", "-disposition:a:1", "default", "-disposition:a:2", "default",
    ]
    #expect(try frequency(copy(all)) == 300)
    let none = ["-disposition:a:0", "0", "-disposition:a:1", "0", "-disposition:a:2", "0"]
    #expect(try frequency(copy(none)) == 300)
    // Special-purpose tracks come last.
    let special = [
      "-disposition:a:0", "default+comment", "-disposition:a:1", "visual_impaired",
      "-disposition:a:2", "0",
    ]
    #expect(try frequency(copy(special)) == 700)
    #expect(try frequency(folder.file("a.mkv"), .first) == 300)
    #expect(try note(folder.file("a.mkv"), .first) == nil)
  }

  @Test func aTrackIsChosenByNumberOrLanguage() throws {
    let path = try copy([
      "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=ger", "-metadata:s:a:2",
      "language=jpn",
    ])
    for (text, wanted) in [
      ("1", 300), ("2", 500), ("3", 700), ("eng", 300), ("de", 500), ("deu", 500), ("ger", 500),
      ("JA", 700),
    ] {
      #expect(try frequency(path, AudioTrackChoice(text)) == wanted, "\(text)")
      #expect(try note(path, AudioTrackChoice(text)) == nil)
    }
    for (text, what) in [("4", "audio track 4"), ("fra", "audio track in the language fra")] {
      let error = mediaError { _ = try AudioReader(path: path, track: AudioTrackChoice(text)) }
      #expect(error?.kind == .badOption)
      #expect(
        error?.what
          == "has no \(what) (found 1: flac, 48000 Hz, 1 channel, eng, default; 2: flac, 48000 Hz, 1 channel, ger; "
          + "3: flac, 48000 Hz, 1 channel, jpn)")
    }
    for text in ["0", "-1", "", "english", "1.5", "é!"] {
      #expect(throws: Support.Issue.self, "\(text)") { _ = try AudioTrackChoice(text) }
    }
  }

  @Test func aTrackThatCannotBeDecodedIsPassedOver() throws {
    let path = folder.file("tags.mov")
    try ffmpeg(
      [
        "-i", "three.mkv", "-map", "0:v", "-map", "0:a:0", "-map", "0:a:1", "-c:v", "copy",
        "-c:a:0",
        "pcm_s16le",
      ]
        + ["-c:a:1", "aac", path], in: folder)
    var data = try Data(contentsOf: URL(fileURLWithPath: path))
    let place = try #require(data.range(of: Data("sowt".utf8)))
    data.replaceSubrange(place, with: Data("zzzz".utf8))
    try data.write(to: URL(fileURLWithPath: path))
    #expect(try frequency(path) == 500)
    #expect(
      try note(path) == "audio track 1 has the unknown codec tag \"zzzz\"; track 2 is used")
    let error = mediaError { _ = try AudioReader(path: path, track: .number(1)) }
    #expect(error?.kind == .decoding && error?.what.contains("coded as \"zzzz\"") == true)
    // The scenes use the same track.
    let result = try SceneSplitter().split(path, into: folder.file("out"))
    #expect(result.notes == ["Audio track 1 has the unknown codec tag \"zzzz\"; track 2 is used."])
    #expect(try frequency(folder.file("out/tags-Scene-001.mp4")) == 500)
  }

  @Test(arguments: [SceneSplitter.Output.encoded, .copied]) func scenesGetTheTrack(
    output: SceneSplitter.Output
  ) throws {
    let path = try copy(["-disposition:a:0", "0", "-disposition:a:2", "default"])
    var splitter = SceneSplitter()
    splitter.output = output
    let scene = folder.file("out/a-Scene-001." + (output == .copied ? "mkv" : "mp4"))
    let result = try splitter.split(path, into: folder.file("out"))
    #expect(
      result.notes.count == 1 && result.notes[0].contains("; track 3, marked default, is used;"))
    #expect(try frequency(scene) == 700)
    splitter.audioTrack = .number(2)
    #expect(try splitter.split(path, into: folder.file("out")).notes.isEmpty)
    #expect(try frequency(scene) == 500)
    splitter.audioTrack = .number(4)
    #expect(
      mediaError { _ = try splitter.split(path, into: folder.file("other")) }?.kind == .badOption)
  }

  /// Rates and channels that AAC doesn't support.
  @Test(arguments: [
    (192_000, 2, 96_000, 2), (176_400, 1, 88_200, 1), (37_800, 2, 44_100, 2), (6_000, 1, 7_350, 1),
    (48_000, 7, 48_000, 6), (48_000, 12, 48_000, 2), (200_000, 2, 96_000, 2),
  ])
  func scenesKeepAudioThatAACCannotHold(rate: Int, channels: Int, newRate: Int, newChannels: Int)
    throws
  {
    let path = folder.file("film.mkv")
    let tone = Array(repeating: "0.4*sin(2*PI*(200*t+300*t*t))", count: channels).joined(
      separator: "|")
    try ffmpeg(
      [
        "-i", "three.mkv", "-f", "lavfi", "-i", "aevalsrc=\(tone):s=\(rate):d=1", "-map", "0:v",
        "-map",
        "1:a", "-c:v",
        "copy", "-c:a", "pcm_f32le", path,
      ], in: folder)
    let result = try SceneSplitter().split(path, into: folder.file("out"))
    let scene = try AudioReader(path: folder.file("out/film-Scene-001.mp4"))
    #expect(scene.sampleRate == newRate && scene.channelCount == newChannels)
    #expect(
      result.notes.count == 1 && result.notes[0].contains("AAC can't hold it unchanged"),
      "\(result.notes)")
    let found = try AudioClip.read(path: folder.file("out/film-Scene-001.mp4")).channels[0]
    let wanted = AudioPlacementTests.sweep(1, rate: newRate)
    let lag = AudioPlacementTests.lag(
      found, wanted, from: newRate / 2, count: newRate / 10)
    #expect(abs(lag) <= max(1, newRate / 1000), "off by \(lag)")
    let power = { (part: ArraySlice<Float>) in part.reduce(0) { $0 + $1 * $1 } }
    let (range, start) = (newRate / 4..<newRate / 2, power(wanted[(newRate / 4)..<(newRate / 2)]))
    // 6.1 is mixed to 5.1 so that nothing clips.
    #expect(power(found[range]) > start * 0.1 && power(found[range]) < start * 1.1)
  }

  @Test func samplesThatAreNotFiniteBecomeSilenceInScenes() throws {
    var samples = AudioPlacementTests.sweep(1)
    for i in 24000..<24100 { samples[i] = i % 2 == 0 ? .nan : .infinity }
    var wav = Data("RIFF".utf8)
    func add(_ value: UInt32) {
      withUnsafeBytes(of: value.littleEndian) { wav.append(contentsOf: $0) }
    }
    add(36 + UInt32(4 * samples.count))
    wav += Data("WAVEfmt ".utf8)
    for value: UInt32 in [16, 3 | 1 << 16, 48000, 192_000, 4 | 32 << 16] { add(value) }
    wav += Data("data".utf8)
    add(UInt32(4 * samples.count))
    for sample in samples { add(sample.bitPattern) }
    try wav.write(to: URL(fileURLWithPath: folder.file("bad.wav")))
    try ffmpeg(
      ["-i", "three.mkv", "-i", "bad.wav", "-map", "0:v", "-map", "1:a", "-c", "copy", "bad.mkv"],
      in: folder)
    let result = try SceneSplitter().split(folder.file("bad.mkv"), into: folder.file("out"))
    #expect(
      result.notes == [
        "Its audio has 100 samples that are not finite numbers, from 0.50 s on; they became silence."
      ])
    let error = mediaError { _ = try AudioClip.read(path: folder.file("bad.mkv")) }
    #expect(
      error?.what == "its audio has samples that are not finite numbers (the first at 0.50 s)")
  }

  @Test func levelsDetectSilence() {
    #expect(SampleLevel([[0, 0], [0, 0]]).silenceNote == "its audio is digital silence")
    let quiet = SampleLevel([Array(repeating: 0.0001, count: 100)])
    #expect(abs(quiet.rms + 80) < 0.01 && abs(quiet.peak + 80) < 0.01)
    #expect(quiet.silenceNote == "its audio is nearly silent (-80.0 dBFS RMS)")
    #expect(SampleLevel([Array(repeating: 0.001, count: 100)]).silenceNote == nil)
    #expect(SampleLevel([]).isSilent)
  }
}
