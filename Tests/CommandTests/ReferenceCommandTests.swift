import Foundation
import Testing

/// `ltx reference`, run as a user runs it.
@Suite struct ReferenceCommandTests {
  private let shop: Workshop

  init() throws {
    shop = try Workshop()
    let clips = try Clips.all()
    try FileManager.default.copyItem(atPath: clips[3], toPath: shop.path + "/a.mp4")
  }

  @Test func bothFormsAndTheStatus() throws {
    try shop.write("data.json", "[\n  {\n    \"video\": \"a.mp4\"\n  }\n]\n")
    let official = try Program.run(["reference", ".", "-o", "data.json"], in: shop.path)
    #expect(official.status == 0, "\(official.errors)")
    #expect(official.output == "1 clip: 1 reference made, 0 up to date; 0 rows failed\n")
    let wanted = [
      "[", "  {", "    \"video\": \"a.mp4\",", "    \"reference_video\": \"a_reference.mp4\"",
      "  }", "]",
    ]
    #expect(try shop.lines("data.json") == wanted)

    let again = try Program.run(["reference", "data.json", "--type", "canny"], in: shop.path)
    #expect(again.status == 0 && again.output.contains("1 up to date"))
    let gray = try Program.run(
      ["reference", "data.json", "--type", "grayscale", "--override"], in: shop.path)
    #expect(gray.status == 0 && gray.output.contains("1 reference made"))

    try shop.write("bad.csv", "video,caption\na.mp4,x\nno.mp4,y\n")
    let bad = try Program.run(
      ["reference", "bad.csv", "--command", "false {input} {output}", "--suffix", "_x"],
      in: shop.path)
    #expect(bad.status == 1)
    #expect(bad.errors.contains("error: bad.csv:2: a.mp4: false ended with status 1\n"))
    #expect(bad.errors.contains("error: bad.csv:3: no.mp4: no such file. Check the path.\n"))
    #expect(bad.output == "2 clips: 0 references made, 0 up to date; 2 rows failed\n")
    #expect(try shop.lines("bad.csv") == ["video,caption", "a.mp4,x", "no.mp4,y"])
  }

  @Test(arguments: [
    (["no.json"], "does not exist"), (["."], "Name the dataset file"),
    (["data.json", "--blur-sigma", "2"], "--type blur"),
    (["data.json", "--type", "command"], "--command"),
    (["data.json", "--low-threshold", "300"], "thresholds"),
    (["data.json", "--type", "downscale", "--downscale-factor", "1"], "between 2 and 64"),
    (["data.json", "--type", "blur", "--blur-sigma", "0"], "between 0.1 and 256"),
    (["data.json", "--type", "x"], "--type"),
    (["data.json", "--command", "x"], "{input}"),
    (["data.json", "--video-column", "film"], "film"),
  ])
  func invalidArgumentsAreRefused(arguments: [String], words: String) throws {
    try shop.write("data.json", "[{\"video\": \"a.mp4\"}]")
    let result = try Program.run(["reference"] + arguments, in: shop.path)
    #expect(result.status == 2)
    #expect(result.errors.contains(words), "\(result.errors)")
    #expect(!FileManager.default.fileExists(atPath: shop.path + "/a_reference.mp4"))
  }
}
