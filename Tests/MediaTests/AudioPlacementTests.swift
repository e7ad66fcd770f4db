import Foundation
import MediaTestSupport
import Testing

@testable import Media

/// Audio is placed by its timestamps, in any codec and container.
@Suite struct AudioPlacementTests {
  static let rate = 48000

  /// A rising tone, so that a shift is noticed.
  static func sweep(_ seconds: Double, rate: Int = rate) -> [Float] {
    (0..<Int(seconds * Double(rate))).map { i in
      let time = Double(i) / Double(rate)
      return 0.4 * Float(sin(2 * .pi * (200 * time + 300 * time * time)))
    }
  }

  /// The lag of `found` behind `source` in samples, by the best correlation of a stretch of both.
  ///
  /// - Parameter near: The expected lag; lags up to `reach` from it are compared.
  static func lag(
    _ found: [Float], _ source: [Float], from start: Int, count: Int, near: Int = 0,
    reach: Int = 150
  ) -> Int {
    var best = (lag: Int.max, score: -Float.infinity)
    found.withUnsafeBufferPointer { found in
      source.withUnsafeBufferPointer { source in
        for lag in (near - reach)...(near + reach)
        where start + lag >= 0 && start + lag + count <= found.count {
          var score: Float = 0
          var i = start
          while i < start + count {
            score += found[lag &+ i] * source[i]
            i &+= 1
          }
          if score > best.score { best = (lag, score) }
        }
      }
    }
    return best.lag
  }

  /// Two seconds of video at 25 fps and the sweep, made by FFmpeg's program.
  static func make(
    _ name: String, _ codec: String, in folder: TemporaryFolder, _ more: [String] = []
  ) throws {
    let path = folder.file("sweep.wav")
    if !FileManager.default.fileExists(atPath: path) {
      try WAVWriter.write([sweep(2)], sampleRate: rate, to: path)
    }
    let video =
      name.hasSuffix("webm") ? "libvpx" : name.hasSuffix("ogg") ? "libtheora" : "libx264"
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=2", "-i", "sweep.wav", "-c:v",
        video,
        "-c:a",
        codec, "-strict", "-2",
      ] + more + [name], in: folder)
  }

  static let cases: [(String, [String])] = [
    (
      "mkv",
      ["aac", "libmp3lame", "mp2", "ac3", "flac", "libopus", "libvorbis", "pcm_s16le", "wavpack"]
    ),
    ("webm", ["libopus", "libvorbis"]),
    ("mp4", ["aac", "libmp3lame", "ac3", "flac", "libopus", "alac"]),
    ("mov", ["aac", "pcm_s16le", "alac"]), ("ts", ["aac", "libmp3lame", "ac3", "mp2", "libopus"]),
    ("avi", ["libmp3lame", "pcm_s16le", "ac3", "mp2"]), ("flv", ["aac", "libmp3lame"]),
    ("ogg", ["libopus", "libvorbis", "flac"]),
  ]

  @Test(arguments: cases)
  func everyCodecAndContainerKeepsItsTime(kind: String, codecs: [String]) throws {
    let folder = try TemporaryFolder()
    let source = Self.sweep(2)
    for codec in codecs {
      let name = "\(codec).\(kind)"
      try Self.make(name, codec, in: folder)
      let timeline = AudioTimeline(try AudioReader(path: folder.file(name), channels: .stereo))
      let placed = try PlacedAudio(timeline, from: .file(plus: 0), count: nil)
      let found = placed.channels[0]
      let wanted =
        switch (kind, codec) {
        // FFmpeg's muxer counts the delay of Opus twice: according to the file, its images are 7 ms
        // late.
        case ("mkv", "libopus"), ("webm", "libopus"): -336
        // AVI can't store encoder delay.
        case ("avi", "libmp3lame"): 1105
        case ("avi", "mp2"): 481
        case ("avi", "ac3"): 256
        default: 0
        }
      let lag = Self.lag(found, source, from: 24000, count: 4800, near: wanted)
      #expect(abs(lag - wanted) <= 48, "\(name) is off by \(lag) samples")
      #expect(placed.notes.isEmpty, "\(name): \(placed.notes)")
      guard ["flac", "alac", "pcm_s16le", "wavpack"].contains(codec) else { continue }
      #expect(lag == 0 && found.count == source.count, "\(name): \(found.count) samples")
      #expect(zip(found, source).allSatisfy { abs($0 - $1) < 1e-4 }, "\(name)")
    }
  }

  /// 0.3 s are missing at 0.4 s: later audio is moved back.
  @Test(arguments: [
    ("mkv", "flac"), ("mkv", "pcm_s16le"), ("mkv", "aac"), ("webm", "libvorbis"), ("mkv", "ac3"),
    ("mp4", "aac"), ("mp4", "flac"), ("mov", "alac"), ("ts", "aac"), ("ts", "libmp3lame"),
    ("flv", "aac"),
  ])
  func aGapBecomesSilenceWhereItIs(kind: String, codec: String) throws {
    let folder = try TemporaryFolder()
    let name = "whole.\(kind)"
    try Self.make(name, codec, in: folder, codec == "flac" ? ["-frame_size", "960"] : [])
    let shift = "setts=ts='PTS+gte(PTS-STARTPTS\\,0.4/TB)*0.3/TB'"
    try ffmpeg(
      ["-i", name, "-c", "copy", "-strict", "-2", "-bsf:a", shift, "gap.\(kind)"], in: folder)
    func read(_ name: String) throws -> PlacedAudio {
      let reader = try AudioReader(path: folder.file(name), channels: .stereo)
      return try PlacedAudio(AudioTimeline(reader), from: .file(plus: 0), count: nil)
    }
    let whole = try read(name).channels[0]
    let placed = try read("gap.\(kind)")
    let found = placed.channels[0]
    #expect(placed.notes.count == 1, "\(placed.notes)")
    let note = try #require(placed.notes.first)
    #expect(
      note.hasPrefix("its audio has a gap of 0.30 s at 0.")
        && note.hasSuffix(" s, filled with silence"))
    // Packets are up to 0.1 s long.
    #expect(found[23500..<31000].allSatisfy { $0 == 0 }, "\(note)")
    #expect(zip(found[..<17000], whole).allSatisfy { abs($0 - $1) < 1e-4 })
    let late = Self.lag(found, whole, from: 40000, count: 4800, near: 14400) - 14400
    #expect(abs(late) <= 48, "off by \(late)")
    if ["mp4", "mov"].contains(kind) || ["flac", "pcm_s16le"].contains(codec) {
      // Everything is in place to the sample.
      #expect(zip(found[60000..<80000], whole[45600...]).allSatisfy { abs($0 - $1) < 1e-4 })
    }
  }

  /// Timestamps in milliseconds jitter by half of one, even if the file was copied to a container
  /// with finer ones.
  @Test func roundedStampsLeaveNoSeams() throws {
    let folder = try TemporaryFolder()
    let tones = ["-f", "lavfi", "-i", "sine=440:sample_rate=44100:duration=4"]
    try ffmpeg(tones + ["-c:a", "pcm_s16le", "tone.wav"], in: folder)
    try ffmpeg(["-i", "tone.wav", "-c:a", "flac", "-frame_size", "1152", "a.mkv"], in: folder)
    try ffmpeg(["-i", "a.mkv", "-c", "copy", "-strict", "-2", "b.mp4"], in: folder)
    let source = try AudioClip.read(path: folder.file("tone.wav"))
    for name in ["a.mkv", "b.mp4"] {
      #expect(try AudioClip.read(path: folder.file(name)) == source, "\(name)")
    }
  }

  /// A clock that runs 0.2 % fast is followed without a seam, and reported.
  @Test func driftIsFollowed() throws {
    let folder = try TemporaryFolder()
    // Pulses of 4 ms every half second, and a tone.
    let pulses = (0..<(8 * Self.rate)).map { i -> Float in
      let place = i % (Self.rate / 2)
      return place < 192 ? 0.8 * Float(sin(.pi * Double(place) / 192)) : 0
    }
    let tone = (0..<pulses.count).map {
      0.4 * Float(sin(2 * .pi * 440 * Double($0) / Double(Self.rate)))
    }
    try WAVWriter.write([pulses, tone], sampleRate: Self.rate, to: folder.file("long.wav"))
    try ffmpeg(["-i", "long.wav", "-c:a", "flac", "-frame_size", "960", "a.mkv"], in: folder)
    try ffmpeg(["-i", "a.mkv", "-c", "copy", "-bsf:a", "setts=ts=PTS*1.002", "b.mkv"], in: folder)
    let reader = try AudioReader(path: folder.file("b.mkv"), channels: .stereo)
    let placed = try PlacedAudio(AudioTimeline(reader), from: .file(plus: 0), count: nil)
    #expect(placed.notes.count == 1 && placed.notes[0].contains("drifts"), "\(placed.notes)")
    for index in stride(from: 1, through: 15, by: 2) {
      let wanted = Int(1.002 * Double(index * Self.rate / 2 + 96))
      let part = placed.channels[0][(wanted - 4000)..<(wanted + 4000)]
      let found = part.indices.max { part[$0] < part[$1] } ?? 0
      #expect(abs(found - wanted) <= 60, "off by \(found - wanted) at pulse \(index)")
    }
    // No step is larger than the tone's own.
    let found = placed.channels[1].dropLast(2000)
    let steps = zip(found, found.dropFirst()).map { abs($0 - $1) }
    let usual = zip(tone, tone.dropFirst()).map { abs($0 - $1) }.max() ?? 0
    #expect((steps.max() ?? 1) < 1.02 * usual)
  }

  /// Edit lists: a late start, and a beginning that is skipped.
  @Test func editListsAreFollowed() throws {
    let folder = try TemporaryFolder()
    try Self.make("a.mp4", "aac", in: folder)
    try ffmpeg(
      [
        "-i", "a.mp4", "-itsoffset", "0.25", "-i", "a.mp4", "-map", "0:v", "-map", "1:a", "-c",
        "copy",
        "late.mp4",
      ],
      in: folder)
    let source = Self.sweep(2)
    let late = try AudioClip.read(path: folder.file("late.mp4")).channels[0]
    #expect(late[..<10900].allSatisfy { $0 == 0 })
    #expect(abs(Self.lag(late, source, from: 24000, count: 4800, near: 12000) - 12000) <= 48)
    try ffmpeg(
      [
        "-i", "a.mp4", "-itsoffset", "-0.25", "-i", "a.mp4", "-map", "0:v", "-map", "1:a", "-c",
        "copy",
        "early.mp4",
      ],
      in: folder)
    let early = try AudioClip.read(path: folder.file("early.mp4")).channels[0]
    #expect(abs(Self.lag(early, source, from: 24000, count: 4800, near: -12000) + 12000) <= 48)
  }

  /// The clock of a transport stream restarts from 0 after 26.5 hours.
  @Test func aClockThatWrapsAroundContinues() throws {
    let folder = try TemporaryFolder()
    try Self.make("a.ts", "aac", in: folder, ["-output_ts_offset", "95442.2"])
    let placed = try PlacedAudio(
      AudioTimeline(AudioReader(path: folder.file("a.ts"), channels: .stereo)),
      from: .file(plus: 0),
      count: nil)
    #expect(placed.notes.isEmpty, "\(placed.notes)")
    #expect(abs(Self.lag(placed.channels[0], Self.sweep(2), from: 60000, count: 4800)) <= 48)
    try ffmpeg(
      ["-i", "sweep.wav", "-c:a", "aac", "-output_ts_offset", "95442.2", "b.ts"], in: folder)
    let alone = try AudioClip.read(path: folder.file("b.ts")).channels[0]
    #expect(abs(alone.count - 96000) <= 3072, "\(alone.count)")
  }

  @Test func rateAndChannelsMayChange() throws {
    let folder = try TemporaryFolder()
    let source = Self.sweep(2)
    try WAVWriter.write([source], sampleRate: Self.rate, to: folder.file("sweep.wav"))
    try ffmpeg(["-i", "sweep.wav", "-t", "1", "-c:a", "mp2", "a.ts"], in: folder)
    try ffmpeg(
      [
        "-ss", "1", "-i", "sweep.wav", "-ar", "44100", "-ac", "2", "-c:a", "mp2",
        "-output_ts_offset", "1",
        "b.ts",
      ], in: folder)
    let data = try ["a.ts", "b.ts"].map {
      try Data(contentsOf: URL(fileURLWithPath: folder.file($0)))
    }
    try (data[0] + data[1]).write(to: URL(fileURLWithPath: folder.file("ab.ts")))
    let audio = try DecodedAudio.placed(path: folder.file("ab.ts"), from: nil, seconds: nil)
    #expect(audio.sampleRate == Self.rate && audio.channels.count == 1)
    #expect(
      audio.notes.contains {
        $0.hasPrefix("its audio changes its format at ")
          && $0.contains("(48000 Hz with 1 channel to ")
          && $0.hasSuffix(" with 2 channels), and was converted to that of its beginning")
      }, "\(audio.notes)")
    // The first file begins with its encoder's delay; the second has it before time zero.
    for (start, delay) in [(24000, 481), (72000, 0)] {
      let lag = Self.lag(audio.channels[0], source, from: start, count: 2400, near: delay)
      #expect(abs(lag - delay) <= 48, "off by \(lag - delay)")
    }
    #expect(
      mediaError { _ = try DecodedAudio.read(path: folder.file("ab.ts"), maximumSeconds: nil) }?
        .kind
        == .decoding)
  }

  /// `ffmpeg` marks the beginning as one frame at 0 without a length.
  @Test func theFirstBlockWithoutALengthIsNoPriming() throws {
    let folder = try TemporaryFolder()
    try Self.make("a.mkv", "wavpack", in: folder)
    let audio = try DecodedAudio.placed(path: folder.file("a.mkv"), from: 0, seconds: 1)
    #expect(audio.notes.isEmpty && audio.startSeconds == 0)
    #expect(zip(audio.channels[0], Self.sweep(1)).allSatisfy { abs($0 - $1) < 1e-4 })
  }
}
