import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

/// Whatever the input of a split, the folder contains complete scenes or nothing.
@Suite struct SceneBadInputTests {
  private func expectNothing(
    _ path: String, _ folder: TemporaryFolder, _ kinds: [MediaError.Kind],
    _ location: SourceLocation = #_sourceLocation
  ) throws {
    for output in [SceneSplitter.Output.encoded, .copied, .none] {
      var splitter = SceneSplitter()
      splitter.output = output
      splitter.imagesPerScene = 1
      splitter.statisticsFile = folder.file("stats.csv")
      let error = mediaError { _ = try splitter.split(path, into: folder.file("out")) }
      #expect(
        error.map { kinds.contains($0.kind) } == true, "\(String(describing: error))",
        sourceLocation: location)
      #expect(error?.remedy.isEmpty == false, sourceLocation: location)
      let left = try folder.contents().filter {
        $0.hasSuffix(".partial") || ["out", "stats.csv"].contains($0)
      }
      #expect(left.isEmpty, "\(left)", sourceLocation: location)
    }
  }

  @Test func filesThatAreNotVideosLeaveNoOutput() throws {
    let folder = try TemporaryFolder()
    for (name, text) in [
      ("empty.mp4", ""), ("words.mp4", "no film at all\n"),
      ("zeros.mkv", String(repeating: "\0", count: 4096)),
    ] {
      try Data(text.utf8).write(to: URL(fileURLWithPath: folder.file(name)))
      try expectNothing(folder.file(name), folder, [.notMedia, .noStream, .decoding])
    }
    try ffmpeg(["-f", "lavfi", "-i", "sine=d=1", folder.file("sound.m4a")], in: folder.path)
    try expectNothing(folder.file("sound.m4a"), folder, [.noStream])
    // A video track without frames.
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "color=size=64x64:duration=1", "-frames:v", "0", "-c:v", "ffv1",
        folder.file("none.mkv"),
      ],
      in: folder.path)
    try expectNothing(folder.file("none.mkv"), folder, [.decoding, .notMedia, .noStream])
  }

  @Test(arguments: [100, 700, 2000])
  func aTruncatedFileIsRefusedOrSplitWithAWarning(kept: Int) throws {
    let folder = try TemporaryFolder()
    let whole = try write(
      scenes([20, 20, 20], width: 96, height: 96), to: folder.file("whole.mp4"))
    let data = try Data(contentsOf: URL(fileURLWithPath: whole))
    let path = folder.file("cut.mp4")
    try data.prefix(kept == 2000 ? data.count * 3 / 4 : kept).write(to: URL(fileURLWithPath: path))
    guard kept == 2000 else {
      return try expectNothing(path, folder, [.notMedia, .decoding, .noStream])
    }
    let result = try SceneSplitter().split(path, into: folder.file("out"))
    guard case .damaged = result.ending else { return #expect(Bool(false), "not told") }
    #expect(result.frameCount < 60 && result.scenes.last?.scene.end == result.frameCount)
    for scene in result.scenes {
      let file = folder.file("out/" + (try #require(scene.file)))
      #expect(try VideoReader.countFrames(path: file) == scene.scene.length)
    }
  }

  /// With random bytes in the headers, a split ends with scenes or an error.
  @Test func scrambledFilesDoNotCrash() throws {
    let folder = try TemporaryFolder()
    let whole = try write(
      scenes([6, 6]), to: folder.file("clip.mp4"), audio: .init(sampleRate: 16000, channelCount: 1))
    try ffmpeg(["-i", whole, "-c", "copy", folder.file("clip.mkv")], in: folder.path)
    var state: UInt64 = 4
    var outcomes = 0
    for round in 0..<60 {
      let kind = round % 2 == 0 ? "mp4" : "mkv"
      var broken = try Data(contentsOf: URL(fileURLWithPath: folder.file("clip." + kind)))
      for _ in 0..<6 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let reach = kind == "mp4" ? min(broken.count, 2500) : broken.count
        broken[Int(state >> 33) % reach] = UInt8(truncatingIfNeeded: state >> 20)
      }
      let path = folder.file("broken." + kind)
      try broken.write(to: URL(fileURLWithPath: path))
      var splitter = SceneSplitter()
      splitter.output = round % 4 < 2 ? .copied : .encoded
      splitter.statisticsFile = folder.file("stats.csv")
      do {
        let result = try splitter.split(
          path, into: folder.file("out"), by: ContentDetector(minimumSceneLength: 2))
        #expect(!result.scenes.isEmpty)
      } catch let error as MediaError {
        #expect(!error.what.isEmpty && !error.remedy.isEmpty)
      }
      outcomes += 1
      #expect(try folder.contents().allSatisfy { !$0.hasSuffix(".partial") })
    }
    #expect(outcomes == 60)
  }

  @Test func oneFrameIsOneScene() throws {
    let folder = try TemporaryFolder()
    let path = try write(scenes([1]), to: folder.file("film.mp4"))
    for kind in DetectorOptions.Kind.allCases {
      var splitter = SceneSplitter()
      splitter.imagesPerScene = 2
      splitter.statisticsFile = folder.file("stats.csv")
      let result = try splitter.split(
        path, into: folder.file("out"), by: DetectorOptions(kind).makeDetector())
      #expect(result.scenes.map(\.scene) == [Scene(start: 0, end: 1)])
      #expect(try VideoReader.countFrames(path: folder.file("out/film-Scene-001.mp4")) == 1)
    }
  }

  @Test func sizesThatCannotBeCodedAreRefused() throws {
    let folder = try TemporaryFolder()
    for size in ["1x40", "16400x2"] {
      let path = folder.file("odd\(size).mkv")
      try ffmpeg(
        [
          "-f", "lavfi", "-i", "color=size=\(size):rate=5:duration=1,format=yuv444p", "-c:v",
          "ffv1", path,
        ],
        in: folder.path)
      let error = mediaError { _ = try SceneSplitter().split(path, into: folder.file("out")) }
      #expect(
        error?.kind == .badOption && error?.file == path && error?.what.contains(size) == true)
      #expect(!FileManager.default.fileExists(atPath: folder.file("out")))
      // Detection alone works.
      var splitter = SceneSplitter()
      splitter.output = .none
      #expect(try splitter.split(path, into: folder.file("look")).scenes.count == 1)
    }
    // A video of an odd size loses its last row and column.
    let odd = folder.file("odd.mkv")
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=321x241:rate=10:duration=1,format=yuv420p10le", "-c:v",
        "ffv1",
        odd,
      ],
      in: folder.path)
    let result = try SceneSplitter().split(odd, into: folder.file("out"))
    let reader = try VideoReader(path: folder.file("out/odd-Scene-001.mp4"))
    #expect(reader.width == 320 && reader.height == 240)
    #expect(result.notes.map { $0.contains("odd row or column") } == [true, false])
    #expect(result.notes.last?.contains("10 bits") == true)
  }

  @Test func framesKeepTheirTimesWhereTheRateVaries() throws {
    let folder = try TemporaryFolder()
    let path = folder.file("film.mkv")
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc=size=64x64:rate=25:duration=2", "-vf",
        "select='not(eq(mod(n,3),1))'",
        "-vsync", "vfr", "-c:v", "libx264", path,
      ], in: folder.path)
    func times(_ path: String) throws -> [Double] { try readAll(path).frames.map(\.seconds) }
    let source = try times(path)
    _ = try SceneSplitter().split(path, into: folder.file("out"))
    let written = try times(folder.file("out/film-Scene-001.mp4"))
    #expect(source.count == written.count && source.count == 33)
    #expect(zip(source, written).allSatisfy { abs($0 - $1) < 0.002 })
  }

  /// A file system of 100 kB.
  @Test(.enabled(if: canMount)) func afullDiskLeavesNothing() throws {
    let folder = try TemporaryFolder()
    let disk = folder.file("disk")
    try FileManager.default.createDirectory(atPath: disk, withIntermediateDirectories: true)
    try #require(system("mount", ["-t", "tmpfs", "-o", "size=100k", "tmpfs", disk]) == 0)
    defer { #expect(system("umount", [disk]) == 0) }
    let path = folder.file("film.mkv")
    try ffmpeg(
      [
        "-f", "lavfi", "-i", "testsrc2=size=640x480:rate=25:duration=4,noise=alls=60:allf=t",
        "-c:v", "mpeg4",
        "-q:v", "2", path,
      ],
      in: folder.path)
    for output in [SceneSplitter.Output.encoded, .copied] {
      var splitter = SceneSplitter()
      splitter.output = output
      let error = mediaError { _ = try splitter.split(path, into: disk + "/out") }
      #expect(
        error?.kind == .writing && error?.remedy.isEmpty == false, "\(String(describing: error))")
      #expect(try FileManager.default.contentsOfDirectory(atPath: disk).isEmpty)
    }
    // Images and tables are never left incomplete either.
    var splitter = SceneSplitter()
    splitter.output = .none
    splitter.imagesPerScene = 9
    #expect(mediaError { _ = try splitter.split(path, into: disk + "/out") }?.kind == .writing)
    #expect(try FileManager.default.contentsOfDirectory(atPath: disk).isEmpty)
  }

  private static let canMount: Bool = {
    let trial = FileManager.default.temporaryDirectory.appendingPathComponent(
      "mount-\(UUID().uuidString)"
    )
    .path
    guard mkdir(trial, 0o700) == 0 else { return false }
    defer { rmdir(trial) }
    guard system("mount", ["-t", "tmpfs", "-o", "size=100k", "tmpfs", trial]) == 0 else {
      return false
    }
    return system("umount", [trial]) == 0
  }()

  @Test(.enabled(if: getuid() != 0)) func aFolderThatMayNotBeWrittenToIsRefused() throws {
    let folder = try TemporaryFolder()
    let path = try write(scenes([3]), to: folder.file("film.mp4"))
    let locked = folder.file("locked")
    try #require(mkdir(locked, 0o500) == 0)
    #expect(
      mediaError { _ = try SceneSplitter().split(path, into: locked + "/out") }?.kind == .writing)
  }

  /// A folder with the name of an output file, and a location that rejects even root.
  @Test func placesThatTakeNoFilesAreRefused() throws {
    let folder = try TemporaryFolder()
    let path = try write(scenes([20, 20]), to: folder.file("film.mp4"))
    #expect(mediaError { _ = try SceneSplitter().split(path, into: "/proc/out") }?.kind == .writing)
    let blocked = folder.file("out/film-Scene-002.mp4")
    try FileManager.default.createDirectory(atPath: blocked, withIntermediateDirectories: true)
    var splitter = SceneSplitter()
    splitter.statisticsFile = folder.file("stats.csv")
    #expect(mediaError { _ = try splitter.split(path, into: folder.file("out")) }?.kind == .writing)
    #expect(try folder.contents() == ["film.mp4", "out"])
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: folder.file("out")) == [
        "film-Scene-002.mp4"
      ])
  }
}

/// Runs a program without its output and returns its exit status; -1 if it can't be run.
private func system(_ program: String, _ arguments: [String]) -> Int32 {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = [program] + arguments
  process.standardOutput = FileHandle.nullDevice
  process.standardError = FileHandle.nullDevice
  do { try process.run() } catch { return -1 }
  process.waitUntilExit()
  return process.terminationStatus
}
