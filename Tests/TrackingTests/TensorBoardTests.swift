import Foundation
import Synchronization
import Testing

@testable import Media
@testable import Tracking

@Suite struct TensorBoardTests {
  private let folder = TemporaryFolder()

  // MARK: Bytes

  /// The output of tensorboard's own messages and record writer for the same events
  /// (Tests/Oracles/tensorboard_events.py).
  @Test func eventsAreByteForByteTensorBoardsOwn() throws {
    let expected = try Data(contentsOf: tests.appendingPathComponent("Fixtures/tensorboard/events"))
    let tiny = 1e-40  // subnormal in float32
    let scalars: [TensorBoardEvent.Value] = [
      .scalar(tag: "train/loss", 0.25), .scalar(tag: "train/zero", 0),
      .scalar(tag: "train/tiny", Float(tiny)),
      .scalar(tag: "train/negative", -3.5),
    ]
    let image = Data((0..<3).flatMap { _ in UInt8(0)...255 })
    let events = [
      TensorBoardEvent(wallTime: 1.7e9, step: 0, content: .version(writer: "swift-ltx")),
      TensorBoardEvent(wallTime: 1.7e9, step: 8, content: .start),
      TensorBoardEvent(wallTime: 1.7e9 + 1, step: 8, content: .summary(scalars)),
      TensorBoardEvent(
        wallTime: 1.7e9 + 2, step: 100_000_000_000,
        content: .summary([.scalar(tag: "train/loss", .infinity)])
      ),
      TensorBoardEvent(
        wallTime: 1.7e9 + 3, step: 9,
        content: .summary([.image(tag: "validation_samples/a", image, width: 768, height: 448)])),
      TensorBoardEvent(
        wallTime: 1.7e9 + 4, step: 9,
        content: .summary([
          .text(tag: "validation/prompt", "Ein Käfer läuft 🐞"), .text(tag: "empty", ""),
        ])),
      TensorBoardEvent(
        wallTime: 1.7e9 + 5, step: 10,
        content: .summary([
          .audio(
            tag: "validation_samples/b", Data(count: 1000), sampleRate: 48000, channels: 2,
            samples: 123_456)
        ])),
    ]
    #expect(events.map { TFRecord.framed($0.encoded) }.reduce(Data(), +) == expected)
  }

  // MARK: Files

  private func tracker(_ step: Int = 0, time: Double = 1.7e9) throws -> TensorBoardTracker {
    try TensorBoardTracker(folder: folder.path, resumingAfter: step, host: "host/x", process: 42) {
      time
    }
  }

  @Test func aFileBeginsWithItsVersionAndTheRunsStart() throws {
    let tracker = try tracker(7)
    #expect(tracker.path == folder.path + "/events.out.tfevents.1700000000.host_x.42.0")
    try tracker.scalars([("train/loss", 0.5)], step: 8)
    let expected: [TensorBoardEvent] = [
      TensorBoardEvent(wallTime: 1.7e9, step: 0, content: .version(writer: "swift-ltx")),
      TensorBoardEvent(wallTime: 1.7e9, step: 8, content: .start),
      TensorBoardEvent(
        wallTime: 1.7e9, step: 8, content: .summary([.scalar(tag: "train/loss", 0.5)])),
    ]
    // nothing was closed: a kill loses nothing
    #expect(
      try Data(contentsOf: URL(fileURLWithPath: tracker.path))
        == expected.map { TFRecord.framed($0.encoded) }.reduce(Data(), +))
  }

  @Test func eachStartMakesALaterFile() throws {
    let paths = try [1.7e9, 1.7e9, 1.6e9].map { try tracker(time: $0).path }
    #expect(paths == paths.sorted())
    #expect(Set(paths).count == 3)
  }

  @Test func aFolderThatCannotBeMadeIsAnErrorThatNamesIt() throws {
    let file = folder.path + "/file"
    try Data().write(to: URL(fileURLWithPath: file))
    #expect { try TensorBoardTracker(folder: file + "/logs", resumingAfter: 0) } throws: {
      "\($0)".contains(file + "/logs")
    }
  }

  @Test func aSampleThatIsNotThereIsAnError() throws {
    let sample = try ValidationMedia(
      name: "sample_1", path: folder.path + "/absent.mp4", caption: "")
    #expect(throws: MediaError.self) { try tracker().media([sample], step: 1) }
  }

  // MARK: As TensorBoard reads it

  /// Python with the packages `tensorboard` and `pillow`.
  private static let python = ProcessInfo.processInfo.environment["LTX_TENSORBOARD_PYTHON"]

  private struct Reading: Decodable {
    let scalars: [String: [[Double]]]
    let images: [String: [[Int]]]
    let audio: [String: [[Double]]]
    let text: [String: [[Entry]]]

    enum Entry: Decodable, Equatable {
      case step(Int)
      case text(String)

      init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if let step = try? value.decode(Int.self) {
          self = .step(step)
        } else {
          self = .text(try value.decode(String.self))
        }
      }
    }
  }

  private func read() throws -> Reading {
    let process = Process()
    let output = Pipe()
    process.executableURL = URL(fileURLWithPath: try #require(Self.python))
    process.arguments = [
      tests.appendingPathComponent("Oracles/check_tensorboard.py").path, folder.path,
    ]
    process.standardOutput = output
    try process.run()
    let data = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
    return try JSONDecoder().decode(Reading.self, from: data)
  }

  @Test(
    .enabled(
      if: python != nil, "LTX_TENSORBOARD_PYTHON names no Python with tensorboard and pillow"))
  func tensorBoardReadsARunThatWasKilledAndWentOn() throws {
    let clip = folder.path + "/clip.mp4"
    try SampleFiles.video(clip, width: 96, height: 64, frames: 9)
    let audio = folder.path + "/sound.wav"
    try SampleFiles.audio(audio, seconds: 0.5)
    let image = folder.path + "/picture.png"
    try SampleFiles.image(image, width: 40, height: 30)
    let samples = try [
      ValidationMedia(name: "sample_1", path: clip, caption: "a cat"),
      ValidationMedia(name: "sample_2", path: audio, caption: "rain"),
      ValidationMedia(name: "sample_3", path: image, caption: ""),
    ]

    let first = try tracker()
    for step in 1...5 {
      try first.scalars([("train/loss", Double(step)), ("train/old", 1)], step: step)
    }
    try first.media(samples, step: 5)
    // killed, and resumed after step 3
    let second = try tracker(3)
    try second.text("config", "seed: 42", step: 3)
    for step in 4...6 { try second.scalars([("train/loss", Double(-step))], step: step) }
    try second.media(samples, step: 6)
    try second.finish(.success)

    let reading = try read()
    #expect(
      reading.scalars["train/loss"] == [[1, 1], [2, 2], [3, 3], [4, -4], [5, -5], [6, -6]])
    #expect(reading.scalars["train/old"] == [[1, 1], [2, 1], [3, 1]])
    #expect(
      reading.images == [
        "validation_samples/sample_1": [[6, 192, 128]],
        "validation_samples/sample_3": [[6, 40, 30]],
      ])
    #expect(reading.audio == ["validation_samples/sample_2": [[6, 16000, 8000]]])
    #expect(reading.text["config"] == [[.step(3), .text("seed: 42")]])
    #expect(reading.text["validation_samples/sample_1/prompt"] == [[.step(6), .text("a cat")]])
    #expect(reading.text["run/outcome"] == [[.step(0), .text("success")]])
  }
}
