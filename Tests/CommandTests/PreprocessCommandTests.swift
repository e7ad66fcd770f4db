import Foundation
import TestSupport
import Testing

/// `ltx preprocess`, run as a user runs it: options, tables, exit statuses.
@Suite struct PreprocessCommandTests {
  private let scratch: ScratchFolder
  private let model: TinyModelFiles

  init() throws {
    scratch = try ScratchFolder()
    model = try TinyModelFiles.ltx2()
    for (name, source) in [("a", "testsrc2"), ("b", "mandelbrot")] {
      try runFFmpeg([
        "-f", "lavfi", "-i", "\(source)=size=96x64:rate=24", "-f", "lavfi", "-i",
        "sine=frequency=440", "-t",
        "0.5",
        "-pix_fmt", "yuv420p", scratch.file("\(name).mp4"),
      ])
    }
    try scratch.write("video,caption\na.mp4,one\nb.mp4,two\n", to: "d.csv")
  }

  private func run(_ more: [String], dataset: String = "d.csv", asNobody: Bool = false) throws
    -> Program.Result
  {
    try Program.run(
      [
        "preprocess", dataset, "--resolution-buckets", "64x64x9", "--model-path", model.checkpoint,
        "--text-encoder-path", model.textEncoder,
      ] + more, in: scratch.path, asNobody: asNobody)
  }

  @Test func countsAndTheStatusesOfSuccessAndOfFailures() throws {
    let first = try run(["--with-audio"])
    #expect(first.status == 0, "\(first.errors)")
    #expect(first.output.contains("audio_latents        2           0       0"))
    #expect(first.output.contains("2 rows: 0 up to date, 0 failed; cached in "))
    let second = try run(["--with-audio", "--format", "safetensors"])
    #expect(second.status == 0 && second.output.contains("2 rows: 2 up to date"))
    try scratch.write("video,caption\na.mp4,one\nnone.mp4,two\n", to: "d.csv")
    let third = try run([])
    #expect(third.status == 1)
    #expect(
      third.errors.contains("error: d.csv:3: \(scratch.path)/none.mp4: there is no such file"))
    #expect(third.output.contains("2 rows: 1 up to date, 1 failed"))
  }

  @Test(arguments: [
    (["--resolution-buckets", "65x64x9"], "65x64x9: the width must be a multiple of 32"),
    (["--audio-durations", "1;x"], "--audio-durations: \"x\" is not a duration"),
    (["--with-audio", "--skip-audio"], "contradict each other"),
    (["--batch-size", "0"], "--batch-size: must be 1 or more (got 0)"),
    (["--reference-downscale-factor", "0"], "must be between 1 and 1024"),
    (["--format", "csv"], "safetensors"),
    (["--caption-column", "words"], "--caption-column: d.csv has no column \"words\""),
    (["--fps", "0"], "--fps: must be between 0.1 and 1000"),
  ]) func invalidOptionsEndWithStatus2(_ options: [String], _ problem: String) throws {
    let result = try run(options)
    #expect(result.status == 2)
    #expect(result.errors.contains(problem), "\(result.errors)")
    #expect(!FileManager.default.fileExists(atPath: scratch.file(".precomputed")))
  }

  @Test func cachedFilesCanBeDecoded() throws {
    let result = try run(["--decode"])
    #expect(result.status == 0, "\(result.errors)")
    let files = scratch.files(below: ".precomputed").filter { $0.hasPrefix("decoded_") }
    #expect(
      files == [
        "decoded_audio/a.wav", "decoded_audio/b.wav", "decoded_videos/a.mp4",
        "decoded_videos/b.mp4",
      ])
    // A rerun does not treat them as parts of the cache.
    #expect(try run([]).output.contains("2 rows: 2 up to date"))
    let shared = try Program.run(
      [
        "preprocess", "d.csv", "--resolution-buckets", "64x64x9", "--model-path", model.checkpoint,
        "--decode",
      ],
      in: scratch.path, environment: ["RANK": "0", "WORLD_SIZE": "2"])
    #expect(shared.status == 2 && shared.errors.contains("--decode: must be left to one process"))
  }

  @Test func twoProcessesOfALauncher() throws {
    let shares = try (0..<2).map { rank in
      try Program.run(
        [
          "preprocess", "d.csv", "--resolution-buckets", "64x64x9", "--model-path",
          model.checkpoint,
          "--text-encoder-path", model.textEncoder, "--skip-audio",
        ], in: scratch.path, environment: ["RANK": "\(rank)", "WORLD_SIZE": "2"])
    }
    #expect(
      shares.allSatisfy { $0.status == 0 && $0.output.contains("1 row: 0 up to date, 0 failed") })
    #expect(scratch.files(below: ".precomputed/latents") == ["a.safetensors", "b.safetensors"])
  }

  @Test(.enabled(if: Program.canRunAsNobody, "another user can't run the program here"))
  func filesAndFoldersThatMayNotBeUsed() throws {
    // Another user may be unable to load libtorch, so the clip is encoded before.
    try scratch.write("video,caption\na.mp4,one\n", to: "d.csv")
    #expect(try run(["--skip-audio"]).status == 0)
    try scratch.write("video,caption\na.mp4,one\nb.mp4,two\n", to: "d.csv")
    for file in ["", ".precomputed", ".precomputed/latents"] { chmod(scratch.file(file), 0o777) }
    chmod(scratch.file(".precomputed/report.json"), 0o666)
    chmod(scratch.file("b.mp4"), 0o000)
    let result = try run(["--skip-audio"], asNobody: true)
    #expect(result.status == 1)
    #expect(
      result.errors.contains("error: d.csv:3: \(scratch.path)/b.mp4: may not be read"),
      "\(result.errors)")
    #expect(result.output.contains("2 rows: 1 up to date, 1 failed"))
    try FileManager.default.createDirectory(
      atPath: scratch.file("locked"), withIntermediateDirectories: true,
      attributes: [.posixPermissions: 0o755])
    let locked = try run(["--output-dir", "locked/cache"], asNobody: true)
    #expect(locked.status == 2)
    #expect(
      locked.errors.contains("Permission denied. Choose another output folder"), "\(locked.errors)")
  }
}
