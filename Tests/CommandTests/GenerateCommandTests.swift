import Foundation
import LTX
import Media
import Support
import Testing

/// `ltx generate`, run as a user runs it: requests that are rejected before a model is loaded, and
/// interruption by Ctrl-C.
@Suite(.serialized) struct GenerateCommandTests {
  /// A tiny model, an image, a silent clip and a tone, created once for the suite.
  private final class Prepared: @unchecked Sendable {  // nothing of it changes
    static let shared = Result { try Prepared() }

    let path: String
    private let workshop: Workshop

    private init() throws {
      workshop = try Workshop()
      path = workshop.path
      #expect(try Program.run(["tiny-model", "model", "--seed", "3"], in: path).status == 0)
      let gray = RGBFrame(bytes: [UInt8](repeating: 120, count: 3 * 64 * 64), width: 64, height: 64)
      try gray.writePNG(to: "\(path)/image.png")
      let writer = try VideoWriter(
        path: "\(path)/clip.mp4", width: 64, height: 64, frameRate: Rational(24),
        quality: .init(preset: "superfast"))
      for _ in 0..<17 { try writer.append(gray) }
      try writer.finish()
      let tone = (0..<16000).map { Float(sin(Double($0) * 0.1)) }
      try WAVWriter.write([tone, tone], sampleRate: 16000, to: "\(path)/tone.wav")
      try workshop.write("text.mp4", "this is not a video")
      try workshop.write("empty.png", "")
      try workshop.write("hole.txt", "a ball\r\n\r\na house\r\n")
      try workshop.write("binary.txt", "a ball\0")
      try workshop.write("windows.txt", "\u{FEFF}a ball\r\na house\r\n")
      try FileManager.default.createDirectory(
        atPath: "\(path)/folder", withIntermediateDirectories: false)
      try FileManager.default.createDirectory(
        atPath: "\(path)/results", withIntermediateDirectories: false)
    }

    /// The smallest and fastest request.
    func arguments(_ more: [String]) -> [String] {
      [
        "generate", "--model-path", "model/\(TinyModel.checkpointName)", "--text-encoder-path",
        "model/\(TinyModel.textEncoderName)", "--width", "64", "--height", "64", "--steps", "1",
        "--cfg-scale", "1",
        "--stg-scale", "0", "--audio-cfg-scale", "1", "--audio-stg-scale", "0",
      ] + more
    }
  }

  @Test(arguments: [
    (["--frame-rate", "1e-300"], "--frame-rate: must be between"),
    (["--num-frames", "0"], "--num-frames: must be of the form"),
    (["--image", "folder"], "--image: folder: is a folder"),
    (["--image", "empty.png"], "--image: empty.png: is empty (0 bytes)"),
    (["--source", "clip.mp4", "--start-time", "5", "--end-time", "6"], "--start-time: 5.0 to 6.0"),
    (["--source", "text.mp4", "--mask", "image.png"], "--source: text.mp4: not a readable"),
    (
      ["--source", "clip.mp4", "--mask", "image.png", "--output", "clip.mp4"],
      "is the input clip.mp4"
    ),
    (["--sound", "clip.mp4"], "--sound: clip.mp4: holds no audio"),
    (["--sound", "tone.wav", "--sound-start-time", "nan"], "--sound-start-time: must be"),
    (
      ["--sound", "tone.wav", "--output", "tone.wav"],
      "--sound: tone.wav: the result would be a copy"
    ),
    (["--lora", "image.png"], "--lora: image.png"),
    (["--output", "folder/"], "--output: folder/"),
    (["--output", "nowhere/out.mp4"], "nowhere does not exist"),
    (["--output", "/proc/out.mp4"], "/proc"),
    (["--prompts", "hole.txt"], "--prompts: hole.txt: line 2 is empty"),
    (["--prompts", "binary.txt"], "--prompts: binary.txt: is not UTF-8 text"),
    (["--prompts", "folder"], "--prompts: folder: can't be read"),
  ])
  func badInputIsOneSentenceAndStatus2(_ bad: [String], _ message: String) throws {
    let prepared = try Prepared.shared.get()
    let before = try FileManager.default.contentsOfDirectory(atPath: prepared.path).sorted()
    // Repeated options override earlier ones.
    let result = try Program.run(
      prepared.arguments(["--prompt", "a ball", "--num-frames", "9", "--output", "out.mp4"] + bad),
      in: prepared.path)
    #expect(result.status == 2, "\(result.errors)")
    #expect(result.output.isEmpty)
    let lines = result.errors.split(separator: "\n").filter { !$0.hasPrefix("note: ") }
    #expect(lines.count == 1 && lines[0].hasPrefix("error: "), "\(result.errors)")
    #expect(result.errors.contains(message), "\(result.errors)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: prepared.path).sorted() == before)
  }

  @Test func aPromptsFileMayComeFromWindows() throws {
    let prepared = try Prepared.shared.get()
    let result = try Program.run(
      prepared.arguments([
        "--prompts", "windows.txt", "--num-frames", "1", "--output", "results/w.png",
      ]),
      in: prepared.path)
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.output == "results/w-1.png\nresults/w-2.png\n")
  }

  @Test func processesDivideThePromptsAndWriteTheFilesOfOne() throws {
    let prepared = try Prepared.shared.get()
    // Images: the bytes of a video depend on the number of cores that its encoder uses.
    let prompts = ["a ball", "a house", "a red boat"].flatMap { ["--prompt", $0] }
    func arguments(_ output: String) -> [String] {
      prepared.arguments(prompts + ["--num-frames", "1", "--threads", "1", "--output", output])
    }
    let alone = try Program.run(arguments("results/alone.png"), in: prepared.path)
    #expect(alone.status == 0, "\(alone.errors)")
    let divided = try Program.run(
      ["launch", "--nproc-per-node", "2", "ltx"] + arguments("results/divided.png"),
      in: prepared.path)
    #expect(divided.status == 0, "\(divided.errors)")
    #expect(
      divided.output.split(separator: "\n").sorted()
        == ["[1] results/divided-2.png", "results/divided-1.png", "results/divided-3.png"])
    for number in 1...3 {
      let files = ["alone", "divided"].map {
        FileManager.default.contents(atPath: "\(prepared.path)/results/\($0)-\(number).png")
      }
      #expect(files[0] != nil && files[0] == files[1])
    }
  }

  @Test func moreProcessesThanPromptsAreNotedAndAFailureIsThatOfItsProcess() throws {
    let prepared = try Prepared.shared.get()
    let few = try Program.run(
      ["launch", "--nproc-per-node", "3", "ltx"]
        + prepared.arguments(["--prompt", "a", "--num-frames", "1", "--output", "results/few.png"]),
      in: prepared.path)
    #expect(few.status == 0 && few.output == "results/few.png\n", "\(few.errors)")
    #expect(few.errors.contains("note: 1 prompt for 3 processes: 2 of them have nothing to do"))
    // Another process writes the second file.
    let held = "results/held-2.png"
    let lock = try OutputLock(file: "\(prepared.path)/\(held)", purpose: "a test") { _ in }
    let failed = try Program.run(
      ["launch", "--nproc-per-node", "2", "ltx"]
        + prepared.arguments([
          "--prompt", "a", "--prompt", "b", "--num-frames", "1", "--output", "results/held.png",
        ]), in: prepared.path)
    lock.release()
    #expect(failed.status == 2, "\(failed.errors)")
    #expect(failed.errors.contains("[1] error: \(held): another process is writing here"))
    #expect(failed.errors.contains("rank 1 failed with status 2"), "\(failed.errors)")
  }

  @Test func ctrlCWhileWritingLeavesWhatWasThere() throws {
    let prepared = try Prepared.shared.get()
    let folder = "\(prepared.path)/interrupted"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    let old = Data("an older file".utf8)
    // On a busy machine the program may finish before the signal arrives; the test then tries
    // again.
    var status: Int32 = 0
    for _ in 0..<10 where status == 0 {
      try old.write(to: URL(fileURLWithPath: "\(folder)/out.mp4"))
      let process = try Program.start(
        prepared.arguments([
          "--prompt", "a ball", "--no-audio", "--num-frames", "241", "--output",
          "interrupted/out.mp4",
        ]), in: prepared.path)
      // Frames are written to a file of another name until the video is complete.
      while process.isRunning,
        try !FileManager.default.contentsOfDirectory(atPath: folder).contains(where: {
          $0.hasPrefix(".out")
        })
      { usleep(500) }
      kill(process.processIdentifier, SIGINT)
      process.waitUntilExit()
      status = process.terminationStatus
    }
    #expect(status == 130)
    let names = try FileManager.default.contentsOfDirectory(atPath: folder)
    #expect(names == ["out.mp4"])
    #expect(try Data(contentsOf: URL(fileURLWithPath: "\(folder)/out.mp4")) == old)
  }
}
