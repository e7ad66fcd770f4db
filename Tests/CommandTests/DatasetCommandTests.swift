import Foundation
import LTX
import Testing

/// `ltx dataset` and `ltx decode` on a cache that `ltx preprocess` created from a real clip.
@Suite struct DatasetCommandTests {
  @Test func checksCountsShowsAndDecodes() throws {
    let workshop = try Workshop()
    func run(_ arguments: [String], _ status: Int32) throws -> Program.Result {
      let result = try Program.run(arguments, in: workshop.path)
      #expect(result.status == status, "\(arguments): \(result.output)\(result.errors)")
      return result
    }
    _ = try run(["tiny-model", "model", "--seed", "3"], 0)
    let (model, textEncoder) = (
      "model/\(TinyModel.checkpointName)", "model/\(TinyModel.textEncoderName)"
    )
    for clip in try Clips.all().prefix(2) {
      let name = (clip as NSString).lastPathComponent
      try FileManager.default.copyItem(
        at: URL(fileURLWithPath: clip).resolvingSymlinksInPath(),
        to: URL(fileURLWithPath: "\(workshop.path)/\(name)"))
    }
    try workshop.write(
      "dataset.csv", "video,caption\nbigbuckbunny.mp4,a rabbit\nbikes.mp4,bicycles\n")
    _ = try run(
      [
        "preprocess", "dataset.csv", "--resolution-buckets", "64x64x9", "--model-path", model,
        "--text-encoder-path", textEncoder, "--skip-audio",
      ], 0)

    let whole = try run(
      ["dataset", "check", ".", "--model-path", model, "--text-encoder-path", textEncoder], 0)
    #expect(whole.output == "2 samples, 4 files: no problems found\n")
    #expect(whole.errors.contains("dataset.csv"))
    let counted = try run(["dataset", "stats", ".", "--json", "stats.json"], 0)
    #expect(counted.output.contains("buckets      64x64x9: 2\n"))
    #expect(counted.output.contains("LUFS"))
    let shown = try run(["dataset", "preview", ".", "-o", "page.html"], 0)
    #expect(shown.output == "2 clips, 0 problems: page.html\n")
    let page = try String(contentsOfFile: "\(workshop.path)/page.html", encoding: .utf8)
    #expect(page.components(separatedBy: "data:image/jpeg").count == 9)
    #expect(page.components(separatedBy: "<svg").count == 2, "one of the clips has audio")

    _ = try run(["decode", ".precomputed/latents", "seen", "--model-path", model], 0)
    for name in ["bigbuckbunny.mp4", "bikes.mp4"] {
      #expect(FileManager.default.fileExists(atPath: "\(workshop.path)/seen/\(name)"))
    }

    try workshop.write(
      "dataset.csv", "video,caption\nbigbuckbunny.mp4,a white rabbit\nbikes.mp4,bicycles\n")
    try workshop.write(".precomputed/latents/bikes.safetensors", "damaged")
    let found = try run(["dataset", "check", ".", "--json", "found.json"], 1)
    #expect(found.output.hasSuffix("2 samples, 4 files: 2 problems\n"), "\(found.output)")
    let json = try #require(
      JSONSerialization.jsonObject(
        with: Data(contentsOf: URL(fileURLWithPath: "\(workshop.path)/found.json")))
        as? [String: Any])
    let problems = try #require(json["problems"] as? [[String: Any]])
    #expect(problems.map { $0["kind"] as? String } == ["unreadable", "caption"])
    #expect(problems.map { $0["line"] as? Int } == [3, 2])
    let partly = try run(["decode", ".precomputed/latents", "again", "--model-path", model], 1)
    #expect(partly.errors.contains("latents/bikes.safetensors: "))
    #expect(partly.output == "1 of 2 files decoded into again\n")

    for (arguments, message) in [
      (["dataset", "check", "nowhere"], "does not exist"),
      (["dataset", "check", ".", "--dataset", "none.json"], "does not exist"),
      (["dataset", "check", ".", "--json", "nowhere/x.json"], "does not exist"),
      (["dataset", "check", ".", "--json", "dataset.csv"], "is the input"),
      (["dataset", "check", ".", "--json", model, "--model-path", model], "is the input"),
      (["dataset", "stats", ".", "--json", "bikes.mp4"], "is the input"),
      (
        ["dataset", "preview", ".", "-o", ".precomputed/conditions/bikes.safetensors"],
        "is the input"
      ),
      (["dataset", "preview", "--dataset", "dataset.csv", "-o", "dataset.csv"], "is the input"),
      (["dataset", "preview", "-o", "x.html"], "nothing to show"),
      (["decode", "nowhere", "x", "--model-path", model], "does not exist"),
      (["decode", ".precomputed/latents", "x"], "the model is missing"),
      (["decode", ".precomputed/latents", "dataset.csv", "--model-path", model], "is a file"),
    ] {
      let result = try run(arguments, 2)
      #expect(result.errors.contains(message), "\(arguments): \(result.errors)")
    }
    #expect(try workshop.lines("dataset.csv").count == 3)
    // Another dataset isn't overwritten either, but an earlier report is.
    try workshop.write("other.csv", "video,caption\nelse.mp4,of something else\n")
    #expect(
      try run(["dataset", "check", ".", "--json", "other.csv"], 2).errors.contains("is the input"))
    _ = try run(["dataset", "check", ".", "--json", "found.json"], 1)
  }
}
