import DemoData
import Foundation
import Testing

/// `ltx demo-data`, run as a user runs it: exit statuses, messages, files.
@Suite struct DemoDataCommandTests {
  private func contents(_ path: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: path).sorted()
  }

  @Test func clipsAreWritten() throws {
    let workshop = try Workshop()
    let run = try Program.run(
      ["demo-data", "out", "--clips", "2", "--seed", "7", "--style", "snow"], in: workshop.path)
    #expect(run.status == 0, "\(run.errors)")
    #expect(
      run.output == "out/clips/\nout/dataset.json\nout/scenes.json\nout/held-out.json\n")
    #expect(try contents(workshop.path + "/out/clips") == ["0000.mp4", "0001.mp4"])
    let scenes = try DemoDataset.readScenes(path: workshop.path + "/out/scenes.json")
    #expect(scenes == DemoWorld(seed: 7, style: .snow).scenes(0..<2))
    // Nothing else remains in the folder above.
    #expect(try contents(workshop.path) == ["out"])
  }

  /// The scenes of a film have the names in the list of captions, in every style.
  @Test(arguments: DemoScene.Style.allCases)
  func aFilmIsSplitIntoItsClips(style: DemoScene.Style) throws {
    let workshop = try Workshop()
    let drawn = try Program.run(
      ["demo-data", "out", "--clips", "10", "--style", style.rawValue, "--held-out", "--film"],
      in: workshop.path)
    #expect(drawn.status == 0, "\(drawn.errors)")
    let split = try Program.run(["split", "out/film.mp4", "out/scenes"], in: workshop.path)
    #expect(split.status == 0, "\(split.errors)")
    #expect(split.output.hasSuffix("10 scenes from 250 frames\n"), "\(split.output)")
    let dataset = try DemoDataset(
      world: DemoWorld(seed: 42, style: style, part: .heldOut), clipCount: 10, layout: .film)
    let files = try contents(workshop.path + "/out/scenes").map { "scenes/\($0)" }
    #expect(Set(dataset.clips.map(\.mediaPath)).isSubset(of: files))
    let table = try workshop.lines("out/scenes/scenes.csv").dropFirst()
    #expect(
      table.map { $0.split(separator: ",")[1...2].joined(separator: "-") }
        == (0..<10).map { "\(25 * $0)-\(25 * ($0 + 1))" })
  }

  @Test func unusableInputEndsWithStatus2() throws {
    let workshop = try Workshop()
    try workshop.write("file", "")
    try FileManager.default.createDirectory(
      atPath: workshop.path + "/used/inner", withIntermediateDirectories: true)
    for (arguments, message) in [
      (["out", "--clips", "0"], "error: --clips: must be between 1 and 10000 (got 0)\n"),
      (
        ["out", "--clips", "300", "--film"],
        "error: --clips: must be between 1 and 200 for a film (got 300)\n"
      ),
      (["file"], "error: file: is a file; name a folder\n"),
      (["used"], "error: used: is not empty. Choose another folder.\n"),
    ] {
      let run = try Program.run(["demo-data"] + arguments, in: workshop.path)
      #expect(run.status == 2)
      #expect(run.errors == message)
    }
    let run = try Program.run(["demo-data", "out", "--style", "oil"], in: workshop.path)
    #expect(run.status == 2)
    #expect(run.errors.contains("plain"))
    #expect(try contents(workshop.path) == ["file", "used"])
  }
}
