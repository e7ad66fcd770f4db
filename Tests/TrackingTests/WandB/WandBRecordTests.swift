import Foundation
import Media
import Support
import Testing

@testable import Tracking

/// Compares with files written by W&B's own Python package (Tests/Oracles/check_wandb.py).
@Suite struct WandBRecordTests {
  private let folder = TemporaryFolder()
  private let fixtures = tests.appendingPathComponent("Fixtures/wandb")

  @Test func framingIsThatOfThePythonPackage() throws {
    let data = try Data(contentsOf: fixtures.appendingPathComponent("framing.json"))
    let digests = try JSONDecoder().decode([String: String].self, from: data)
    #expect(digests.count == 63)
    for (lengths, digest) in digests {
      let path = folder.path + "/\(lengths)"
      let log = try RecordLog(path: path)
      for (index, length) in lengths.split(separator: ",").compactMap({ Int($0) }).enumerated() {
        try log.append(Data(repeating: UInt8(97 + index), count: length))
      }
      try log.close()
      #expect(try SHA256.hex(ofFile: path) == digest, "records of \(lengths) bytes")
    }
  }

  @Test func recordsAreThoseOfThePythonPackage() throws {
    let path = folder.path + "/run.wandb"
    let options = WandBTracker.Options(
      project: "films", entity: "somebody", name: "a name", tags: ["x", "ü"],
      configuration: Data(#"{"steps": 250, "model": {"path": "a/b"}}"#.utf8), folder: folder.path)
    let settings = try WandBSettings(environment: ["WANDB_MODE": "offline"])
    let run = try WandBRun(
      options, settings: settings, id: "abc12345",
      start: Date(timeIntervalSince1970: 1_700_000_000.5))
    let records: [WandBRecord] = [
      .header, .run(run, host: "host"),
      .history([("train/loss", "0.25"), ("_step", "300")], step: 300),
      .summary([("train/loss", "0.25")]),
      .file("media/videos/a.mp4", isMedia: true), .exit(code: 255, seconds: 12),
    ]
    let log = try RecordLog(path: path)
    for (index, record) in records.enumerated() { try log.append(record.data(number: index + 1)) }
    try log.close()
    let expected = try Data(contentsOf: fixtures.appendingPathComponent("records.wandb"))
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == expected)
  }

  @Test func anExistingFileIsNotOverwritten() throws {
    let path = folder.path + "/run.wandb"
    try Data("precious".utf8).write(to: URL(fileURLWithPath: path))
    let error = #expect(throws: Support.Issue.self) { try RecordLog(path: path) }
    #expect(error?.file == path)
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
  }
}
