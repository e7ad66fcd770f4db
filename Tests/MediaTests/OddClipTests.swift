import Foundation
import Media
import MediaTestSupport
import Testing

/// Clips from cameras, phones and converters other than plain H.264.
@Suite struct OddClipTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func make(
    _ name: String, size: String = "64x48", seconds: Double = 0.4, _ options: [String]
  ) throws {
    try ffmpeg(
      ["-f", "lavfi", "-i", "testsrc=size=\(size):rate=25:duration=\(seconds)"] + options + [name],
      in: folder
    )
  }

  @Test(arguments: [
    "a.mkv -c:v ffv1 -pix_fmt yuv420p", "a.webm -c:v libvpx-vp9 -pix_fmt yuv420p",
    "a.mp4 -c:v libx265 -crf 8 -x265-params log-level=none -pix_fmt yuv420p10le",
    "a.mov -c:v prores_ks",
    "a.avi -c:v mpeg4 -pix_fmt yuv420p", "a.avi -c:v mjpeg -pix_fmt yuvj422p",
    "a.mpg -c:v mpeg2video -pix_fmt yuv420p",
    "a.ts -c:v libx264 -pix_fmt yuv420p", "a.flv -c:v flv1 -pix_fmt yuv420p", "a.gif -c:v gif",
    "a.mkv -c:v ffv1 -pix_fmt gray10le",
    "a.mov -c:v rawvideo -pix_fmt uyvy422", "a.h264 -c:v libx264 -pix_fmt yuv420p",
  ])
  func everyContainerGivesItsFrames(line: String) throws {
    let words = line.split(separator: " ").map(String.init)
    try make(words[0], Array(words.dropFirst()))
    let reader = try VideoReader(path: folder.file(words[0]))
    var frames: [RGBFrame] = []
    while let frame = try reader.next() { frames.append(frame) }
    #expect(frames.count == 10 && reader.ending == .complete)
    #expect(reader.frameRate == Rational(25) && reader.pixelAspect == Rational(1))
    // A raw stream has no timestamps.
    for (index, frame) in frames.enumerated() {
      #expect(abs(frame.seconds - Double(index) / 25) < 1e-3)
    }
    try make("plain.mkv", ["-c:v", "ffv1", "-pix_fmt", "bgr0"])
    let plain = try readAll(folder.file("plain.mkv")).frames
    let isGray = line.contains("gray")
    for (a, b) in zip(frames, plain) { #expect(psnr(a, isGray ? b.grayscale() : b) > 17) }
  }

  @Test(arguments: [(1, 1), (2, 1), (3, 5), (33, 17), (65, 48), (64, 47)])
  func oddSizesAreKept(width: Int, height: Int) throws {
    try make("a.mkv", ["-vf", "scale=\(width):\(height)", "-c:v", "ffv1", "-pix_fmt", "yuv420p"])
    let (frames, ending) = try readAll(folder.file("a.mkv"))
    #expect(frames.count == 10 && ending == .complete)
    #expect(frames.allSatisfy { $0.width == width && $0.height == height })
  }

  /// The upright orientation is the one that FFmpeg's own program shows.
  @Test(arguments: [90, 180, 270]) func rotationTurnsFramesAndTheirPixels(degrees: Int) throws {
    try make("flat.mp4", ["-vf", "setsar=4/3", "-pix_fmt", "yuv420p"])
    try ffmpeg(
      ["-i", "flat.mp4", "-c", "copy", "-metadata:s:v:0", "rotate=\(degrees)", "turned.mp4"],
      in: folder)
    try ffmpeg(
      ["-i", "turned.mp4", "-c:v", "ffv1", "-pix_fmt", "yuv420p", "upright.mkv"], in: folder)
    let isUpsideDown = degrees == 180
    let reader = try VideoReader(path: folder.file("turned.mp4"))
    let aspect = isUpsideDown ? Rational(4, 3) : Rational(3, 4)
    #expect(reader.quarterTurns != 0 && reader.pixelAspect == aspect)
    let (frame, upright) = (
      try #require(try reader.next()), try readAll(folder.file("upright.mkv")).frames[0]
    )
    #expect(frame.width == (isUpsideDown ? 64 : 48) && frame.height == (isUpsideDown ? 48 : 64))
    #expect(psnr(frame, upright) > 40)
    let untouched = try VideoReader(path: folder.file("turned.mp4"), applyRotation: false)
    let flat = try readAll(folder.file("flat.mp4")).frames[0]
    #expect(untouched.width == 64 && untouched.pixelAspect == Rational(4, 3))
    let isUntouched = try untouched.next()?.bytes == flat.bytes
    #expect(isUntouched)
  }

  @Test func aVariableRateGivesItsTimes() throws {
    try make(
      "a.mp4",
      [
        "-vf", "settb=1/1000,setpts='N*40+gt(N,4)*400'", "-fps_mode", "passthrough",
        "-enc_time_base",
        "1/1000",
        "-pix_fmt", "yuv420p",
      ])
    let times = try readAll(folder.file("a.mp4")).frames.map(\.seconds)
    let wanted = (0..<10).map { 0.04 * Double($0) + ($0 > 4 ? 0.4 : 0) }
    #expect(times.count == 10)
    for (time, wanted) in zip(times, wanted) { #expect(abs(time - wanted) < 1e-3) }
  }

  @Test(arguments: ["60/1", "1/60", "0/1"]) func anAbsurdPixelAspectCountsAsNone(aspect: String)
    throws
  {
    try make("a.mkv", ["-vf", "setsar=\(aspect)", "-c:v", "ffv1"])
    #expect(try VideoReader(path: folder.file("a.mkv")).pixelAspect == Rational(1))
  }

  @Test func aSingleFrameIsAVideo() throws {
    try make("a.mp4", seconds: 0.04, ["-pix_fmt", "yuv420p"])
    let reader = try VideoReader(path: folder.file("a.mp4"))
    #expect(!reader.isImage && reader.frameCount == .declared(1))
    #expect(try reader.next() != nil)
    #expect(try reader.next() == nil)
    #expect(reader.ending == .complete)
  }

  @Test(arguments: [
    ("a.wav -c:a pcm_u8 -ar 8000 -ac 1", 8000, 1), ("a.mp3 -ar 44100 -ac 2", 44100, 2),
    ("a.flac -ar 96000 -ac 1", 96000, 1), ("a.opus -c:a libopus -ac 2", 48000, 2),
    ("a.ogg -ac 2", 44100, 2),
    ("a.m4a -c:a aac -ac 6", 44100, 6), ("a.ac3 -ac 6 -ar 48000", 48000, 6),
    ("a.wav -ac 8", 44100, 8),
    ("a.wav -c:a pcm_s24le -ac 3", 44100, 3), ("a.wav -c:a pcm_f64le -ar 11025 -ac 1", 11025, 1),
    ("a.ts -c:a aac -ac 1", 44100, 1), ("a.wma -c:a wmav2 -ac 2", 44100, 2),
  ])
  func everyLayoutAndRateOfAudioIsRead(line: String, rate: Int, channels: Int) throws {
    let words = line.split(separator: " ").map(String.init)
    try ffmpeg(
      ["-f", "lavfi", "-i", "sine=440:duration=1:sample_rate=44100"] + words.dropFirst() + [
        words[0]
      ],
      in: folder)
    let audio = try DecodedAudio.read(path: folder.file(words[0]), maximumSeconds: nil)
    #expect(audio.sampleRate == rate && audio.channels.count == channels && audio.damage == nil)
    // Up to a frame of padding, or one lost at the end.
    #expect(abs(audio.channels[0].count - rate) <= 2100)
    #expect(audio.channels.contains { $0.contains { abs($0) > 0.02 } })
    let stereo = audio.stereo()
    #expect(stereo.sampleCount == audio.channels[0].count)
    #expect(try AudioClip.read(path: folder.file(words[0])).channels.count == 2)
  }
}
