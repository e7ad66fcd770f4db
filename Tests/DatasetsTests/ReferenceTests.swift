import Foundation
import Media
import TestSupport
import Testing

@testable import Datasets

@Suite struct ReferenceTests {
  private let folder: ScratchFolder
  private let canny = ReferenceKind.filter(.edges(CannyEdges()))

  init() throws { folder = try ScratchFolder() }

  /// Frames of bars that move.
  private func writeClip(_ name: String, frames: Int = 4, shade: UInt8 = 200) throws {
    let path = folder.file(name)
    try FileManager.default.createDirectory(
      at: URL(fileURLWithPath: path).deletingLastPathComponent(), withIntermediateDirectories: true)
    let writer = try VideoWriter(
      path: path, width: 64, height: 48, frameRate: Rational(30000, 1001))
    for time in 0..<frames { try writer.append(bars(time, shade)) }
    try writer.finish()
  }

  private func bars(_ time: Int, _ shade: UInt8) -> RGBFrame {
    let bytes = (0..<(64 * 48)).flatMap { pixel -> [UInt8] in
      (pixel % 64 + 4 * time) / 16 % 2 == 0 ? [shade, shade, shade] : [20, 30, 40]
    }
    return RGBFrame(bytes: bytes, width: 64, height: 48)
  }

  /// The options of a run, with the column that it makes.
  private struct Options {
    var column: ReferenceColumn
    var options: DerivedColumnOptions

    func plan() throws -> DerivedColumnPlan { try DerivedColumnPlan(column, options) }
  }

  private func options(_ dataset: String, _ kind: ReferenceKind? = nil) -> Options {
    Options(
      column: ReferenceColumn(kind ?? canny),
      options: DerivedColumnOptions(dataset: folder.file(dataset)))
  }

  private func run(_ options: Options) throws -> DerivedColumnSummary {
    try DerivedColumnMaker(options.plan()).run()
  }

  private func text(_ name: String) throws -> String {
    String(decoding: try Data(contentsOf: URL(fileURLWithPath: folder.file(name))), as: UTF8.self)
  }

  private func readAll(_ name: String) throws -> [RGBFrame] {
    let reader = try VideoReader(path: folder.file(name))
    var frames: [RGBFrame] = []
    while let frame = try reader.next() { frames.append(frame) }
    return frames
  }

  @Test func everyGoodRowGetsItsReferenceAndBadOnesAreListed() throws {
    try writeClip("clips/a.mp4")
    try bars(0, 250).writePNG(to: folder.file("b.png"))
    try folder.write("no film", to: "c.mp4")
    let rows = [
      #"{"video": "clips/a.mp4", "caption": "x", "reference_path": "old.mp4"}"#,
      #"{"caption": "no clip"}"#, #"{"caption": "again", "video": " clips/a.mp4 "}"#,
      #"{"video": "b.png", "caption": "p", "reference_video": "old.png"}"#,
      #"{"video": "c.mp4", "caption": "bad"}"#, #"{"video": "d.mp4", "caption": "missing"}"#,
    ]
    try folder.write(rows.joined(separator: "\n") + "\n", to: "data.jsonl")
    let summary = try run(options("data.jsonl"))
    #expect(summary.made == 2 && summary.upToDate == 0 && summary.notes.isEmpty)
    #expect(summary.failures.map(\.line) == [2, 5, 6])
    for (failure, words) in zip(
      summary.failures, ["no media file", "c.mp4: ", "d.mp4: no such file"])
    {
      #expect(failure.description.hasPrefix(folder.file("data.jsonl") + ":"))
      #expect(failure.description.contains(words), "\(failure)")
    }
    let made = [
      #"{"video": "clips/a.mp4", "caption": "x", "reference_video": "clips/a_reference.mp4"}"#,
      rows[1],
      #"{"caption": "again", "video": " clips/a.mp4 ", "reference_video": "clips/a_reference.mp4"}"#,
      #"{"video": "b.png", "caption": "p", "reference_video": "b_reference.png"}"#, rows[4],
      rows[5],
    ]
    #expect(try text("data.jsonl") == made.joined(separator: "\n") + "\n")
    #expect(
      folder.files() == [
        ".ltx-references.jsonl", "b.png", "b_reference.png", "c.mp4", "clips/.ltx-references.jsonl",
        "clips/a.mp4", "clips/a_reference.mp4", "data.jsonl",
      ])
    // The edges match those of the frames exactly, because they are coded losslessly.
    let (clip, reference) = (try readAll("clips/a.mp4"), try readAll("clips/a_reference.mp4"))
    #expect(clip.map(\.seconds) == reference.map(\.seconds))
    for (frame, edges) in zip(clip, reference) {
      let wanted = CannyEdges().edges(of: frame)
      #expect(wanted.bytes.contains(255))
      let areSame = wanted.bytes == edges.bytes
      #expect(areSame)
    }
    #expect(
      try readAll("b_reference.png")[0].bytes == CannyEdges().edges(of: readAll("b.png")[0]).bytes)
  }

  @Test func aFolderOfMediaGetsReferencesBesideItsClips() throws {
    try writeClip("media/x/a.mp4")
    for name in ["x/a.txt", "b.txt"] { try folder.write("a caption", to: "media/\(name)") }
    try WAVWriter.write([[0, 0.5]], sampleRate: 16000, to: folder.file("media/b.wav"))
    let summary = try run(options("media"))
    #expect(summary.made == 1 && summary.failures.isEmpty)
    let dataset = try Dataset(path: folder.file("media"))
    #expect(dataset.samples.map(\.name) == ["b", "x/a"])
    #expect(dataset.samples[1].paths[.referenceVideo] == folder.file("media/x/a_reference.mp4"))
    #expect(try run(options("media")).upToDate == 1)
    // In another place or under another name, nothing would find it.
    var other = options("media")
    other.column.suffix = "_edges"
    #expect(
      message { _ = try other.plan() }.contains("Leave the references beside their clips"))
  }

  @Test func aReferenceIsMadeAgainWhenItsOriginChanges() throws {
    try writeClip("a.mp4")
    try folder.write("video,caption\na.mp4,x\n", to: "data.csv")
    #expect(try run(options("data.csv")).made == 1)
    #expect(try text("data.csv") == "video,caption,reference_video\na.mp4,x,a_reference.mp4\n")
    let first = try Data(contentsOf: URL(fileURLWithPath: folder.file("a_reference.mp4")))
    #expect(try run(options("data.csv")).upToDate == 1)
    // Other options.
    let blur = ReferenceKind.filter(.blur(GaussianBlur(sigma: 3)))
    #expect(try run(options("data.csv", blur)).made == 1)
    #expect(try run(options("data.csv", blur)).upToDate == 1)
    #expect(try Data(contentsOf: URL(fileURLWithPath: folder.file("a_reference.mp4"))) != first)
    // Another clip of the same name.
    try writeClip("a.mp4", shade: 120)
    #expect(try run(options("data.csv", blur)).made == 1)
    // A file from elsewhere is neither used nor replaced, unless requested.
    try FileManager.default.removeItem(atPath: folder.file("a_reference.mp4"))
    try writeClip("a_reference.mp4")
    let foreign = try Data(contentsOf: URL(fileURLWithPath: folder.file("a_reference.mp4")))
    let refused = try run(options("data.csv", blur))
    #expect(refused.failures.count == 1 && "\(refused.failures)".contains("allow overwriting"))
    #expect(try Data(contentsOf: URL(fileURLWithPath: folder.file("a_reference.mp4"))) == foreign)
    var overwriting = options("data.csv", blur)
    overwriting.options.overwrite = true
    #expect(try run(overwriting).made == 1)
    #expect(try run(overwriting).made == 1)
    #expect(try run(options("data.csv", blur)).upToDate == 1)
    // A record that was truncated by a kill is ignored, and doesn't affect later ones.
    let records = folder.file(ReferenceColumn(canny).recordsName)
    let kept = try text(ReferenceColumn(canny).recordsName).dropLast(20)
    try Data(kept.utf8).write(to: URL(fileURLWithPath: records))
    #expect(try run(options("data.csv", blur)).failures.count == 1)
    #expect(try run(overwriting).made == 1)
    #expect(try run(options("data.csv", blur)).upToDate == 1)
  }

  @Test func aCommandSeesPathsAsTheyAre() throws {
    let name = "a $(touch gone) 'b' {output}.mp4"
    try writeClip(name)
    try folder.write(#"[{"video": "\#(name)"}]"#, to: "data.json")
    let command = try ClipCommand("ffmpeg -v error -i {input} -vf negate \"{output}\"")
    let summary = try run(options("data.json", .command(command)))
    #expect(summary.failures.isEmpty && summary.made == 1 && summary.notes.isEmpty, "\(summary)")
    let made = "a $(touch gone) 'b' {output}_reference.mp4"
    #expect(folder.files() == [".ltx-references.jsonl", name, made, "data.json"].sorted())
    #expect(try readAll(made).count == 4)
    #expect(try run(options("data.json", .command(command))).upToDate == 1)
  }

  @Test func aProgramThatOutlivesItsRunWritesToANameOfItsOwn() throws {
    try writeClip("a.mp4")
    try folder.write(#"[{"video": "a.mp4"}]"#, to: "data.json")
    let names = folder.file("names")
    let line = "sh -c 'echo \"$2\" >> \(names); cp \"$1\" \"$2\"' sh {input} {output}"
    var overwriting = options("data.json", .command(try ClipCommand(line)))
    overwriting.options.overwrite = true
    for _ in 0..<2 { #expect(try run(overwriting).made == 1) }
    let given = try text("names").split(separator: "\n")
    #expect(Set(given).count == 2 && given.allSatisfy { $0.hasSuffix(".partial.mp4") }, "\(given)")
    // The leftovers of killed runs are removed, and nothing else.
    for name in [
      ".a_reference.1x2y.partial.mp4", "..a_reference.1x2y.partial.mp4.partial",
      ".a_reference.b.c.partial.mp4",
      ".a_reference_2.1x2y.partial.mp4",
    ] { try folder.write("x", to: name) }
    #expect(try run(overwriting).made == 1)
    #expect(
      folder.files().filter { $0.contains("partial") } == [
        ".a_reference.b.c.partial.mp4", ".a_reference_2.1x2y.partial.mp4",
      ])
  }

  @Test func aDatasetThatIsEditedMeanwhileIsLeftAlone() throws {
    try writeClip("a.mp4")
    try folder.write("\u{FEFF}video,caption\r\na.mp4,x\r\n", to: "data.csv")
    let plan = try options("data.csv").plan()
    let edited = "\u{FEFF}video,caption\r\na.mp4,better\r\n"
    try folder.write(edited, to: "data.csv")
    let text = message { _ = try DerivedColumnMaker(plan).run() }
    #expect(text.contains("data.csv: was changed while the references were made"), "\(text)")
    #expect(try self.text("data.csv") == edited)
    #expect(try run(options("data.csv")).upToDate == 1)
    let finished = "\u{FEFF}video,caption,reference_video\r\na.mp4,better,a_reference.mp4\r\n"
    #expect(try self.text("data.csv") == finished)
    // If nothing is written, an edit does no harm.
    let idle = try options("data.csv").plan()
    try folder.write(edited, to: "data.csv")
    #expect(try DerivedColumnMaker(idle).run().upToDate == 1)
    #expect(try self.text("data.csv") == edited)
  }

  @Test func notesAboutAClipAreRepeatedByEveryRun() throws {
    try writeClip("a.mp4", frames: 6)
    try folder.write(#"[{"video": "a.mp4"}]"#, to: "data.json")
    let line = "ffmpeg -v error -i {input} -frames:v 3 {output}"
    let command = ReferenceKind.command(try ClipCommand(line))
    let first = try run(options("data.json", command))
    #expect(first.made == 1 && first.notes == ["a.mp4: has 6 frames, but its reference 3"])
    let second = try run(options("data.json", command))
    #expect(second.upToDate == 1 && second.notes == first.notes)
  }

  @Test func aCommandThatGivesNothingIsItsClipsFailure() throws {
    try writeClip("a.mp4")
    try folder.write(#"[{"video": "a.mp4"}]"#, to: "data.json")
    let before = try text("data.json")
    let cases = [
      (
        "sh -c 'echo first >&2; echo \"the  reason\" >&2; echo; exit 3' sh {input} {output}",
        "sh ended with status 3: the  reason"
      ),
      ("sh -c 'echo half > \"$2\"; kill -9 $$' sh {input} {output}", "sh was ended by signal 9"),
      ("true {input} {output}", "true succeeded but wrote nothing"),
      (
        "sh -c ': > \"$2\"; echo why >&2' sh {input} {output}",
        "sh succeeded but wrote nothing to {output}: why"
      ),
      (
        "sh -c 'echo text > \"$2\"' sh {input} {output}", "the output of sh is not a video or image"
      ),
      (
        "no-such-program-here {input} {output}",
        "no-such-program-here can't be started (No such file"
      ),
    ]
    for (line, words) in cases {
      let summary = try run(options("data.json", .command(ClipCommand(line))))
      #expect(summary.made == 0 && summary.failures.count == 1)
      #expect("\(summary.failures)".contains(":1: a.mp4: \(words)"), "\(line): \(summary.failures)")
      #expect(folder.files() == ["a.mp4", "data.json"])
    }
    #expect(try text("data.json") == before)
  }

  @Test func aCommandIsSplitLikeAShellsWords() throws {
    let line = "a/b  'x y'\"z \\\" \\n\"\\ w\t'' --in={input} {output}"
    #expect(
      try ClipCommand(line).words == ["a/b", "x yz \" \\n w", "", "--in={input}", "{output}"])
    for (line, words) in [
      ("", "names no program"), ("x {input}", "{output}"), ("{input} {output}", "{input}"),
      ("x 'a {input}", "not closed"),
    ] {
      #expect(message { _ = try ClipCommand(line) }.contains(words), "\(line)")
    }
  }

  @Test func referencesGoWhereTheyAreWanted() throws {
    try writeClip("films/one/a.mp4")
    try writeClip("films/two/a.mp4")
    try folder.write(
      #"[{"media_path": "one/a.mp4"}, {"media_path": "two/a.mp4"}]"#, to: "films/data.json")
    var options = options("films/data.json", .filter(.downscale(2)))
    options.options.mediaFolder = folder.file("films")
    options.column.outputFolder = folder.file("small")
    options.options.outputDataset = folder.file("films/new.json")
    options.column.suffix = ""
    #expect(try run(options).made == 2)
    #expect(
      folder.files() == [
        "films/data.json", "films/new.json", "films/one/a.mp4", "films/two/a.mp4",
        "small/one/.ltx-references.jsonl", "small/one/a.mp4", "small/two/.ltx-references.jsonl",
        "small/two/a.mp4",
      ])
    #expect(
      try text("films/new.json").contains(
        "\"reference_video\": \"\(folder.file("small/two/a.mp4"))\""))
    #expect(try readAll("small/one/a.mp4").first.map { [$0.width, $0.height] } == [32, 24])
    options.column.outputFolder = folder.file("films/small")
    #expect(try run(options).made == 2)
    #expect(try text("films/new.json").contains("\"reference_video\": \"small/two/a.mp4\""))
  }

  @Test func plansThatWouldDoHarmAreRefused() throws {
    try folder.write("video\na.mp4\na.avi\na_reference.mp4\nb.mp4\n", to: "data.csv")
    let plan = try options("data.csv").plan()
    #expect(plan.clipCount == 2)
    #expect(plan.failures.map(\.line) == [3, 2])
    #expect("\(plan.failures[0])".contains("line 2's"))
    #expect("\(plan.failures[1])".contains("would replace a clip of the dataset"))

    var elsewhere = options("data.csv")
    elsewhere.options.outputDataset = folder.file("no/data.csv")
    #expect(message { _ = try elsewhere.plan() }.contains("beside the dataset"))
    elsewhere.options.outputDataset = folder.file("data.json")
    #expect(message { _ = try elsewhere.plan() }.contains("extension"))
    var odd = options("data.csv")
    odd.column.suffix = "/x"
    #expect(message { _ = try odd.plan() }.contains("suffix: can't be part"))
    try folder.write("caption\nx\n", to: "none.csv")
    #expect(message { _ = try options("none.csv").plan() }.contains("Name the column"))
  }
}
