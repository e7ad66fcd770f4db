import Foundation
import LTX
import Media
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Datasets

/// Rows that can't be used are reported; the rest are processed.
@Suite struct PreprocessingBadInputTests {
  private let fixture: PreprocessingFixture

  init() throws { fixture = try PreprocessingFixture(ownsModel: true) }

  @Test func badFilesAmongGoodOnesAreListedAtTheEndWithTheirRows() throws {
    try fixture.clip("good.mp4", frames: 9)
    try fixture.clip("short.mp4", frames: 8)
    try fixture.scratch.write("no video", to: "text.mp4")
    try fixture.scratch.write("", to: "empty.mp4")
    try fixture.dataset([
      ("text.mp4", "x"), ("good.mp4", "x"), ("short.mp4", "x"), ("none.mp4", "x"),
      ("empty.mp4", "x"),
    ])
    let summary = try fixture.run(fixture.options())
    #expect(summary.encoded(.latents) == 1 && summary.encoded(.conditions) == 1)
    #expect(summary.failures.map(\.line) == [2, 4, 5, 6])
    #expect(summary.failures[1].description.contains("dataset.json:4: "))
    #expect(
      summary.failures[1].description.contains(
        "short.mp4: has 8 frames, but the shortest bucket needs 9"))
    #expect(summary.failures[2].description.contains("none.mp4: there is no such file"))
    #expect(try fixture.cached("latents/good").contains("latents"))
    #expect(
      !FileManager.default.fileExists(
        atPath: fixture.file(".precomputed/latents/short.safetensors")))
  }

  @Test func whereNoClipCanBeUsedNothingIsBegun() throws {
    try fixture.clip("short.mp4", frames: 3)
    try fixture.dataset([("short.mp4", "x"), ("none.mp4", "x")])
    #expect(throws: Support.Issue.self) { try PreprocessingPlan(fixture.options()) }
    #expect(
      message { _ = try PreprocessingPlan(fixture.options()) }.contains(
        "none of the rows can be used\n  "))
    #expect(!FileManager.default.fileExists(atPath: fixture.file(".precomputed")))
  }

  /// The container of a truncated file still counts all of its frames.
  @Test func aClipThatEndsEarlyUsesAShorterBucketOrIsReported() throws {
    try fixture.clip("whole.mp4", frames: 60)
    let whole = try Data(contentsOf: URL(fileURLWithPath: fixture.file("whole.mp4")))
    var decoded = 60
    var size = whole.count
    // Cut until fewer than 33 and at least 9 frames are left.
    while decoded >= 33 {
      size -= whole.count / 40
      try whole.prefix(size).write(to: URL(fileURLWithPath: fixture.file("cut.mp4")))
      decoded = try VideoReader.countFrames(path: fixture.file("cut.mp4"))
    }
    try #require(decoded >= 9)
    try #require(try VideoReader(path: fixture.file("cut.mp4")).frameCount == .declared(60))
    try fixture.dataset([("cut.mp4", "x"), ("whole.mp4", "x")])

    #expect(try fixture.run(fixture.options("64x64x33;64x64x9")).failures.isEmpty)
    #expect(try fixture.cached("latents/cut").tensor("num_frames").item() == 2)
    #expect(try fixture.cached("latents/whole").tensor("num_frames").item() == 5)

    let summary = try fixture.run(fixture.options("64x64x33"))
    #expect(summary.failures.map(\.line) == [2])
    let problem = summary.failures[0].description
    #expect(problem.contains("has \(decoded) frames, but the shortest bucket needs 33"))
    #expect(problem.contains("latents/cut.safetensors of an earlier run still exists"))
  }

  /// One bad row of each kind beside a good one.
  @Test(
    arguments: [
      ("zero.mp4", "zero.mp4: is empty"),
      ("text.mp4", "text.mp4: not a readable media file"),
      ("none.mp4", "none.mp4: there is no such file"),
      ("folder.mp4", "folder.mp4: is a folder"),
      ("tone.wav", "tone.wav: holds no video"),
      ("one.mp4", "one.mp4: has 1 frame, but the shortest bucket needs 9"),
      ("headless.mp4", "headless.mp4: an MP4 without its index"),
      ("cut.mp4", "cut.mp4: not one frame can be decoded"),
      ("thin.png", "thin.png: latents: image: of 4000x1 pixels can't fill 64x64"),
    ] as [(String, String)])
  func aFileThatIsNoClip(_ name: String, _ problem: String) throws {
    try fixture.clip("good.mp4", frames: 9)
    try fixture.clip("one.mp4", frames: 1)
    try fixture.audio("tone.wav", seconds: 1)
    try fixture.scratch.write("", to: "zero.mp4")
    try fixture.scratch.write("no video", to: "text.mp4")
    try FileManager.default.createDirectory(
      atPath: fixture.file("folder.mp4"), withIntermediateDirectories: true)
    // The index of an MP4 is at its end or, in files for streaming, at its start.
    try runFFmpeg(["-i", fixture.file("good.mp4"), "-c", "copy", fixture.file("whole.mp4")])
    for (whole, part) in [("whole.mp4", "headless.mp4"), ("good.mp4", "cut.mp4")] {
      let content = try Data(contentsOf: URL(fileURLWithPath: fixture.file(whole)))
      try content.prefix(content.count / 2).write(to: URL(fileURLWithPath: fixture.file(part)))
    }
    try RGBFrame(bytes: [UInt8](repeating: 9, count: 12000), width: 4000, height: 1)
      .writePNG(to: fixture.file("thin.png"))
    try fixture.dataset([(name, "x"), ("good.mp4", "y")])
    let report = try fixture.run(
      fixture.options(name == "thin.png" ? "64x64x9;64x64x1" : "64x64x9"))
    #expect(report.failures.map(\.line) == [2])
    #expect(report.failures[0].description.contains("dataset.json:2: "))
    #expect(report.failures[0].reason.contains(problem), "\(report.failures)")
    #expect(fixture.isCached("latents/good") && fixture.isCached("conditions/good"))
    #expect(fixture.scratch.files(below: ".precomputed/latents") == ["good.safetensors"])
  }

  @Test func rowsThatCantBeReadAreInTheReportWithTheOthers() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.scratch.write(
      "video,caption\na.mp4,good\na.mov,taken\nb.mp4,\"open\n../../../../../../../../../../gone.mp4,x\n",
      to: "dataset.csv")
    var options = try fixture.options()
    options.dataset = fixture.file("dataset.csv")
    let report = try fixture.run(options)
    #expect(report.failures.map(\.line) == [3, 4, 5])
    #expect(report.failures[0].reason.contains("same name as the row of line 2"))
    #expect(report.failures[1].reason.contains("not closed"))
    #expect(report.failures[2].reason.hasPrefix("/gone.mp4: there is no such file"))
    #expect(report.rows == 4 && report.encoded(.latents) == 1)

    let written = try JSONDecoder().decode(
      PreprocessingReport.self,
      from: Data(contentsOf: URL(fileURLWithPath: fixture.file(".precomputed/report.json"))))
    #expect(written.problems == report.problems && written.counts == report.counts)
    #expect(written.interruption == nil)
  }

  /// Upstream's run ends with an error at images and clips of one frame if they have no bucket, and
  /// at such clips even if they have one.
  @Test func aClipOfOneFrameTakesABucketOfOneFrame() throws {
    try fixture.clip("one.mp4", frames: 1)
    try fixture.dataset([("one.mp4", "x")])
    #expect(try fixture.run(fixture.options("64x64x9;64x64x1")).failures.isEmpty)
    #expect(try fixture.cached("latents/one").tensor("latents").shape[1...] == [1, 2, 2])
  }

  @Test func referencesAndMasksThatCantBeUsedLeaveTheClipAlone() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.clip("short.mp4", frames: 3)
    try fixture.scratch.write("not an image", to: "mask.png")
    try fixture.dataset([
      [
        "video": "a.mp4", "caption": "x", "reference_video": "short.mp4", "video_mask": "mask.png",
        "audio": "none.wav",
      ]
    ])
    let report = try fixture.run(fixture.options())
    #expect(
      Set(report.failures.compactMap(\.folder)) == [.referenceLatents, .videoMasks, .audioLatents])
    #expect(report.failures.contains { $0.reason.contains("short.mp4: has 3 frames") })
    #expect(report.failures.contains { $0.reason.contains("none.wav: there is no such file") })
    #expect(report.encoded(.latents) == 1)
  }

  @Test func aRowWithoutAnOptionalColumnIsReportedAndItsClipIsCached() throws {
    for name in ["a", "b"] { try fixture.clip("\(name).mp4", frames: 9) }
    try fixture.dataset([
      ["video": "a.mp4", "caption": "x", "reference_video": "b.mp4"],
      ["video": "b.mp4", "caption": "x"],
    ])
    for run in ["first", "second"] {
      let report = try fixture.run(fixture.options())
      #expect(
        report.failures.map(\.line) == [3] && report.failures.first?.folder == .referenceLatents,
        "\(run) run"
      )
      #expect(report.failures.first?.reason.contains("the row has no reference_video") == true)
      #expect(fixture.isCached("latents/b") && fixture.isCached("reference_latents/a"))
    }
  }

  @Test func unusableColumnsAreReported() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.dataset([["video": "a.mp4", "caption": "x", "audio_mask": "m.wav", "note": "y"]])
    var options = try fixture.options()
    options.audio = .skipped
    let report = try fixture.run(options)
    #expect(report.failures.isEmpty)
    #expect(report.notes.contains("the column \"audio_mask\" is not read: audio is left out"))
    #expect(report.notes.contains("columns that nothing reads: note"))
  }

  @Test func aClipThatIsChangedWhileItIsReadIsNotCached() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.dataset([("a.mp4", "x")])
    let plan = try PreprocessingPlan(fixture.options())
    let reader = SampleReader(check: plan.check, checkpoint: plan.checkpoint)
    let path = fixture.file("a.mp4")
    let before = try plan.hashes.snapshot(of: path)
    var result = PreparedSample(plan.work[0])
    let clips = ClipReader(buckets: plan.options.buckets)
    _ = try reader.readClip(path, .latents, since: before, into: &result) { try clips.read(path) }
    #expect(
      message {
        _ = try reader.readClip(path, .latents, since: before, into: &result) {
          let clip = try clips.read(path)
          try fixture.clip("a.mp4", frames: 10)
          return clip
        }
      }.contains("a.mp4: was changed while it was read"))
  }

  @Test func timesThatJumpAreARowsFailure() throws {
    try fixture.clip("good.mp4", frames: 9)
    try fixture.clip("even.mp4", frames: 20)
    try runFFmpeg([
      "-i", fixture.file("even.mp4"), "-vf", "setpts=if(lt(N\\,4)\\,N*0.04\\,900000+N*0.04)/TB",
      "-vsync",
      "vfr", "-enc_time_base", "1:1000", "-c:v", "ffv1", fixture.file("jumps.mkv"),
    ])
    try fixture.dataset([("jumps.mkv", "x"), ("good.mp4", "x")])
    let report = try fixture.run(fixture.options())
    #expect(report.failures.map(\.line) == [2])
    #expect(report.failures.first?.sample == "jumps")
    #expect(report.encoded(.latents) == 1)
  }

  @Test func aPipeIsNoClip() throws {
    try fixture.clip("good.mp4", frames: 9)
    try #require(mkfifo(fixture.file("pipe.mp4"), 0o600) == 0)
    try fixture.dataset([("pipe.mp4", "x"), ("good.mp4", "x")])
    let report = try fixture.run(fixture.options())
    #expect(report.failures.map(\.line) == [2] && report.encoded(.latents) == 1)
    #expect(report.failures.first?.reason.contains("is a pipe or a device") == true)
  }

  @Test func anAudioMaskWithoutAudioIsAProblem() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.audio("mask.wav", seconds: 1)
    try fixture.dataset([["video": "a.mp4", "caption": "x", "audio_mask": "mask.wav"]])
    for run in ["first", "second"] {
      let report = try fixture.run(fixture.options())
      #expect(report.failures.map(\.folder) == [.audioMasks], "\(run) run")
      #expect(
        report.failures.first?.reason.contains("has no audio that the row's mask could belong to")
          == true)
      #expect(fixture.isCached("latents/a"))
    }
  }

  // MARK: Disks and rights

  @Test(.enabled(if: SmallDisk.isPossible, "mounting is not allowed here"))
  func aFullDiskToldAndNothingIsHalfWritten() throws {
    let disk = try SmallDisk(kilobytes: 200)
    for name in ["a", "b"] { try fixture.clip("\(name).mp4", frames: 9) }
    try fixture.dataset([("a.mp4", "one"), ("b.mp4", "two")])
    var options = try fixture.options()
    options.outputFolder = disk.path + "/cache"
    let preprocessor = try Preprocessor(PreprocessingPlan(options))
    #expect(message { _ = try preprocessor.run() }.contains("Free some space on the disk"))
    let report = preprocessor.currentReport
    #expect(report.failures.map(\.line) == [2] && report.failures.first?.folder == .conditions)
    #expect(report.interruption?.contains("No space left on device") == true)
    #expect(!disk.files().contains { $0.hasSuffix(".partial") || $0.hasSuffix(".safetensors") })
  }

  // MARK: Other bad input

  @Test func mistakesAreFoundBeforeAnyWork() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.dataset([("a.mp4", "x")])
    func error(_ change: (inout PreprocessingOptions) throws -> Void) -> String {
      message {
        var options = try fixture.options()
        try change(&options)
        _ = try PreprocessingPlan(options)
      }
    }
    #expect(
      error { $0.buckets = try ResolutionBucket.list("65x64x9") }.contains("65x64x9: the width"))
    #expect(
      error { $0.buckets = try ResolutionBucket.list("64x64x8") }.contains(
        "64x64x8: the number of frames"))
    #expect(error { $0.buckets = [] }.contains("Give at least one"))
    #expect(error { $0.models.unified = fixture.file("none") }.contains(fixture.file("none")))
    #expect(error { $0.models[.textEncoder] = fixture.file("none") }.contains("does not exist"))
    #expect(
      error { $0.models[.textEncoder] = fixture.scratch.path }.contains("has no config.json"))
    #expect(error { $0.columns[.caption] = "words" }.contains("columns.caption: "))

    let other = fixture.file("other.safetensors")
    try writeSafetensors([("weight", Tensor.zeros([1]))], to: other)
    #expect(error { $0.models.unified = other }.contains("not an LTX-2 checkpoint"))
    try writeSafetensors(
      [("weight", Tensor.zeros([1]))], metadata: ["config": #"{"_class_name": "LatentUpsampler"}"#],
      to: other
    )
    #expect(
      error { $0.models.unified = other }.contains("config.transformer: is missing: the file has"))
    try writeSafetensors(
      [("model.diffusion_model.weight", Tensor.zeros([1]))],
      metadata: ["config": #"{"transformer": {}, "vae": {}}"#], to: other)
    #expect(error { $0.models.unified = other }.contains("holds no video VAE encoder"))
  }

  @Test func aTextEncoderThatTheCheckpointWasNotMadeFor() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.dataset([("a.mp4", "x")])
    // A projection for one layer fewer.
    let source = try SafetensorsFile(path: fixture.model.checkpoint)
    let key = "text_embedding_projection.aggregate_embed.weight"
    let tensors = try source.keys.map { name in
      let tensor = try source.tensor(name)
      return (
        key: name, tensor: name == key ? try tensor.narrow(1, 0, tensor.size(1) - 64) : tensor
      )
    }
    let other = fixture.file("other.safetensors")
    try writeSafetensors(tensors, metadata: source.metadata, to: other)
    var options = try fixture.options()
    options.models.unified = other
    #expect(message { _ = try fixture.run(options) }.contains("made for another text encoder"))
  }

  @Test func aTextEncoderWithMoreLayersThanItsConfigurationSays() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.dataset([("a.mp4", "x")])
    let config = fixture.model.textEncoder + "/config.json"
    let text = try String(contentsOfFile: config, encoding: .utf8)
    try Data(text.replacing("\"num_hidden_layers\": 7", with: "\"num_hidden_layers\": 6").utf8)
      .write(to: URL(fileURLWithPath: config))
    #expect(
      message { _ = try PreprocessingPlan(fixture.options()) }.contains(
        "the text encoder's 7 hidden states of width 64"))
  }

  /// Both are refused while planning, with the text encoder that is needed.
  @Test func aTextEncoderOfAnotherGeneration() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.dataset([("a.mp4", "x")])
    let folder = URL(fileURLWithPath: fixture.file("gemma-4"))
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try TinyGemma4().write(to: folder, seed: 1)
    var options = try fixture.options()
    options.models[.textEncoder] = folder.path
    let text = message { _ = try PreprocessingPlan(options) }
    #expect(
      text.contains("textEncoder: \(folder.path): is not the text encoder")
        && text.contains("expected gemma3"), "\(text)")
    var check = DatasetCheckOptions()
    (check.models, check.textEncoder) = (options.models, folder.path)
    try FileManager.default.createDirectory(
      atPath: fixture.file("cache/latents"), withIntermediateDirectories: true)
    #expect(
      message { _ = try CacheChecker(cache: fixture.file("cache"), check) }.contains(
        "is not the text encoder"))
  }

  @Test func anOutputFolderThatCantBeMade() throws {
    try fixture.clip("a.mp4", frames: 9)
    try fixture.dataset([("a.mp4", "x")])
    var options = try fixture.options()
    options.outputFolder = try fixture.scratch.write("a file", to: "taken")
    #expect(throws: Support.Issue.self) { try fixture.run(options) }
    #expect(message { _ = try fixture.run(options) }.contains("Choose another output folder"))
  }
}
