import Foundation
import TestSupport
import Testing

/// Every help page as a file of `Tests/Fixtures/help`, so that a change of a page is seen in review.
///
/// With `LTX_UPDATE_HELP=1` in the environment, the test writes the files instead of comparing them.
@Suite struct HelpSnapshotTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("Fixtures/help")

  @Test func everyHelpPageIsTheStoredOne() throws {
    let place = try Workshop()
    let pages = try Self.pages(of: [], in: place.path)
    #expect(pages.count > 20)
    guard ProcessInfo.processInfo.environment["LTX_UPDATE_HELP"] == nil else {
      if FileManager.default.fileExists(atPath: Self.folder.path) {
        try FileManager.default.removeItem(at: Self.folder)
      }
      try FileManager.default.createDirectory(
        at: Self.folder, withIntermediateDirectories: true)
      for (name, text) in pages {
        try text.write(
          to: Self.folder.appendingPathComponent(name), atomically: true, encoding: .utf8)
      }
      return
    }
    let stored = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path)
    #expect(Set(stored) == Set(pages.keys), "update them by LTX_UPDATE_HELP=1")
    for (name, text) in pages {
      let expected = try String(
        contentsOf: Self.folder.appendingPathComponent(name), encoding: .utf8)
      #expect(text == expected, "\(name) has changed; update it by LTX_UPDATE_HELP=1")
    }
  }

  /// The help pages of a command and its subcommands by file name: `ltx lora merge` is
  /// `ltx-lora-merge.txt`.
  private static func pages(
    of command: [String], in folder: String
  ) throws -> [String: String] {
    let page = try Program.run(
      ["help"] + command, in: folder, environment: ["COLUMNS": "80"])
    try #require(page.status == 0, "\(page.errors)")
    var pages = [(["ltx"] + command).joined(separator: "-") + ".txt": page.output]
    let lines = page.output.split(separator: "\n", omittingEmptySubsequences: false)
    for line in lines.drop(while: { $0 != "SUBCOMMANDS:" }).dropFirst().prefix(while: {
      !$0.isEmpty
    })
    where line.hasPrefix("  ") && !line.hasPrefix("   ") {
      guard let name = line.split(separator: " ").first else { continue }
      pages.merge(try Self.pages(of: command + [String(name)], in: folder)) { $1 }
    }
    return pages
  }
}
