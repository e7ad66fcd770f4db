import ArgumentParser
import DemoReport
import Foundation

/// `demo-report`: the last step of `./demo`.
@main
struct DemoReportCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo-report",
    abstract: "Write the report of ./demo.",
    discussion: """
      Reads the generated clips, the runs' metrics and the list of commands from the folder of the \
      demo, and measures the style of the clips. Writes report.html and style.json into it.
      """)

  @Argument(help: ArgumentHelp("The folder of the demo.", valueName: "folder"))
  var folder: String

  func run() throws {
    let report = try DemoReport(folder: folder)
    for finding in report.findings { print(finding) }
    print(try report.write())
  }
}
