import Foundation
import Support
import TestSupport
import Testing

@testable import Datasets

/// Columns of texts; `ReferenceTests` has columns of files.
@Suite struct DerivedColumnTests {
  /// A column that holds the size of each clip, and counts its calls.
  private struct SizeColumn: DerivedColumn {
    let name = "caption"
    let noun = "caption"
    let recordsName = ".ltx-sizes.jsonl"
    var signature = "size 1"
    var failing: String?

    func make(
      _ clip: DerivedClip, at path: String?, progress: (String) -> Void
    ) throws -> DerivedValue {
      if clip.media == failing { throw Support.Issue([.file(clip.media)], "refused") }
      let bytes = try FileManager.default.attributesOfItem(atPath: clip.source)[.size] as? Int
      return DerivedValue(text: "\(signature): \(bytes ?? 0) bytes", notes: ["was measured"])
    }
  }

  private let folder: ScratchFolder

  init() throws {
    folder = try ScratchFolder()
    for (name, size) in [("a.mp4", 3), ("b.mp4", 5), ("c.mp4", 7)] {
      try folder.write(String(repeating: "x", count: size), to: name)
    }
  }

  private func run(
    _ column: SizeColumn = SizeColumn(), overwrite: Bool = false
  ) throws -> DerivedColumnSummary {
    var options = DerivedColumnOptions(dataset: folder.file("data.jsonl"))
    options.overwrite = overwrite
    return try DerivedColumnMaker(DerivedColumnPlan(column, options)).run()
  }

  private func captions() throws -> [String?] {
    try DatasetFile(path: folder.file("data.jsonl")).rows.map { row in
      guard case .string(let text)? = row.values["caption"] else { return nil }
      return text
    }
  }

  @Test func textsAreMadeOnceAndTextsWrittenByHandAreKept() throws {
    try folder.write(
      #"""
      {"video": "a.mp4"}
      {"video": "b.mp4", "caption": "by hand"}
      {"video": "c.mp4"}
      {"video": "a.mp4"}
      """#, to: "data.jsonl")
    var refusing = SizeColumn()
    refusing.failing = "c.mp4"
    let first = try run(refusing)
    #expect(first.made == 1 && first.kept == 1 && first.failures.map(\.line) == [3])
    #expect(first.notes == ["a.mp4: was measured"])
    #expect(try captions() == ["size 1: 3 bytes", "by hand", nil, "size 1: 3 bytes"])

    let second = try run()
    #expect(second.made == 1 && second.upToDate == 1 && second.kept == 1)
    #expect(second.failures.isEmpty)
    #expect(try captions()[2] == "size 1: 7 bytes")

    // An edited text belongs to the user; other texts are made again for other options.
    try folder.write(
      String(
        decoding: Data(contentsOf: URL(fileURLWithPath: folder.file("data.jsonl"))), as: UTF8.self
      )
      .replacingOccurrences(of: "size 1: 7 bytes", with: "better"), to: "data.jsonl")
    var other = SizeColumn()
    other.signature = "size 2"
    let third = try run(other)
    #expect(third.made == 1 && third.kept == 2)
    #expect(try captions() == ["size 2: 3 bytes", "by hand", "better", "size 2: 3 bytes"])

    let all = try run(other, overwrite: true)
    #expect(all.made == 3 && all.kept == 0)
    #expect(try captions().map { $0?.hasPrefix("size 2: ") } == [true, true, true, true])
  }

  @Test func aRunThatEndedBeforeTheDatasetWasWrittenIsResumedFromItsRecords() throws {
    let rows = #"{"video": "a.mp4"}"# + "\n" + #"{"video": "b.mp4"}"# + "\n"
    try folder.write(rows, to: "data.jsonl")
    #expect(try run().made == 2)
    // The dataset in its original state, as if the run had been killed.
    try folder.write(rows, to: "data.jsonl")
    let resumed = try run()
    #expect(resumed.made == 0 && resumed.upToDate == 2)
    #expect(try captions() == ["size 1: 3 bytes", "size 1: 5 bytes"])
    // Another clip of the same name.
    try folder.write("xxxx", to: "a.mp4")
    let changed = try run()
    #expect(changed.made == 1 && changed.upToDate == 1)
    #expect(try captions() == ["size 1: 4 bytes", "size 1: 5 bytes"])
  }
}
