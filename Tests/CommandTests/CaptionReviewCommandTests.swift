import Foundation
import Testing

/// `ltx caption --review`, run as a user runs it.
@Suite struct CaptionReviewCommandTests {
  /// Sends a request, and returns the answer.
  private func request(_ path: String, port: Int) throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    let head =
      "GET \(path) HTTP/1.1\\r\\nHost: 127.0.0.1:\(port)\\r\\nConnection: close\\r\\n\\r\\n"
    process.arguments = [
      "-c", "exec 3<>/dev/tcp/127.0.0.1/\(port); printf '\(head)' >&3; cat <&3",
    ]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return String(decoding: data, as: UTF8.self)
  }

  @Test func theAddressIsPrintedAndControlCEndsIt() throws {
    let workshop = try Workshop()
    let before = "video,caption\na.mp4,one\nb.mp4,\n"
    try workshop.write("data.csv", before)
    let process = try Program.start(["caption", "--review", "data.csv"], in: workshop.path)
    var lines: [String] = []
    for _ in 0..<600 where lines.count < 2 {
      usleep(50_000)
      lines = try workshop.lines("stdout.txt")
    }
    try #require(lines.count == 2, "\(lines)")
    #expect(lines[0] == "2 rows: review the captions at")
    let url = try #require(URL(string: lines[1].trimmingCharacters(in: .whitespaces)))
    let port = try #require(url.port)
    #expect(try request(url.path + "/rows", port: port).hasPrefix("HTTP/1.1 200 OK\r\n"))
    #expect(try request("/rows", port: port).hasPrefix("HTTP/1.1 403 Forbidden\r\n"))
    kill(process.processIdentifier, SIGINT)
    let result = try Program.result(of: process, in: workshop.path)
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.errors == "Ctrl-C ends the review. Save in the page first.\n")
    #expect(try String(contentsOfFile: workshop.path + "/data.csv", encoding: .utf8) == before)
  }

  @Test func unusableInputEndsWithStatus2() throws {
    let workshop = try Workshop()
    try workshop.write("data.csv", "x,caption\na,b\n")
    for (arguments, text) in [
      (["none.json"], "error: none.json: does not exist"),
      (["data.csv"], "Name the column with --video-column."),
      (["data.csv", "--video-column", "y"], "error: --video-column: data.csv has no column \"y\""),
      (
        ["data.csv", "--video-column", "x", "--port", "70000"],
        "--port: must be between 0 and 65535"
      ),
    ] {
      let result = try Program.run(["caption", "--review"] + arguments, in: workshop.path)
      #expect(result.status == 2, "\(arguments): \(result.errors)")
      #expect(result.errors.contains(text), "\(result.errors)")
    }
  }
}
