import Foundation
import Media
import TestSupport
import Testing

@testable import Datasets

/// Folders as datasets: the files that are used, and the reasons for skipping the rest.
@Suite struct DatasetFolderTests {
  private let scratch: ScratchFolder

  init() throws { scratch = try ScratchFolder() }

  private func reasons(_ dataset: Dataset) -> [String: String] {
    Dictionary(uniqueKeysWithValues: dataset.skipped.files.map { ($0.file, $0.reason) })
  }

  @Test func skippedFilesAreListedWithAReason() throws {
    for name in [
      "a.jfif", "b.JP2", "c.nef", "d.jpe", "notes.md", "dataset.json", "Makefile", "e.caption",
      ".DS_Store",
      "cache/conditions/a.safetensors", "f.mp4", "f_reference.mp4",
    ] { try scratch.write("x", to: name) }
    for name in ["a", "b", "c", "d", "f", "f_reference", "lonely"] {
      try scratch.write("text", to: name + ".txt")
    }
    let dataset = try Dataset(path: scratch.path)
    #expect(dataset.samples.map(\.media) == ["a.jfif", "b.JP2", "d.jpe", "f.mp4"])
    #expect(dataset.problems.isEmpty)
    let found = reasons(dataset)
    #expect(
      found.keys.sorted() == [
        "Makefile", "c.nef", "c.txt", "cache", "dataset.json", "e.caption", "f_reference.txt",
        "lonely.txt",
        "notes.md",
      ])
    #expect(found["c.nef"]?.contains("can't decode camera RAW images") == true)
    #expect(found["c.txt"] == "a caption whose c.nef is skipped")
    #expect(found["cache"] == "a preprocessed cache")
    #expect(found["dataset.json"]?.contains("name it instead of the folder") == true)
    #expect(found["e.caption"]?.contains("rename it") == true)
    #expect(found["lonely.txt"] == "a caption without a video, image or audio of the same name")
    #expect(dataset.skipped.hiddenCount == 1)
  }

  @Test func aCaptionUnderANameThatIsNearlyItsClipsIsPointedAt() throws {
    for name in ["a.mp4", "B.mp4", "c.mp4", "d.mp4"] { try scratch.write("x", to: name) }
    for name in ["a.mp4.txt", "b.txt", "c.txt", "c.mp4.txt", "d.txt"] {
      try scratch.write("text", to: name)
    }
    let dataset = try Dataset(path: scratch.path)
    #expect(dataset.samples.map(\.media) == ["c.mp4", "d.mp4"])
    #expect(
      dataset.problems.map(\.description).sorted() == [
        "B.mp4: has no caption with its name, but b.txt exists. Rename it to B.txt.",
        "a.mp4: has no caption with its name, but a.mp4.txt exists. Rename it to a.txt.",
      ])
    #expect(reasons(dataset) == ["c.mp4.txt": "a second caption of c.mp4"])
  }

  @Test func aFolderOfNothingButSkippedFilesSaysWhy() throws {
    try scratch.write("x", to: "a.cr2")
    let text = message { _ = try Dataset(path: scratch.path) }
    #expect(
      text.contains(
        "has no videos, images or audio that can be used (skipped a.cr2: the installed FFmpeg"))
  }

  @Test func theReportListsSkippedFilesAndARunWithNothingElseWrongSucceeds() throws {
    let fixture = try PreprocessingFixture()
    try fixture.clip("clips/a.mp4", frames: 9)
    try fixture.scratch.write("a clip", to: "clips/a.txt")
    try fixture.scratch.write("x", to: "clips/b.heics")
    try fixture.scratch.write("x", to: "clips/c.cr3")
    var options = try fixture.options()
    options.dataset = fixture.file("clips")
    let report = try fixture.run(options)
    #expect(report.failures.isEmpty && report.encoded(.latents) == 1)
    #expect(report.skipped.map(\.file) == ["b.heics", "c.cr3"])
    #expect(report.notes.contains { $0.hasPrefix("skipped c.cr3: the installed FFmpeg") })
    let json = try String(contentsOfFile: report.path, encoding: .utf8)
    #expect(json.contains("\"file\" : \"c.cr3\""))
    // The check of the cache reports it as well.
    try fixture.scratch.write("x", to: "clips/.precomputed/latents/a.npz")
    let checked = try CacheChecker(cache: fixture.file("clips")).run()
    #expect(checked.problems.isEmpty, "\(checked.problems)")
    #expect(checked.notes.contains { $0.hasPrefix("skipped c.cr3") })
    #expect(
      checked.notes.contains {
        $0.hasPrefix("skipped latents/a.npz: not a .safetensors or .pt file")
      })
  }
}
