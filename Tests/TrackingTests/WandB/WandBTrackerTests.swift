import Foundation
import Support
import Synchronization
import Testing

@testable import Tracking

@Suite struct WandBTrackerTests {
  private let folder = TemporaryFolder()
  private let notices = Notices()

  /// The messages shown to the user.
  final class Notices: Sendable {
    private let lines: Mutex<[String]> = Mutex([])
    var all: [String] { lines.withLock { $0 } }
    func add(_ line: String) { lines.withLock { $0.append(line) } }
  }

  private static let quick = WandBSender.Pace(
    first: 0.02, later: 0.02, heartbeat: 30, outage: 0.5, longestDelay: 0.02, finish: 10, rows: 1000
  )

  private func options(resume id: String? = nil, project: String = "films") -> WandBTracker.Options
  {
    WandBTracker.Options(
      project: project, name: "a name", tags: ["one", "two"],
      configuration: Data(#"{"optimization": {"steps": 3}, "seed": 7}"#.utf8), folder: folder.path,
      resumeID: id)
  }

  private func online(
    _ server: WandBStandIn, resume id: String? = nil, project: String = "films",
    pace: WandBSender.Pace = quick
  ) throws -> WandBTracker {
    let environment = ["WANDB_BASE_URL": server.address + "/", "WANDB_API_KEY": WandBStandIn.key]
    let notices = notices
    return try WandBTracker(
      options(resume: id, project: project), settings: WandBSettings(environment: environment),
      environment: environment, pace: pace, notice: { notices.add($0) })
  }

  private func steps(_ run: WandBStandIn.Run?) -> [Int?] {
    (run?.rows.sorted { $0.key < $1.key } ?? []).map {
      try? JSON(parsing: Data($0.value.utf8))["_step"]?.int
    }
  }

  /// Records three steps, and a validation with a video, an audio file and an image.
  private func train(_ tracker: WandBTracker, steps: ClosedRange<Int> = 1...3) throws {
    for step in steps {
      try tracker.scalars(
        [("train/loss", 1 / Double(step)), ("train/learning_rate", 1e-4)], step: step)
      if step == 2 {
        try tracker.scalars([("validation/loss", 0.5)], step: step)
        try tracker.media(samples(), step: step)
      }
    }
  }

  private func samples() throws -> [ValidationMedia] {
    // Written once, because the encoder's output differs between calls.
    if !FileManager.default.fileExists(atPath: folder.path + "/p.png") {
      try SampleFiles.video(folder.path + "/a b.mp4", width: 64, height: 32, frames: 3)
      try SampleFiles.audio(folder.path + "/s.wav", seconds: 0.1)
      try SampleFiles.image(folder.path + "/p.png", width: 40, height: 30)
    }
    return [
      try ValidationMedia(name: "sample 1", path: folder.path + "/a b.mp4", caption: "A \"cat\""),
      try ValidationMedia(name: "sample_2", path: folder.path + "/s.wav", caption: "rain"),
      try ValidationMedia(name: "sample_3", path: folder.path + "/p.png", caption: "snow"),
    ]
  }

  // MARK: Online

  @Test func aRunReachesTheServerWhole() throws {
    let server = try WandBStandIn()
    let tracker = try online(server)
    try train(tracker)
    try tracker.finish(.success)

    let run = try #require(server.run(tracker.runID))
    #expect(tracker.page == "\(server.address)/somebody/films/runs/\(tracker.runID)")
    #expect(run.displayName == "a name")
    #expect(run.tags == ["one", "two"])
    #expect(
      try JSON(parsing: run.config) == [
        "optimization": ["value": ["steps": 3]], "seed": ["value": 7],
      ])
    #expect(run.rows.keys.sorted() == [0, 1, 2])
    #expect(steps(run) == [1, 2, 3])
    #expect(run.exitCode == 0)

    let row = try JSON(parsing: Data(#require(run.rows[1]).utf8))
    #expect(row["train/loss"]?.double == 0.5)
    #expect(row["validation/loss"]?.double == 0.5)
    #expect(row["_runtime"]?.double ?? -1 >= 0)
    let video = try #require(row["validation_samples_video"]?["videos"]?.array?.first)
    #expect(video["_type"] == "video-file")
    #expect(video["caption"] == "A \"cat\"")
    #expect(row["validation_samples_video"]?["_type"] == "videos")
    #expect(row["validation_samples_video"]?["captions"] == ["A \"cat\""])
    #expect(row["validation_samples_audio"]?["_type"] == "audio")
    let image = row["validation_samples_image"]
    #expect(image?["_type"] == "images/separated")
    #expect(image?["width"] == 40)
    #expect(image?["height"] == 30)

    // The files that the row names have been uploaded completely.
    let name = try #require(video["path"]?.string)
    let original = try Data(contentsOf: URL(fileURLWithPath: folder.path + "/a b.mp4"))
    #expect(run.files[name] == original)
    #expect(video["size"] == JSON(original.count))
    #expect(name.hasPrefix("media/videos/sample_1_2_"))
    #expect(run.uploaded == Set(run.files.keys))
    #expect(
      Set(run.files.keys.filter { !$0.hasPrefix("media/") }) == [
        "config.yaml", "wandb-metadata.json", "wandb-summary.json",
      ])
    #expect(run.files.count == 6)
    let summary = try JSON(parsing: run.summary)
    #expect(summary["train/loss"]?.double == 1.0 / 3)
    #expect(summary["validation/loss"]?.double == 0.5)
    #expect(notices.all.isEmpty)
  }

  @Test(arguments: [(.success, 0), (.failed, 1), (.interrupted, 255)] as [(RunOutcome, Int)])
  func theOutcomeIsTheExitCode(outcome: RunOutcome, code: Int) throws {
    let server = try WandBStandIn()
    let tracker = try online(server)
    try tracker.finish(outcome)
    #expect(server.run(tracker.runID)?.exitCode == code)
  }

  @Test func aResumedRunContinuesFromTheServersStep() throws {
    let server = try WandBStandIn()
    let first = try online(server)
    try train(first, steps: 1...5)
    try first.finish(.interrupted)
    // Its checkpoint is from step 3, so two steps are repeated.
    let second = try online(server, resume: first.runID)
    #expect(second.runID == first.runID)
    try train(second, steps: 4...7)
    try second.finish(.success)
    let run = server.run(first.runID)
    #expect(run?.rows.keys.sorted() == Array(0..<7))
    #expect(steps(run) == [1, 2, 3, 4, 5, 6, 7])
    #expect(run?.exitCode == 0)
    #expect(first.folder != second.folder)
  }

  @Test func aRunThatTheServerDoesNotKnowIsMadeOnResume() throws {
    let server = try WandBStandIn()
    let tracker = try online(server, resume: "old12345")
    try train(tracker, steps: 4...5)
    try tracker.finish(.success)
    #expect(steps(server.run("old12345")) == [4, 5])
  }

  // MARK: Trouble

  @Test func passingTroubleLosesNothing() throws {
    let server = try WandBStandIn()
    let tracker = try online(server)
    server.setTrouble(WandBStandIn.Trouble(stream: [500, 0, 429, 503]))
    try train(tracker)
    try tracker.finish(.success)
    #expect(steps(server.run(tracker.runID)) == [1, 2, 3])
    #expect(server.run(tracker.runID)?.exitCode == 0)
    #expect(notices.all.isEmpty)
  }

  @Test(arguments: [403, 500])
  func hopelessTroubleIsSaidOnceAndTheFolderHasAll(status: Int) throws {
    let server = try WandBStandIn()
    let tracker = try online(server)
    server.setTrouble(WandBStandIn.Trouble(stream: Array(repeating: status, count: 10_000)))
    try tracker.scalars([("train/loss", 1)], step: 1)
    try tracker.scalars([("train/loss", 0.5)], step: 2)
    Thread.sleep(forTimeInterval: 1)
    try tracker.scalars([("train/loss", 0.25)], step: 3)
    try tracker.finish(.success)
    #expect(notices.all.count == 1)
    #expect(notices.all.first?.contains("wandb sync \(tracker.folder)") == true)
    #expect(server.run(tracker.runID)?.exitCode == nil)
    let file = try Data(
      contentsOf: URL(fileURLWithPath: "\(tracker.folder)/run-\(tracker.runID).wandb"))
    for loss in ["1.0", "0.5", "0.25"] {
      // The item is field 16, its length, and the value.
      let item = Data("train/loss".utf8) + [0x82, 1, UInt8(loss.utf8.count)] + Data(loss.utf8)
      #expect(file.range(of: item) != nil)
    }
  }

  @Test func trainingNeverWaitsForASlowServer() throws {
    let server = try WandBStandIn()
    var pace = Self.quick
    pace.finish = 1
    let tracker = try online(server, pace: pace)
    server.setTrouble(WandBStandIn.Trouble(delay: 30))
    let begin = Date()
    for step in 1...200 { try tracker.scalars([("train/loss", 1)], step: step) }
    try tracker.finish(.success)
    #expect(Date().timeIntervalSince(begin) < 15)
    #expect(notices.all.contains { $0.contains("within 1 s") && $0.contains("wandb sync") })
  }

  @Test func aQueueThatOverflowsIsGivenUp() throws {
    let server = try WandBStandIn()
    var pace = Self.quick
    pace.first = 60
    pace.rows = 10
    let tracker = try online(server, pace: pace)
    for step in 1...30 { try tracker.scalars([("train/loss", 1)], step: step) }
    try tracker.finish(.success)
    #expect(notices.all.count == 1)
    #expect(notices.all.first?.contains("more than 10 rows wait") == true)
  }

  @Test func aRefusedFileIsNamedAndTheRunContinues() throws {
    let server = try WandBStandIn()
    let tracker = try online(server)
    server.setTrouble(WandBStandIn.Trouble(upload: 403))
    try train(tracker)
    try tracker.finish(.success)
    let run = server.run(tracker.runID)
    #expect(steps(run) == [1, 2, 3])
    #expect(run?.exitCode == 0)
    #expect(run?.uploaded == [])
    #expect(notices.all.count == 2)
    #expect(notices.all.first?.contains("can't be uploaded") == true)
    #expect(notices.all.last?.contains("6 files were not taken") == true)
  }

  // MARK: Before training

  @Test func aWrongKeyIsAnErrorBeforeTraining() throws {
    let server = try WandBStandIn()
    let environment = ["WANDB_BASE_URL": server.address, "WANDB_API_KEY": "wrong"]
    let error = #expect(throws: Support.Issue.self) {
      try WandBTracker.start(options(), environment: environment, notice: { _ in })
    }
    #expect(error?.description.contains("refuses the key") == true)
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/wandb"))
  }

  @Test func aForbiddenProjectIsAnErrorBeforeTraining() throws {
    let server = try WandBStandIn()
    let error = #expect(throws: Support.Issue.self) { try online(server, project: "forbidden") }
    #expect(error?.description.contains("permission denied") == true)
  }

  @Test func anAddressThatNobodyAnswersIsAnErrorBeforeTraining() throws {
    let server = try WandBStandIn()
    let environment = ["WANDB_BASE_URL": server.address, "WANDB_API_KEY": WandBStandIn.key]
    server.stop()
    let error = #expect(throws: Support.Issue.self) {
      try WandBTracker.start(options(), environment: environment, notice: { _ in })
    }
    #expect(error?.description.contains("WANDB_MODE=offline") == true)
  }

  @Test(arguments: ["", "a/b", String(repeating: "a", count: 129)])
  func aProjectThatIsNoNameIsAnError(project: String) {
    let error = #expect(throws: Support.Issue.self) {
      try WandBTracker.start(
        options(project: project), environment: ["WANDB_MODE": "offline"], notice: { _ in })
    }
    #expect(error?.description.contains("project '\(project)'") == true)
  }

  // MARK: Offline

  @Test func offlineARunIsAFolder() throws {
    let environment = ["WANDB_MODE": "offline"]
    let tracker = try #require(
      try WandBTracker.start(options(), environment: environment, notice: { _ in }))
    try train(tracker)
    try tracker.text("prompts", "a < b & c", step: 3)
    try tracker.image("grid", Data([0xFF, 0xD8, 0xFF]), width: 4, height: 2, step: 3)
    try tracker.finish(.success)
    #expect(tracker.page == nil)
    let name = (tracker.folder as NSString).lastPathComponent
    #expect(name.wholeMatch(of: /offline-run-\d{8}_\d{6}-[a-z0-9]{8}/) != nil)
    #expect(tracker.folder == "\(folder.path)/wandb/\(name)")
    let files = try FileManager.default.subpathsOfDirectory(atPath: tracker.folder + "/files")
    #expect(
      files.filter { $0.hasSuffix(".mp4") || $0.hasSuffix(".wav") || $0.hasSuffix(".png") }.count
        == 3)
    let page = try #require(files.first { $0.hasSuffix(".html") })
    #expect(
      try String(contentsOfFile: "\(tracker.folder)/files/\(page)", encoding: .utf8).contains(
        "a &lt; b &amp; c"))
    let summary = try JSON(
      parsing:
        Data(contentsOf: URL(fileURLWithPath: tracker.folder + "/files/wandb-summary.json")))
    #expect(summary["_step"] == 3)
    #expect(summary["grid"]?["format"] == "jpeg")
    #expect(summary["prompts"]?["_type"] == "html-file")
    let config = try String(contentsOfFile: tracker.folder + "/files/config.yaml", encoding: .utf8)
    #expect(config.contains("\"optimization\":\n  value: {\"steps\":3}\n"))
  }

  /// The real client syncs our folder to the same data that we send.
  @Test(.enabled(if: PythonClient.executable != nil, Comment(rawValue: PythonClient.isMissing)))
  func wandbSyncSendsTheFolderAsWeWould() throws {
    let server = try WandBStandIn()
    let online = try online(server)
    try train(online)
    try online.finish(.failed)
    let offline = try #require(
      try WandBTracker.start(options(), environment: ["WANDB_MODE": "offline"], notice: { _ in }))
    try train(offline)
    try offline.finish(.failed)
    let (status, output) = try PythonClient.run(
      ["-m", "wandb", "sync", offline.folder],
      environment: ["WANDB_BASE_URL": server.address, "WANDB_API_KEY": WandBStandIn.key],
      in: folder.path)
    #expect(status == 0, "\(output)")
    let synced = try #require(server.run(offline.runID), "\(output)")
    let sent = try #require(server.run(online.runID))
    #expect(synced.displayName == "a name")
    #expect(synced.tags == ["one", "two"])
    #expect(try JSON(parsing: synced.config)["optimization"] == ["value": ["steps": 3]])
    #expect(synced.exitCode == 1)
    #expect(synced.rows.count == 3)
    for number in 0..<3 {
      #expect(try values(synced.rows[number]) == values(sent.rows[number]))
    }
    #expect(try values(synced.summary) == values(sent.summary))
    #expect(Set(sent.files.keys).subtracting(synced.files.keys) == [])
    for (name, data) in sent.files where name.hasPrefix("media/") {
      #expect(synced.files[name] == data)
    }
  }

  /// The official trainer's logging stores the same data in our stand-in as ours does.
  @Test(.enabled(if: PythonClient.executable != nil, Comment(rawValue: PythonClient.isMissing)))
  func theRealClientSpeaksWithTheStandIn() throws {
    let server = try WandBStandIn()
    _ = try samples()
    let script = """
      import wandb
      run = wandb.init(project="films", name="a name", tags=["one", "two"], id="real1234",
                       config={"optimization": {"steps": 3}, "seed": 7})
      run.log({"train/loss": 1.0, "train/learning_rate": 1e-4}, step=1)
      run.log({"train/loss": 0.5, "train/learning_rate": 1e-4}, step=2)
      run.log({"validation_samples": [wandb.Video("a b.mp4", caption="cat", format="mp4")]}, step=2)
      run.finish()
      """
    let (status, output) = try PythonClient.run(
      ["-c", script],
      environment: ["WANDB_BASE_URL": server.address, "WANDB_API_KEY": WandBStandIn.key],
      in: folder.path)
    #expect(status == 0, "\(output)")
    let tracker = try online(server)
    try tracker.scalars([("train/loss", 1), ("train/learning_rate", 1e-4)], step: 1)
    try tracker.scalars([("train/loss", 0.5), ("train/learning_rate", 1e-4)], step: 2)
    try tracker.media(
      [ValidationMedia(name: "sample_1", path: folder.path + "/a b.mp4", caption: "cat")], step: 2)
    try tracker.finish(.success)
    let (real, ours) = (
      try #require(server.run("real1234")), try #require(server.run(tracker.runID))
    )
    #expect(real.exitCode == 0)
    #expect(real.rows.count == ours.rows.count)
    #expect(try values(real.rows[0]) == values(ours.rows[0]))
    // Media paths contain a name: ours that of the sample, theirs that of the column.
    func withoutPath(_ row: String?) throws -> [String: JSON]? {
      let row = try values(row.map { $0.replacing(/media\/videos\/[^"]*/, with: "path") })
      return row
    }
    #expect(try withoutPath(real.rows[1]) == withoutPath(ours.rows[1]))
    #expect(try withoutPath(real.summary) == withoutPath(ours.summary))
  }

  /// Offline, each start writes a folder; uploaded one after the other, they form one run.
  @Test(.enabled(if: PythonClient.executable != nil, Comment(rawValue: PythonClient.isMissing)))
  func foldersOfAResumedRunMakeOneRun() throws {
    let server = try WandBStandIn()
    let environment = ["WANDB_MODE": "offline"]
    let first = try #require(
      try WandBTracker.start(options(), environment: environment, notice: { _ in }))
    try train(first, steps: 1...5)
    // The process was killed, so nothing is finished.
    let second = try #require(
      try WandBTracker.start(
        options(resume: first.runID), environment: environment, notice: { _ in }))
    try train(second, steps: 4...7)
    try second.finish(.success)
    for tracker in [first, second] {
      let (status, output) = try PythonClient.run(
        ["-m", "wandb", "sync", tracker.folder],
        environment: ["WANDB_BASE_URL": server.address, "WANDB_API_KEY": WandBStandIn.key],
        in: folder.path)
      #expect(status == 0, "\(output)")
    }
    #expect(steps(server.run(first.runID)) == [1, 2, 3, 4, 5, 6, 7])
    #expect(server.run(first.runID)?.exitCode == 0)
  }

  /// The values of a row that don't differ between runs.
  private func values(_ row: String?) throws -> [String: JSON]? {
    try JSON(parsing: Data((row ?? "null").utf8)).object?.dictionary.filter {
      !["_timestamp", "_runtime", "_wandb"].contains($0.key)
    }
  }

  @Test func disabledThereIsNothing() throws {
    #expect(
      try WandBTracker.start(options(), environment: ["WANDB_MODE": "disabled"], notice: { _ in })
        == nil)
    #expect(!FileManager.default.fileExists(atPath: folder.path + "/wandb"))
  }
}
