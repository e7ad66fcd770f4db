import Foundation
import Media
import MediaTestSupport
import Support
import Synchronization
import TestSupport
import Testing

@testable import Captions

@Suite struct CaptionRunTests {
  private let folder: ScratchFolder

  init() throws {
    folder = try ScratchFolder()
    for name in ["a", "b", "c", "d", "e", "f"] { try folder.write("x", to: "\(name).mp4") }
  }

  private func plan(_ change: (inout CaptionOptions) -> Void = { _ in }) throws -> CaptionPlan {
    var options = CaptionOptions(input: folder.path)
    change(&options)
    return try CaptionPlan(options)
  }

  private func run(
    _ plan: CaptionPlan, workers: Int = 1, maxConcurrency: Int = 8,
    _ respond: @escaping @Sendable (MediaClip) throws -> ModelAnswer = {
      ModelAnswer(text: "caption of \($0.name)")
    }
  ) throws -> CaptionSummary {
    let captioner = PretendCaptioner(maxConcurrency: maxConcurrency, respond: respond)
    return try CaptionRun(
      plan, captioner, instructions: CaptionInstructions(), workers: workers
    ).run()
  }

  private func captions() throws -> [String: String] {
    let text = try JSON(
      parsing: Data(contentsOf: URL(fileURLWithPath: folder.file("dataset.json"))))
    return Dictionary(
      uniqueKeysWithValues: (text.array ?? []).map {
        ($0["media_path"]?.string ?? "", $0["caption"]?.string ?? "")
      })
  }

  @Test(arguments: [1, 4]) func everyClipIsCaptionedOnce(workers: Int) throws {
    let seen = Mutex<[String]>([])
    let summary = try run(plan(), workers: workers) { clip in
      seen.withLock { $0.append(clip.name) }
      Thread.sleep(forTimeInterval: clip.name == "a.mp4" ? 0.1 : 0.01)
      return ModelAnswer(text: "<think>x</think> caption of \(clip.name)")
    }
    #expect(summary.captioned == 6 && summary.failures.isEmpty)
    #expect(seen.withLock { $0.sorted() } == ["a", "b", "c", "d", "e", "f"].map { "\($0).mp4" })
    #expect(try captions().allSatisfy { $1 == "caption of \($0)" })
    // The file's order is that of the clips, in whichever order answers come.
    let file = try CaptionFile(path: folder.file("dataset.json"))
    #expect(file.rows.map(\.media) == file.rows.map(\.media).sorted())
    #expect(try plan().clips.isEmpty)
  }

  @Test func answersAreSavedAsTheyCome() throws {
    let path = folder.file("dataset.json")
    let saved = Mutex<[Int]>([])
    _ = try run(plan(), maxConcurrency: 1) { clip in
      // The answer before the last one may not be saved yet.
      Thread.sleep(forTimeInterval: 0.05)
      let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
      saved.withLock { $0.append(text.components(separatedBy: "media_path").count - 1) }
      return ModelAnswer(text: "caption of \(clip.name)")
    }
    #expect(saved.withLock { $0 } == [0, 1, 2, 3, 4, 5])
  }

  @Test func aFailingClipLeavesTheOthersAlone() throws {
    let summary = try run(plan()) { clip in
      switch clip.name {
      case "b.mp4":
        throw MediaError(.decoding, file: clip.path, "is damaged", remedy: "Copy it again.")
      case "c.mp4": return ModelAnswer(text: "I'm sorry, but I can't help with that.")
      case "d.mp4": return ModelAnswer(text: "{\"\(CaptionAnswer.key)\": \"It ends in", isCut: true)
      case "e.mp4": return ModelAnswer(text: " \n")
      default: return ModelAnswer(text: "fine", notes: ["has no audio"])
      }
    }
    #expect(summary.captioned == 3 && summary.interruption == nil)
    let failures = summary.failures.map(\.description)
    #expect(failures.count == 3)
    #expect(failures[0] == "b.mp4: is damaged. Copy it again.")
    #expect(failures[1].hasPrefix("c.mp4: the model refuses: I'm sorry"))
    #expect(failures[2] == "e.mp4: the answer is empty")
    #expect(summary.warnings.map(\.file) == ["d.mp4"])
    #expect(summary.notes == ["a.mp4: has no audio", "f.mp4: has no audio"])
    #expect(try captions()["d.mp4"] == "It ends in")
    #expect(try plan().clips.map(\.name) == ["b.mp4", "c.mp4", "e.mp4"])
  }

  @Test func aFailureOfAllEndsTheRunAtOnce() throws {
    let asked = Mutex(0)
    let summary = try run(plan()) { clip in
      asked.withLock { $0 += 1 }
      if clip.name == "b.mp4" { throw CaptionFailure(Issue("no more"), scope: .run) }
      return ModelAnswer(text: "fine")
    }
    #expect(summary.captioned == 1 && summary.failures.isEmpty)
    #expect(summary.interruption?.problem == "no more")
    #expect(asked.withLock { $0 } == 2)
    #expect(try plan().clips.count == 5)
  }

  @Test func aServerThatFailsAgainAndAgainEndsTheRun() throws {
    let broken = try run(plan()) { clip in
      if clip.name < "b" { return ModelAnswer(text: "fine") }
      throw CaptionFailure(Issue("crashed"), scope: .server)
    }
    #expect(broken.captioned == 1 && broken.failures.count == 3 && broken.interruption != nil)
    let flaky = try run(plan()) { clip in
      if ["b.mp4", "d.mp4", "f.mp4"].contains(clip.name) {
        throw CaptionFailure(Issue("crashed"), scope: .server)
      }
      return ModelAnswer(text: "fine")
    }
    #expect(flaky.captioned == 2 && flaky.failures.count == 3 && flaky.interruption == nil)
  }

  @Test func overridingKeepsACopy() throws {
    _ = try run(plan())
    let before = try captions()
    let summary = try run(plan { $0.replaces = true }) { _ in ModelAnswer(text: "new") }
    #expect(summary.captioned == 6)
    #expect(Set(try captions().values) == ["new"])
    let copy = try #require(summary.backup)
    let kept = try JSON(parsing: Data(contentsOf: URL(fileURLWithPath: copy)))
    #expect(kept.array?.count == before.count)
    #expect(kept.array?.first?["caption"]?.string == "caption of a.mp4")
  }

  @Test func requestsAreLimited() throws {
    let running = Mutex((now: 0, most: 0))
    _ = try run(plan(), workers: 6, maxConcurrency: 2) { _ in
      running.withLock {
        $0.now += 1
        $0.most = max($0.most, $0.now)
      }
      Thread.sleep(forTimeInterval: 0.02)
      running.withLock { $0.now -= 1 }
      return ModelAnswer(text: "fine")
    }
    #expect(running.withLock(\.most) == 2)
  }

  @Test func progressCountsClipsAndTokens() throws {
    var states: [CaptionProgress] = []
    _ = try CaptionRun(plan(), PretendCaptioner(), instructions: CaptionInstructions()).run {
      states.append($0)
    }
    #expect(states.first == CaptionProgress(done: 0, total: 6, clip: "", tokens: nil))
    #expect(states.last == CaptionProgress(done: 6, total: 6, clip: "f.mp4", tokens: nil))
    #expect(states.contains { $0.tokens == 1 && $0.clip == "a.mp4" })
  }
}
