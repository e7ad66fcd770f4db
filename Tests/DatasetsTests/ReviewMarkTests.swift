import Foundation
import Support
import TestSupport
import Testing

@testable import Datasets

/// Rows that a review left out are not used.
@Suite struct ReviewMarkTests {
  @Test(arguments: [
    (
      "d.jsonl",
      """
      {"video": "a.mp4", "caption": "a", "caption_review": "done"}
      {"video": "b.mp4", "caption": "", "caption_review": "left_out"}
      {"video": "a.mp4", "caption": "a", "caption_review": "left_out"}
      {"video": "c.mp4", "caption": "c", "caption_review": null}
      """
    ),
    (
      "d.csv",
      "video,caption,caption_review\na.mp4,a,done\nb.mp4,,left_out\na.mp4,a,left_out\nc.mp4,c,\n"
    ),
  ])
  func rowsAreLeftOut(name: String, text: String) throws {
    let scratch = try ScratchFolder()
    let dataset = try Dataset(path: scratch.write(text, to: name))
    #expect(dataset.samples.map(\.media) == ["a.mp4", "c.mp4"])
    #expect(dataset.samples.map(\.index) == [0, 3])
    #expect(dataset.leftOut == 2 && dataset.problems.isEmpty && dataset.rowCount == 2)
    #expect(dataset.columns.unused.isEmpty)
  }

  @Test func otherValuesAreRowsThatCannotBeUsed() throws {
    let scratch = try ScratchFolder()
    let rows = [#""maybe""#, "1", #""Done""#, #""""#].map {
      #"{"video": "a.mp4", "caption": "a", "caption_review": \#($0)}"#
    }
    let dataset = try Dataset(path: scratch.write(rows.joined(separator: "\n"), to: "d.jsonl"))
    #expect(dataset.samples.isEmpty)
    #expect(
      dataset.problems.map(\.description) == [
        #"line 1: caption_review: must be "done" or "left_out" (got "maybe"). Correct it, or remove it from the row."#,
        "line 2: caption_review: must be a string (got a number)",
        #"line 3: caption_review: must be "done" or "left_out" (got "Done"). Correct it, or remove it from the row."#,
        #"line 4: caption_review: must be "done" or "left_out" (got ""). Correct it, or remove it from the row."#,
      ])
  }

  @Test func aDatasetWithoutOtherRowsIsReported() throws {
    let scratch = try ScratchFolder()
    let path = try scratch.write(
      #"[{"video": "a.mp4", "caption": "a", "caption_review": "left_out"}]"#, to: "d.json")
    let text = message { _ = try Dataset(path: path) }
    #expect(text.hasSuffix("Remove the mark in caption_review from some of them."), "\(text)")
  }

  @Test func marksOfAFolderAreInAHiddenFile() throws {
    let scratch = try ScratchFolder()
    for name in ["a.mp4", "b.wav", "sub/c.png"] { try scratch.write("x", to: name) }
    for name in ["a.txt", "b.txt", "sub/c.txt"] { try scratch.write("caption", to: name) }
    try scratch.write(
      #"{"b.wav": "left_out", "sub/c.png": "done", "gone.mp4": "left_out"}"#,
      to: ReviewMark.fileName)
    let dataset = try Dataset(path: scratch.path)
    #expect(dataset.samples.map(\.media) == ["a.mp4", "sub/c.png"] && dataset.leftOut == 1)
    #expect(dataset.skipped.hiddenCount == 0)
    for damage in ["", "[", "[1]", "\u{0}"] {
      try scratch.write(damage, to: ReviewMark.fileName)
      let text = message { _ = try Dataset(path: scratch.path) }
      #expect(text.contains("\(ReviewMark.fileName): "), "\(text)")
    }
    try scratch.write(#"{"a.mp4": 1}"#, to: ReviewMark.fileName)
    #expect(try Dataset(path: scratch.path).problems.count == 1)
  }

  @Test func derivedColumnsSkipRowsThatAreLeftOut() throws {
    let scratch = try ScratchFolder()
    let path = try scratch.write(
      """
      {"video": "a.mp4", "caption": "a"}
      {"video": "b.mp4", "caption": "b", "caption_review": "left_out"}
      {"video": "c.mp4", "caption": "c", "caption_review": "x"}
      """, to: "d.jsonl")
    let plan = try DerivedColumnPlan(
      ReferenceColumn(.filter(.gray)), DerivedColumnOptions(dataset: path))
    #expect(plan.clipCount == 1 && plan.failures.count == 1)
  }
}
