import Foundation
import LTX
import Support
import TestSupport
import Testing

/// Two commands can't write the same output at the same time.
@Suite struct CommandLockTests {

  private func expectRefused(
    _ arguments: [String], in folder: String, environment: [String: String] = [:]
  ) throws {
    let before = try FileManager.default.subpathsOfDirectory(atPath: folder).sorted()
    let result = try Program.run(arguments, in: folder, environment: environment)
    #expect(result.status == 2, "\(arguments)")
    #expect(
      result.errors.contains(
        "another process is writing here (a test, process \(getpid()) on host "),
      "\(arguments): \(result.errors)")
    let errors = result.errors.split(separator: "\n").filter { $0.hasPrefix("error: ") }
    #expect(errors.count == 1, "\(result.errors)")
    let after = try FileManager.default.subpathsOfDirectory(atPath: folder).sorted()
    #expect(
      after.filter { !["stdout.txt", "stderr.txt"].contains($0) }
        == before.filter { !["stdout.txt", "stderr.txt"].contains($0) })
  }

  private func lock(folder: String, share: WorkShare? = nil) throws -> OutputLock {
    try OutputLock(folder: folder, purpose: "a test", share: share) { Issue.record("\($0)") }
  }

  private func lock(file: String) throws -> OutputLock {
    try OutputLock(file: file, purpose: "a test") { Issue.record("\($0)") }
  }

  @Test func aTrainingRunHasItsFolderToItselfAlsoWhereItWouldOverwrite() throws {
    let prepared = try PreparedTraining.shared.get()
    let configuration = try prepared.configure("locked", steps: 2)
    let place = try Workshop()
    #expect(
      try Program.run(["train", configuration, "--threads", "1"], in: place.path).status == 0)
    let held = try lock(folder: "\(prepared.path)/locked")
    try expectRefused(["train", configuration, "--set", "optimization.steps=3"], in: place.path)
    try expectRefused(["train", configuration, "--overwrite"], in: place.path)
    #expect(try Program.run(["train", configuration, "--dry-run"], in: place.path).status == 0)
    held.release()
    let more = try Program.run(
      ["train", configuration, "--set", "optimization.steps=3", "--threads", "1"], in: place.path)
    #expect(more.status == 0 && more.output.contains("resuming after step 2"), "\(more.errors)")
    #expect(!FileManager.default.fileExists(atPath: "\(prepared.path)/locked/.ltx.lock"))
  }

  @Test func twoRunsAtOnceOneOfThemIsRefusedAndNamesTheOther() throws {
    let prepared = try PreparedTraining.shared.get()
    let configuration = try prepared.configure("twice", steps: 400)
    let places = try (Workshop(), Workshop())
    let first = try Program.start(["train", configuration, "--threads", "1"], in: places.0.path)
    while first.isRunning,
      !FileManager.default.fileExists(atPath: "\(prepared.path)/twice/.ltx.lock")
    {
      usleep(5000)
    }
    usleep(50_000)
    let second = try Program.run(["train", configuration], in: places.1.path)
    #expect(second.status == 2)
    #expect(
      second.errors.contains("(ltx train, process \(first.processIdentifier) on host "),
      "\(second.errors)")
    kill(first.processIdentifier, SIGKILL)
    first.waitUntilExit()
    // The lock ended with its process.
    let third = try Program.run(
      ["train", configuration, "--set", "optimization.steps=2", "--threads", "1", "--overwrite"],
      in: places.1.path)
    #expect(third.status == 0, "\(third.errors)")
  }

  @Test func aCacheHasOneWriterOrSeveralThatShareIt() throws {
    let prepared = try PreparedTraining.shared.get()
    let place = try Workshop()
    let arguments = [
      "preprocess", "\(prepared.path)/dataset.json", "--resolution-buckets", "64x64x9",
      "--model-path",
      prepared.model,
      "--text-encoder-path", prepared.textEncoder, "--output-dir", "\(place.path)/cache",
      "--threads", "1",
    ]
    let held = try lock(folder: "\(place.path)/cache")
    try expectRefused(arguments, in: place.path)
    try expectRefused(arguments, in: place.path, environment: ["RANK": "0", "WORLD_SIZE": "2"])
    held.release()
    let other = try lock(folder: "\(place.path)/cache", share: .init(index: 1, count: 2))
    try expectRefused(arguments, in: place.path)
    try expectRefused(arguments, in: place.path, environment: ["RANK": "1", "WORLD_SIZE": "2"])
    let share = try Program.run(
      arguments, in: place.path, environment: ["RANK": "0", "WORLD_SIZE": "2"])
    #expect(share.status == 0, "\(share.errors)")
    other.release()
  }

  @Test func scenesDecodedFilesReferencesAndLoRAsHaveOneWriterToo() throws {
    let prepared = try PreparedTraining.shared.get()
    let place = try Workshop()
    let clip = try #require(try Clips.all().first)
    let lora = Fixtures.model("lora_all")
    let folder = try lock(folder: "\(place.path)/out")
    try expectRefused(["split", clip, "out"], in: place.path)
    try expectRefused(
      ["decode", "\(prepared.path)/.precomputed", "out", "--model-path", prepared.model],
      in: place.path)
    folder.release()
    let dataset = try lock(folder: place.path)
    try place.write("d.json", #"[{"caption": "a", "media_path": "\#(clip)"}]"#)
    try expectRefused(["reference", "d.json", "--output-dir", "references"], in: place.path)
    dataset.release()
    let file = try lock(file: "\(place.path)/new.safetensors")
    try expectRefused(["lora", "merge", lora, "--output", "new.safetensors"], in: place.path)
    try expectRefused(["lora", "scale", lora, "new.safetensors", "--by", "2"], in: place.path)
    file.release()
    #expect(
      try Program.run(["lora", "merge", lora, "--output", "new.safetensors"], in: place.path).status
        == 0)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place.path).filter {
        $0.hasSuffix(".lock")
      } == [])
  }
}
