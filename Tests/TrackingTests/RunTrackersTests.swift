import Foundation
import Support
import Synchronization
import Testing

@testable import Tracking

@Suite struct RunTrackersTests {
  /// Records its calls, and fails at chosen steps.
  private final class Recorder: RunTracker {
    let name: String
    let failing: Set<Int>
    let calls = Mutex<[String]>([])

    init(_ name: String, failing: Set<Int> = []) {
      self.name = name
      self.failing = failing
    }

    private func record(_ call: String, _ step: Int) throws {
      if failing.contains(step) { throw Support.Issue("can't reach the server") }
      calls.withLock { $0.append("\(call) \(step)") }
    }

    func scalars(_ values: [(name: String, value: Double)], step: Int) throws {
      try record("scalars", step)
    }
    func text(_ name: String, _ text: String, step: Int) throws { try record("text", step) }
    func image(_ name: String, _ data: Data, width: Int, height: Int, step: Int) throws {
      try record("image", step)
    }
    func media(_ samples: [ValidationMedia], step: Int) throws { try record("media", step) }
    func finish(_ outcome: RunOutcome) throws { try record("finish \(outcome.rawValue)", 0) }
  }

  private final class Warnings: Sendable {
    let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
  }

  @Test func everyTrackerGetsEverything() {
    let trackers = [Recorder("A"), Recorder("B")]
    let warnings = Warnings()
    let all = RunTrackers(trackers) { warnings.add($0) }
    all.scalars([("train/loss", 1)], step: 1)
    all.text("prompt", "a cat", step: 2)
    all.image("sample", Data(), width: 1, height: 1, step: 3)
    all.media([], step: 4)
    all.finish(.interrupted)
    for tracker in trackers {
      #expect(
        tracker.calls.withLock { $0 } == [
          "scalars 1", "text 2", "image 3", "media 4", "finish interrupted 0",
        ])
    }
    #expect(warnings.lines.withLock { $0 }.isEmpty)
    #expect(all.failureCounts.isEmpty)
  }

  @Test func aFailingTrackerIsReportedOnceAndRetried() {
    let bad = Recorder("Bad", failing: [2, 3])
    let good = Recorder("Good")
    let warnings = Warnings()
    let all = RunTrackers([bad, good]) { warnings.add($0) }
    for step in 1...4 { all.scalars([], step: step) }
    #expect(bad.calls.withLock { $0 } == ["scalars 1", "scalars 4"])
    #expect(good.calls.withLock { $0 }.count == 4)
    #expect(
      warnings.lines.withLock { $0 }
        == ["Bad: can't reach the server; training continues, and further failures are counted"])
    #expect(all.failureCounts == ["Bad": 2])
    all.finish(.success)
    #expect(
      warnings.lines.withLock { $0 }.last == "Bad failed 2 times; its record of this run has gaps")
  }

  @Test(arguments: [
    ("a.png", ValidationMedia.Kind.image), ("a.b.JPG", .image), ("x/a.mp4", .video),
    ("a.wav", .audio),
  ])
  func kindsOfMediaAreReadFromTheirNames(path: String, kind: ValidationMedia.Kind) throws {
    #expect(try ValidationMedia(name: "sample", path: path, caption: "").kind == kind)
  }

  @Test func otherFilesCannotBeShown() {
    #expect(
      throws: Support.Issue(
        [.file("a.txt")], "is not an image, video or audio file that can be shown")
    ) {
      try ValidationMedia(name: "sample", path: "a.txt", caption: "")
    }
  }
}
