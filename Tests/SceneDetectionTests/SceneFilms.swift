import Foundation
import MediaTestSupport
import Testing

@testable import Media
@testable import SceneDetection

/// Films assembled from real clips, and the results of PyPI's scenedetect for them:
/// Tests/Oracles/scenes.py.
struct SceneFilms: Decodable {
  struct Film: Decodable {
    let name: String
    /// The arguments of `ffmpeg`, without the output.
    let command: String
    let md5: String
    let cases: [Case]
  }
  struct Case: Decodable {
    let options: [String]
    let scenes: [[Int]]
    let statistics: String?

    func value(_ option: String) -> String? {
      options.firstIndex(of: option).map { options[$0 + 1] }
    }

    func detector() throws -> any SceneDetector {
      let kind = try #require(DetectorOptions.Kind(rawValue: value("--detector") ?? "content"))
      return try DetectorOptions(
        kind, threshold: value("--threshold").flatMap(Double.init),
        minimumSceneLength: value("--min-scene-length").flatMap { Int($0) },
        lumaOnly: options.contains("--luma-only"),
        adaptiveWindow: value("--adaptive-window").flatMap { Int($0) },
        fadeBias: value("--fade-bias").flatMap(Double.init)
      ).makeDetector()
    }

    func splitter() throws -> SceneSplitter {
      var splitter = SceneSplitter()
      splitter.output = .none
      splitter.downscale = value("--downscale").flatMap { Int($0) }
      splitter.frameSkip = value("--frame-skip").flatMap { Int($0) } ?? 0
      splitter.range.duration = try value("--duration").map(SceneLength.init)
      return splitter
    }
  }

  let films: [Film]

  static func read() throws -> [Film] {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent()
    let data = try Data(contentsOf: tests.appendingPathComponent("Fixtures/scenes.json"))
    return try JSONDecoder().decode(SceneFilms.self, from: data).films
  }

  static let clips = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent(".deps/media").path

  /// Creates a film, and checks that it is the one that was measured.
  static func make(_ film: Film, in folder: TemporaryFolder) throws -> String {
    let path = folder.file(film.name + ".mkv")
    try ffmpeg(film.command.split(separator: " ").map(String.init) + [path], in: clips)
    let md5 = try ffmpeg(["-i", path, "-f", "md5", "-"], in: folder.path)
    #expect(md5 == film.md5, "this FFmpeg makes other pixels of the film \(film.name)")
    return path
  }
}
