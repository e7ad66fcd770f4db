import Foundation
import Support
import TestSupport
import Testing

@testable import Captions

@Suite struct CaptionPlanTests {
  private let folder: ScratchFolder

  init() throws {
    folder = try ScratchFolder()
    for name in [
      "b.mp4", "a.png", "a_mask.png", "b_reference.mp4", "b.wav", "talk.wav", "notes.txt", "x.docx",
      "sub/c.mov", "cache/conditions/c.safetensors", "cache/decoded.mp4", ".hidden.mp4",
    ] { try folder.write("x", to: name) }
  }

  private func plan(_ change: (inout CaptionOptions) -> Void = { _ in }) throws -> CaptionPlan {
    var options = CaptionOptions(input: folder.path)
    change(&options)
    return try CaptionPlan(options)
  }

  @Test func aFolderIsSearchedForSamples() throws {
    let plan = try plan()
    #expect(plan.clips.map(\.name) == ["a.png", "b.mp4", "talk.wav"])
    #expect(plan.clips.map(\.kind) == [.image, .video, .audio])
    #expect(plan.output == folder.file("dataset.json"))
    let reasons = plan.skipped.files.map { "\($0.file): \($0.reason)" }
    #expect(reasons.contains("a_mask.png: the mask of a.png"))
    #expect(reasons.contains("b_reference.mp4: the reference of b.mp4"))
    #expect(reasons.contains("b.wav: the audio of b.mp4"))
    #expect(reasons.contains("sub: a subfolder; add --recursive to search it"))
    #expect(plan.skipped.hiddenCount == 1)
  }

  @Test func subfoldersAndExtensionsAreChosen() throws {
    let all = try plan { $0.isRecursive = true }
    #expect(all.clips.map(\.name) == ["a.png", "b.mp4", "sub/c.mov", "talk.wav"])
    #expect(all.skipped.files.contains { $0.reason == "a preprocessed cache" })
    let some = try plan {
      $0.extensions = ["png", "mov"]
      $0.isRecursive = true
    }
    #expect(some.clips.map(\.name) == ["a.png", "sub/c.mov"])
  }

  @Test func pathsAreRelativeToTheOutput() throws {
    let below = try plan { $0.output = folder.file("out/list.csv") }
    #expect(below.clips.map(\.name) == ["../a.png", "../b.mp4", "../talk.wav"])
    let one = try plan { $0.input = folder.file("sub/c.mov") }
    #expect(one.output == folder.file("sub/c.dataset.json"))
    #expect(one.clips.map(\.name) == ["c.mov"])
    // The link's own name is kept, not its target's.
    try FileManager.default.createSymbolicLink(
      atPath: folder.file("z.mp4"), withDestinationPath: folder.file("x.docx"))
    #expect(try plan().clips.map(\.name).last == "z.mp4")
  }

  @Test func onlyMissingCaptionsArePlanned() throws {
    try folder.write(
      "[{\"caption\": \"By hand\", \"media_path\": \"./sub/../b.mp4\"}, "
        + "{\"caption\": \" \", \"media_path\": \"a.png\"}]", to: "dataset.json")
    let plan = try plan()
    #expect(plan.clips.map(\.name) == ["a.png", "talk.wav"])
    #expect(plan.upToDate == 1 && plan.replaced == 0)
    let all = try self.plan { $0.replaces = true }
    #expect(all.clips.count == 3 && all.replaced == 1)
  }

  @Test func aDatasetFileListsClips() throws {
    try folder.write(
      "video,caption,caption_review\nsub/c.mov,,\nb.mp4,by hand,done\na.png,,left_out\n"
        + "sub/c.mov,,\n", to: "list.csv")
    let plan = try plan { $0.input = folder.file("list.csv") }
    #expect(plan.clips.map(\.name) == ["sub/c.mov"])
    #expect(plan.output == folder.file("list.csv") && plan.upToDate == 1)
    let other = try self.plan {
      $0.input = folder.file("list.csv")
      $0.output = folder.file("out/new.jsonl")
    }
    #expect(other.clips.map(\.name) == ["../sub/c.mov", "../b.mp4"])
  }

  @Test func processesShareTheWholeList() throws {
    let shares = try (0..<2).map { index in
      try plan { $0.share = WorkShare(index: index, count: 2) }.clips.map(\.name)
    }
    #expect(shares == [["a.png", "talk.wav"], ["b.mp4"]])
    // A clip that is done does not move the others to other processes.
    try folder.write("[{\"caption\": \"x\", \"media_path\": \"a.png\"}]", to: "dataset.json")
    let rest = try (0..<2).map { index in
      try plan { $0.share = WorkShare(index: index, count: 2) }.clips.map(\.name)
    }
    #expect(rest == [["talk.wav"], ["b.mp4"]])
  }

  @Test func inputsThatCanNotBeUsedAreRefused() throws {
    try folder.write("x", to: "empty/x.docx")
    func refusal(_ change: (inout CaptionOptions) -> Void) -> String {
      message { _ = try plan(change) }
    }
    #expect(refusal { $0.input = "none" }.contains("none: does not exist"))
    #expect(refusal { $0.input = folder.file("empty") }.contains("has no videos, images or audio"))
    #expect(refusal { $0.extensions = ["avi"] }.contains("has no files with the extensions avi"))
    #expect(refusal { $0.input = folder.file("x.docx") }.contains("is not a media file"))
    #expect(refusal { $0.output = folder.file("d.yaml") }.contains("unknown extension"))
    #expect(refusal { $0.output = folder.file("sub") }.contains("is a folder; name a file"))
    try folder.write("[]", to: "none.json")
    #expect(refusal { $0.input = folder.file("none.json") }.contains("lists no clips"))
  }
}
