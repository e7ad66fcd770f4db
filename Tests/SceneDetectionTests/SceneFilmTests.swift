import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

@Suite struct SceneFilmTests {
  /// Hard cuts, fades and dissolves, with all detectors and many options: the frames are equal.
  @Test(arguments: ["cuts", "fades", "dissolves", "large"])
  func scenesAreScenedetects(name: String) throws {
    let folder = try TemporaryFolder()
    let film = try #require(SceneFilms.read().first { $0.name == name })
    let path = try SceneFilms.make(film, in: folder)
    #expect(film.cases.count == 13)
    for (i, one) in film.cases.enumerated() {
      let result = try one.splitter().split(path, into: folder.file("\(i)"), by: one.detector())
      #expect(result.scenes.map { [$0.scene.start, $0.scene.end] } == one.scenes, "\(one.options)")
      #expect(result.scenes.allSatisfy { $0.file == nil })
    }
  }

  /// Tables are equal byte for byte, except that correlations may differ in the last digits because
  /// their sums are computed in another order.
  @Test(arguments: [("cuts", 2), ("fades", 2), ("large", 1)])
  func statisticsAreScenedetects(name: String, count: Int) throws {
    let folder = try TemporaryFolder()
    let film = try #require(SceneFilms.read().first { $0.name == name })
    let path = try SceneFilms.make(film, in: folder)
    let measured = film.cases.filter { $0.statistics != nil }
    #expect(measured.count == count)
    for one in measured {
      var splitter = try one.splitter()
      splitter.statisticsFile = folder.file("table.csv")
      _ = try splitter.split(path, into: folder.file("out"), by: one.detector())
      let table = try String(contentsOfFile: folder.file("table.csv"), encoding: .utf8)
      if one.value("--detector") == "histogram" {
        #expect(rounded(table) == rounded(one.statistics ?? ""))
      } else {
        #expect(table == one.statistics, "\(one.options)")
      }
    }
  }

  /// Rounds numbers to eleven places.
  private func rounded(_ table: String) -> [String] {
    table.split(separator: "\n").map { line in
      line.split(separator: ",").map { field in
        field.contains(":")
          ? String(field) : Double(field).map { String(format: "%.11f", $0) } ?? String(field)
      }.joined(separator: ",")
    }
  }

  /// Rows converted in pairs equal those of the complete frame.
  @Test func packedRowsGiveTheSameImages() throws {
    let folder = try TemporaryFolder()
    let film = try #require(SceneFilms.read().first { $0.name == "large" })
    let path = try SceneFilms.make(film, in: folder)
    let (decoded, plain) = (try VideoReader(path: path), try VideoReader(path: path))
    for factor in [nil, 2, 7] {
      let maker = try DetectionFrameMaker(for: decoded, factor: factor)
      let shrinker = FrameShrinker(width: plain.width, height: plain.height, factor: factor)
      for index in 0..<10 {
        let (frame, _) = try #require(try decoded.nextDecoded())
        let whole = try #require(try plain.next())
        #expect(try maker.make(frame, index: index).bytes == shrinker.shrink(whole).bytes)
      }
    }
  }

  /// Frames that are passed on while others are held are final. Scenes are written in one pass or,
  /// if there is no room to hold frames, in two.
  @Test(arguments: ["content", "adaptive", "threshold", "histogram"])
  func onePassAndTwoWriteTheSameScenes(kind: String) throws {
    let folder = try TemporaryFolder()
    let film = try #require(SceneFilms.read().first { $0.name == "fades" })
    let path = try SceneFilms.make(film, in: folder)
    let detector = try DetectorOptions(try #require(.init(rawValue: kind))).makeDetector()
    var contents: [[RGBFrame]] = []
    for limit in [256 << 20, 100_000] {
      var splitter = SceneSplitter()
      splitter.heldLimit = limit
      splitter.quality = .init(crf: 4, preset: "ultrafast")
      var phases: Set<String> = []
      let out = folder.file("out\(limit)")
      let result = try splitter.split(path, into: out, by: detector) {
        phases.insert("\($0.phase)")
      }
      // One frame is 28800 bytes; a histogram detector never holds frames.
      let holds = kind == "threshold" || kind == "content"
      #expect(
        phases.contains("writing") == (limit == 100_000 && holds), "\(kind) \(limit) \(phases)")
      var frames: [RGBFrame] = []
      for scene in result.scenes {
        let read = try readAll(out + "/" + (try #require(scene.file))).frames
        #expect(read.count == scene.scene.length)
        frames += read
      }
      #expect(result.scenes.count > 1)
      contents.append(frames)
    }
    #expect(contents[0].count == 215 && contents[1].count == 215)
    // The encoder's threads cause small differences between runs; a different frame would differ
    // far more.
    for (one, other) in zip(contents[0], contents[1]) { #expect(psnr(one, other) > 38) }
  }

  /// A cut is never placed before frames that a detector called settled.
  @Test func detectorsKeepWhatTheySayIsSettled() throws {
    var seed: UInt64 = 5
    func random(_ bound: UInt64) -> Int {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int((seed >> 33) % bound)
    }
    var cuts = 0
    for round in 0..<40 {
      let kind = DetectorOptions.Kind.allCases[round % 4]
      var detector = try DetectorOptions(
        kind, minimumSceneLength: random(9),
        adaptiveWindow: kind == .adaptive ? 1 + random(4) : nil,
        fadeBias: kind == .threshold ? Double(random(9)) / 4 - 1 : nil
      ).makeDetector()
      var settled = 0
      var shade: UInt8 = 90
      for step in 0..<300 {
        if random(6) == 0 { shade = random(3) == 0 ? 0 : UInt8(random(256)) }
        let index = 3 * step
        let frame = DetectionFrame(
          index: index, width: 2, height: 2, bytes: Array(repeating: shade, count: 12))
        for cut in detector.process(frame) {
          #expect(cut >= settled && cut <= index, "\(kind)")
          cuts += 1
        }
        let open = detector.firstOpenFrame(next: index + 3)
        #expect(open >= settled && open <= index + 3, "\(kind)")
        settled = open
      }
    }
    #expect(cuts > 100)
  }
}
