import Support
import Testing

/// A problem as a value, and the tables that name its subject.
@Suite struct IssueTests {
  typealias Problem = Support.Issue

  @Test(
    arguments: [
      ([], "is missing", nil, "is missing"),
      (["width"], "must be positive (got 0)", nil, "width: must be positive (got 0)"),
      (
        ["conditions", 1, "mask", .file("m.png")], "is empty", "Choose another file.",
        "conditions[1].mask: m.png: is empty. Choose another file."
      ),
      (
        [.file("a.safetensors"), "blocks", 0, "weight"], "is missing", nil,
        "a.safetensors: blocks[0].weight: is missing"
      ),
      ([.file("a"), .file("b")], "differ", nil, "a: b: differ"),
    ] as [([Problem.PathComponent], String, String?, String)])
  func description(
    subject: [Problem.PathComponent], problem: String, suggestion: String?, expected: String
  ) {
    #expect("\(Problem(subject, problem, suggestion: suggestion))" == expected)
  }

  @Test func anIssueBelongsToALargerSubject() throws {
    let inner = Problem(["mask"], "is empty", suggestion: "Draw one.")
    let outer = Problem(["conditions", 3, "mask"], "is empty", suggestion: "Draw one.")
    #expect(inner.within("conditions", 3) == outer)
    #expect(throws: outer) { try Problem.within("conditions", 3) { throw inner } }
    #expect(try Problem.within("conditions") { 7 } == 7)
    // Other errors have no subject.
    struct Other: Error {}
    #expect(throws: Other.self) { try Problem.within("conditions") { throw Other() } }
  }

  @Test func theFirstFileIsTheFile() {
    #expect(Problem(["a", .file("x"), .file("y")], "").file == "x")
    #expect(Problem(["a", 1], "").file == nil)
  }

  @Test func linesFollowTheirFile() {
    let row = Problem([.file("data.csv"), .line(3), .file("a.mp4"), "repeats"], "must be positive")
    #expect("\(row)" == "data.csv:3: a.mp4: repeats: must be positive")
    #expect(row.line == 3)
    #expect("\(row.withoutLine)" == "data.csv: a.mp4: repeats: must be positive")
    #expect("\(Problem([.line(3), "caption"], "is empty"))" == "line 3: caption: is empty")
    #expect(Problem(["a"], "").line == nil)
  }

  @Test func severalIssuesAreLines() {
    let issues = Issues([Problem(["a"], "is missing"), Problem(["b"], "is empty")])
    #expect("\(issues)" == "a: is missing\nb: is empty")
    #expect(SubjectTable([["b"]: "--beta"]).describe(issues) == "a: is missing\n--beta: is empty")
  }

  @Test func theLongestEntryNamesASubject() {
    let table: SubjectTable = [
      ["conditions", 0]: "--condition",
      ["conditions", 1]: "--image",
      ["conditions", 1, "mask"]: "--mask",
      ["guidance", "video", "cfg"]: "--video-cfg-scale",
    ]
    #expect(table.name(of: ["guidance", "video", "cfg"]) == "--video-cfg-scale")
    #expect(table.name(of: ["guidance", "video"]) == nil)
    #expect(table.name(of: []) == nil)
    #expect(table.name(of: ["conditions", 1, .file("a.png")]) == "--image: a.png")
    #expect(table.name(of: ["conditions", 1, "mask", .file("m.png")]) == "--mask: m.png")
    // A position without its own entry.
    #expect(table.name(of: ["conditions", 7, "strength"]) == "--condition: strength")
    #expect(
      table.describe(Problem(["guidance", "video", "cfg"], "must be finite (got nan)"))
        == "--video-cfg-scale: must be finite (got nan)")
    #expect(table.describe(Problem(["other"], "is missing")) == "other: is missing")
    struct Other: Error {}
    #expect(table.describe(Other()) == nil)
  }

  @Test func textsNameSubjectsInBackticks() {
    let table: SubjectTable = [["audioTrack"]: "--audio-track", ["samples", 0]: "samples[0]"]
    #expect(
      table.translate("choose another with `audioTrack`") == "choose another with --audio-track")
    #expect(table.translate("`samples[0]` and `audioTrack`") == "samples[0] and --audio-track")
    for text in ["run `ltx decode`", "audioTrack", "a`audioTrack", "``", "`"] {
      #expect(table.translate(text) == text)
    }
    let issue = Problem([.file("a.mkv")], "has no track 4", suggestion: "Change `audioTrack`.")
    #expect(issue.description == "a.mkv: has no track 4. Change `audioTrack`.")
    #expect(table.describe(issue) == "a.mkv: has no track 4. Change --audio-track.")
    #expect(table.describe(Problem("Change `audioTrack`")) == "Change --audio-track")
  }

  @Test func entriesOfTheMergedTableWin() {
    var table: SubjectTable = [["a"]: "--a", ["b"]: "--b"]
    table["b", 0] = "--first"
    let merged = table.merging([["a"]: "--alpha"])
    #expect(merged["a"] == "--alpha")
    #expect(merged["b"] == "--b")
    #expect(merged.name(of: ["b", 5]) == "--first")
  }
}
