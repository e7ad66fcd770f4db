import Foundation
import Support
import Testing

@Suite struct OutputFolderTests {
  private let scratch: Folder

  init() throws { scratch = try Folder() }

  @Test func foldersThatCanBeWritten() throws {
    #expect(OutputFolder.problem(scratch.path) == nil)
    #expect(OutputFolder.problem(scratch.path + "/not/made/yet/") == nil)
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.path).isEmpty)
  }

  @Test func foldersThatCanNot() throws {
    let file = scratch.path + "/file"
    try Data().write(to: URL(fileURLWithPath: file))
    #expect(OutputFolder.problem(file) == "is a file; name a folder")
    #expect(OutputFolder.problem(file + "/below") == "can't be created: \(file) is a file")
    #expect(OutputFolder.problem("/proc")?.hasPrefix("can't be written to: ") == true)
    #expect(
      OutputFolder.problem("/proc/made/there")?.hasPrefix("can't be created in /proc: ") == true)
  }
}
