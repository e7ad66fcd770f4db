import Foundation
import Testing

/// `Scripts/gpu-check`, on the pretend GPU at small sizes.
@Suite struct GPUCheckTests {
  private static let scripts = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Scripts").path

  /// The most valuable parts first.
  private static let parts = [
    "machine", "constants", "tiny", "model", "train_recompute", "train_host", "train_file",
    "train_keep", "train_int8", "vae", "text_encoder", "train_longer", "resume", "memory",
  ]

  private struct Line: Decodable {
    let part, measurement, result: String?
    let ok: Bool?
    let steps: Int?
    let lossDifference, stepSeconds: Double?
    let peakBytes: Int?
  }

  private static func run(
    _ script: String, _ arguments: [String], in folder: String, environment: [String: String] = [:]
  ) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: script)
    process.arguments = arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder)
    process.environment = ProcessInfo.processInfo.environment.merging([
      "OMP_WAIT_POLICY": "passive", "LTX": Program.path,
    ]) { $1 }.merging(environment) { $1 }
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, text)
  }

  private static func lines(_ folder: String) throws -> [Line] {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try String(contentsOfFile: "\(folder)/report.jsonl", encoding: .utf8)
      .split(separator: "\n").map { try decoder.decode(Line.self, from: Data($0.utf8)) }
  }

  @Test func everyPartRunsOnThePretendGPU() throws {
    let workshop = try Workshop()
    let work = "\(workshop.path)/work"
    let (status, output) = try Self.run(
      "\(Self.scripts)/gpu-check",
      ["--small", "--libtorch", try PretendGPU.folder.get(), "--out", "out", "--work", work],
      in: workshop.path)
    #expect(status == 0, "\(output)")
    let lines = try Self.lines("\(workshop.path)/out")
    let parts = lines.filter { $0.part != nil }
    #expect(parts.compactMap(\.part) == Self.parts)
    #expect(parts.allSatisfy { $0.result == "ok" }, "\(output)")
    let tiny = lines.filter { $0.measurement?.hasPrefix("tiny ") == true }
    #expect(tiny.count == 6)
    #expect(tiny.allSatisfy { $0.ok == true && $0.steps == 3 && ($0.lossDifference ?? 1) < 0.02 })
    let trained = lines.filter { $0.measurement?.hasPrefix("train-") == true }
    #expect(trained.count == 6)
    #expect(trained.allSatisfy { $0.ok == true && $0.steps == 3 && ($0.peakBytes ?? 0) > 0 })
    let kept = trained.first { $0.measurement == "train-keep" }?.peakBytes ?? 0
    let recomputed = trained.first { $0.measurement == "train-recompute" }?.peakBytes ?? 0
    #expect(kept > recomputed)
    let streamed = trained.first { $0.measurement == "train-file" }?.peakBytes ?? .max
    #expect(streamed < recomputed)
    for name in ["video_vae_encode", "video_vae_decode", "text_encoder", "attention", "doctor"] {
      #expect(lines.contains { $0.measurement == name }, "\(name)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: work).isEmpty)
  }

  @Test func partsThatHaveNoTimeLeftAreSkipped() throws {
    let workshop = try Workshop()
    let (status, output) = try Self.run(
      "\(Self.scripts)/gpu-check",
      ["--small", "--minutes", "0", "--out", "out", "--work", "work"], in: workshop.path)
    #expect(status == 0 && output.contains("0 parts failed, \(Self.parts.count) skipped"))
    let lines = try Self.lines("\(workshop.path)/out")
    #expect(lines.compactMap(\.part) == Self.parts)
    #expect(lines.allSatisfy { $0.result == "skipped" })
  }

  @Test func aGPUThatIsNotThereFailsAndSaysSo() throws {
    let workshop = try Workshop()
    let (status, _) = try Self.run(
      "\(Self.scripts)/gpu-check",
      [
        "--small", "--device", "cuda:5", "--libtorch", try PretendGPU.folder.get(), "--out", "out",
        "--work", workshop.path, "--part", "machine",
      ], in: workshop.path, environment: ["LD_LIBRARY_PATH": try PretendGPU.folder.get()])
    #expect(status == 1)
    let text = try String(contentsOfFile: "\(workshop.path)/out/doctor.json", encoding: .utf8)
    #expect(text.contains("cuda:5 does not exist"))
  }

  /// A comparison that can't fail would prove nothing.
  @Test func runsThatDifferAreFound() throws {
    let workshop = try Workshop()
    for (name, loss) in [("a", 1.0), ("b", 1.001), ("c", 1.0)] {
      try FileManager.default.createDirectory(
        atPath: "\(workshop.path)/\(name)", withIntermediateDirectories: true)
      try workshop.write(
        "\(name)/metrics.jsonl", #"{"step": 1, "loss": \#(loss), "gradient_norm": 1.0}"# + "\n")
    }
    func compare(_ other: String, _ tolerance: String) throws -> Int32 {
      try Self.run(
        "\(Self.scripts)/gpu-check.py", ["compare", "test", "a", other, tolerance],
        in: workshop.path
      ).status
    }
    #expect(try compare("b", "1e-4") == 1)
    #expect(try compare("b", "1e-2") == 0)
    #expect(try compare("c", "1e-9") == 0)
  }

  @Test(arguments: [
    (["--part"], 2, "--part needs a value"), (["--fast"], 2, "unknown argument: --fast"),
    (["--minutes", "ten"], 2, "--minutes must be an integer from 0 to 9999 (got ten)"),
    (["--help"], 0, "Scripts/gpu-check --pack DIR"),
  ])
  func argumentsAreChecked(_ arguments: [String], _ status: Int32, _ text: String) throws {
    let workshop = try Workshop()
    let result = try Self.run("\(Self.scripts)/gpu-check", arguments, in: workshop.path)
    #expect(result.status == status)
    #expect(result.output.contains(text))
  }

  /// The folder has libraries in place of FFmpeg's, with which the program starts and refuses media.
  @Test func aPackedProgramRunsWithoutFFmpeg() throws {
    let workshop = try Workshop()
    let packed = "\(workshop.path)/packed"
    let (status, output) = try Self.run(
      "\(Self.scripts)/gpu-check", ["--pack", packed], in: workshop.path)
    #expect(status == 0, "\(output)")
    let environment = ["LD_LIBRARY_PATH": "\(packed)/without-ffmpeg"]
    // Unpacks the program, and leaves FFmpeg out of what is needed.
    let machine = try Self.run(
      "\(packed)/gpu-check",
      ["--part", "machine", "--device", "cpu", "--out", "out", "--work", workshop.path],
      in: workshop.path,
      environment: environment.merging(["LTX": "", "without_ffmpeg": "--without-ffmpeg"]) { $1 })
    #expect(machine.status == 0, "\(machine.output)")
    #expect(machine.output.contains("\"name\": \"processor\""), "\(machine.output)")
    let doctor = try Self.run(
      "\(packed)/ltx", ["doctor"], in: workshop.path, environment: environment)
    #expect(doctor.status == 1)
    #expect(
      doctor.output.contains("problem FFmpeg           libavcodec has version 0, but"),
      "\(doctor.output)")
    let model = try Self.run(
      "\(packed)/ltx", ["tiny-model", "model"], in: workshop.path, environment: environment)
    #expect(model.status == 0, "\(model.output)")
    let split = try Self.run(
      "\(packed)/ltx", ["split", try Clips.all()[0], "scenes"], in: workshop.path,
      environment: environment)
    #expect(split.status == 1)
    #expect(
      split.output.contains("was packed by Scripts/gpu-check without FFmpeg"), "\(split.output)")
  }
}
