import Foundation
import Support
import Testing

@Suite struct PathSyntaxTests {
  private let environment = ["HOME": "/home/a", "USER": "a"]

  private func problem(_ path: String, isOutput: Bool = true) -> String? {
    PathSyntax.problem(path, isOutput: isOutput, environment: environment)
  }

  @Test(arguments: [
    ("$HOME/x", "has the variable $HOME, which is not expanded here. Write /home/a/x"),
    ("/data/${USER}_run", "has the variable $USER, which is not expanded here. Write /data/a_run"),
    (
      "/scratch/$JOB/x",
      "has the variable $JOB, which is not expanded here. Write the path without variables"
    ),
    (
      "~nobody-of-this-name/x",
      "begins with ~, which only a shell expands. Write the path of the home folder"
    ),
    ("C:\\runs\\a", "is a Windows path. Write it as this system sees it, such as /mnt/c/runs/a"),
    ("d:/runs", "is a Windows path. Write it as this system sees it, such as /mnt/d/runs"),
    ("runs\\a", "has the backslashes of a Windows path. Write runs/a"),
    ("s3://bucket/x", "is a URL. Write the path of a local folder"),
    ("file:///tmp/no-such/x", "is a URL. Write /tmp/no-such/x"),
  ])
  func pathsForAnotherProgramAreRefusedWithThePathToWrite(path: String, text: String) {
    #expect(problem(path) == text)
  }

  @Test(arguments: [
    "runs/a", "/tmp/x", "a:b", "price-5$", "5$ each", "$5", "${HOME", "a~b", "", "c",
    "x:/y:/z".replacing("x:", with: "xx:"),
  ])
  func otherPathsAreLeftAlone(path: String) { #expect(problem(path) == nil) }

  @Test func aPlaceThatExistsIsWhatItIsCalled() throws {
    let folder = try Folder()
    let odd = folder.file("$HOME")
    #expect(problem(odd) != nil)
    try FileManager.default.createDirectory(atPath: odd, withIntermediateDirectories: false)
    #expect(problem(odd) == nil)
    #expect(problem("https://host/x", isOutput: false) == nil)
  }
}
