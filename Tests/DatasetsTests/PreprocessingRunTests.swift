import Foundation
import LTX
import Media
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Datasets
@testable import Inference
@testable import Training

/// `ltx preprocess` from end to end: real H.264 clips, the tiny model, the files that training reads.
@Suite struct PreprocessingRunTests {
  private let scratch: ScratchFolder
  private let model: (checkpoint: String, textEncoder: String)

  /// Where the tiny model is written once; each test has a copy.
  private static let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
    "prep-model-" + UUID().uuidString
  ).path

  private static let written = Result {
    atexit {
      do { try FileManager.default.removeItem(atPath: folder) } catch {
        print("cannot remove \(folder): \(error)")
      }
    }
    _ = try TinyModel.write(to: folder, seed: 1)
  }

  init() throws {
    scratch = try ScratchFolder()
    try Self.written.get()
    try FileManager.default.copyItem(atPath: Self.folder, toPath: scratch.file("model"))
    model = (
      scratch.file("model/\(TinyModel.checkpointName)"), scratch.file("model/\(TinyModel.textEncoderName)")
    )
  }

  // MARK: Inputs

  private func clip(
    _ name: String, width: Int = 80, height: Int = 64, frames: Int, rate: Rational = Rational(25)
  ) throws {
    let writer = try VideoWriter(path: scratch.file(name), width: width, height: height, frameRate: rate)
    let seed = name.utf8.reduce(0) { $0 + Int($1) }
    for time in 0..<frames {
      let bytes = (0..<(width * height)).flatMap { i -> [UInt8] in
        let (x, y) = (i % width, i / width)
        return [
          UInt8((4 * x + 9 * time) % 256), UInt8((4 * y + seed) % 256), UInt8((2 * (x + y) + 5 * time) % 256),
        ]
      }
      try writer.append(RGBFrame(bytes: bytes, width: width, height: height))
    }
    try writer.finish()
  }

  private func dataset(_ rows: [(String, String)]) throws -> String {
    let objects = try rows.map { row in
      String(decoding: try JSONEncoder().encode(["video": row.0, "caption": row.1]), as: UTF8.self)
    }
    return try scratch.write("[\n" + objects.joined(separator: ",\n") + "\n]\n", to: "dataset.json")
  }

  private func options(_ buckets: String = "64x64x9") throws -> PreprocessingOptions {
    var options = PreprocessingOptions(
      dataset: scratch.file("dataset.json"), buckets: try ResolutionBucket.list(buckets),
      models: ModelFiles(unified: model.checkpoint, textEncoder: model.textEncoder))
    options.dtype = .float32
    return options
  }

  private func run(_ options: PreprocessingOptions) throws -> PreprocessingSummary {
    try Preprocessor(PreprocessingPlan(options)).run()
  }

  private func cached(_ path: String) throws -> SafetensorsFile {
    try SafetensorsFile(path: scratch.file(".precomputed/\(path).safetensors"))
  }

  private func difference(_ a: Tensor, _ b: Tensor) throws -> Double {
    #expect(a.shape == b.shape)
    return try (a - b).abs().amax().item()
  }

  // MARK: What is written

  @Test func `Latents and text features are those of the models`() throws {
    try FileManager.default.createDirectory(
      atPath: scratch.file("sub"), withIntermediateDirectories: true)
    try clip("sub/wide.one.mp4", width: 128, height: 64, frames: 20, rate: Rational(30000, 1001))
    try clip("high.mp4", width: 64, height: 96, frames: 12)
    _ = try dataset([("sub/wide.one.mp4", "a wide one"), ("high.mp4", "a high one")])
    var options = try options("96x64x17;64x96x9;64x96x17")
    options.loraTrigger = " zxqv "
    let summary = try run(options)
    #expect(summary.clipsEncoded == 2 && summary.captionsEncoded == 2 && summary.failures.isEmpty)

    let checkpoint = try Checkpoint(path: model.checkpoint)
    let encoder = try checkpoint.videoEncoder(dtype: .float32)
    for (name, file, size, frames, rate) in [
      ("sub/wide.one", "sub/wide.one.mp4", (96, 64), 17, 30000 / 1001.0),
      ("high", "high.mp4", (64, 96), 9, 25.0),
    ] {
      let reader = try VideoReader(path: scratch.file(file))
      let first = try (0..<frames).compactMap { _ in try reader.next() }
      let wanted = try withoutGrad { try encoder(FrameTensors.pixels(first, filling: size)).squeeze(0) }
      let found = try cached("latents/\(name)")
      #expect(found.keys == ["fps", "height", "latents", "num_frames", "width"])
      #expect(try difference(found.tensor("latents"), wanted) < 1e-5)
      #expect(
        try ["num_frames", "height", "width"].map { Int(try found.tensor($0).item()) }
          == Array(wanted.shape[1...]))
      #expect(found.entries["num_frames"]?.dtype == .int64 && found.entries["num_frames"]?.shape == [1])
      #expect(try found.tensor("fps").item() == rate)
    }

    let text = try PromptEncoder(
      checkpoint: checkpoint.weights(dtype: .float32), configuration: TextConfiguration(checkpoint.config),
      textEncoder: model.textEncoder, dtype: .float32)
    let features = try text(["zxqv a high one"])
    let found = try cached("conditions/high")
    #expect(found.keys == ["audio_prompt_embeds", "prompt_attention_mask", "video_prompt_embeds"])
    #expect(try difference(found.tensor("video_prompt_embeds"), features.video.squeeze(0)) < 1e-5)
    #expect(try difference(found.tensor("audio_prompt_embeds"), features.audio.squeeze(0)) < 1e-5)
    #expect(found.entries["prompt_attention_mask"]?.dtype == .int64)
    #expect(try found.tensor("prompt_attention_mask").sum().item() == features.mask.sum().item())

    // Training finds both.
    #expect(try PrecomputedDataset(root: scratch.path).count == 2)
  }

  @Test func `The default is bfloat16, and a picture is a clip of one frame`() throws {
    try RGBFrame(bytes: (0..<(3 * 70 * 66)).map { UInt8(truncatingIfNeeded: $0) }, width: 70, height: 66)
      .writePNG(to: scratch.file("still.png"))
    _ = try dataset([("still.png", "a picture")])
    var options = try options("64x64x9;64x64x1")
    options.dtype = .bfloat16
    #expect(try run(options).clipsEncoded == 1)
    let found = try cached("latents/still")
    #expect(found.entries["latents"]?.dtype == .bfloat16)
    #expect(try found.tensor("num_frames").item() == 1)
    #expect(try found.tensor("fps").item() == 1)
    #expect(try cached("conditions/still").entries["video_prompt_embeds"]?.dtype == .bfloat16)
  }

  // MARK: Going on

  @Test func `Captions are encoded anew for a text encoder in int8, and back`() throws {
    try clip("a.mp4", frames: 9)
    _ = try dataset([("a.mp4", "a red ball")])
    var options = try options()
    _ = try run(options)
    let whole = try cached("conditions/a").tensor("video_prompt_embeds").clone()
    options.textEncoder8bit = true
    let summary = try run(options)
    #expect(summary.captionsEncoded == 1 && summary.clipsEncoded == 0)
    let rounded = try cached("conditions/a").tensor("video_prompt_embeds").clone()
    let distance = try difference(rounded, whole)
    let largest = try whole.abs().amax().item()
    #expect(distance > 0 && distance < 0.1 * largest)
    #expect(try run(options).upToDate == 1)
    options.textEncoder8bit = false
    #expect(try run(options).captionsEncoded == 1)
  }

  @Test func `A rerun encodes what is missing or has changed, and nothing else`() throws {
    var rows = [("a.mp4", "first"), ("b.mp4", "second"), ("c.mp4", "third")]
    for (name, _) in rows { try clip(name, frames: 9) }
    _ = try dataset(rows)
    var options = try options()

    func rerun(_ clips: Int, _ captions: Int, _ why: Comment) throws {
      let summary = try run(options)
      #expect((summary.clipsEncoded, summary.captionsEncoded) == (clips, captions), why)
    }
    try rerun(3, 3, "nothing was there")
    #expect(try run(options).upToDate == 3)
    try rerun(0, 0, "nothing changed")

    rows[1].1 = "another second"
    _ = try dataset(rows)
    try rerun(0, 1, "a caption changed")

    try clip("c.mp4", frames: 10)
    try rerun(1, 0, "a clip changed")

    try FileManager.default.removeItem(atPath: scratch.file(".precomputed/conditions/a.safetensors"))
    try rerun(0, 1, "a file is missing")

    let handle = try #require(
      FileHandle(forWritingAtPath: scratch.file(".precomputed/latents/b.safetensors")))
    try handle.truncate(atOffset: 300)
    try handle.close()
    try rerun(1, 0, "a file is cut off")

    try writeSafetensors(
      [("latents", Tensor.zeros([1]))], to: scratch.file(".precomputed/latents/b.safetensors"))
    try rerun(1, 0, "a file of another maker")

    options.loraTrigger = "zxqv"
    try rerun(0, 3, "another trigger")
    options.buckets = try ResolutionBucket.list("64x64x1")
    try rerun(3, 0, "other buckets")
    options.vaeTiling = true
    try rerun(3, 0, "tiles")
    options.dtype = .bfloat16
    try rerun(3, 3, "another element type")
    options.overwrite = true
    try rerun(3, 3, "everything anew")
    options.overwrite = false
    try rerun(0, 0, "nothing changed")

    // A model of the same size with other numbers in the same places.
    _ = try TinyModel.write(to: scratch.file("model"), seed: 2, isOverwriting: true)
    try rerun(3, 3, "another model")
  }

  // MARK: Bad media

  @Test func `Bad files among good ones are told at the end, with their rows`() throws {
    try clip("good.mp4", frames: 9)
    try clip("short.mp4", frames: 8)
    try scratch.write("no video", to: "text.mp4")
    try scratch.write("", to: "empty.mp4")
    _ = try dataset([
      ("text.mp4", "x"), ("good.mp4", "x"), ("short.mp4", "x"), ("none.mp4", "x"), ("empty.mp4", "x"),
    ])
    let summary = try run(options())
    #expect(summary.clipsEncoded == 1 && summary.captionsEncoded == 1)
    #expect(summary.failures.map(\.line) == [2, 4, 5, 6])
    #expect(summary.failures[1].description.contains("dataset.json:4: "))
    #expect(
      summary.failures[1].description.contains("short.mp4: has 8 frames, but the shortest bucket takes 9"))
    #expect(summary.failures[2].description.contains("none.mp4: there is no such file"))
    #expect(try cached("latents/good").contains("latents"))
    #expect(!FileManager.default.fileExists(atPath: scratch.file(".precomputed/latents/short.safetensors")))
  }

  @Test func `Where no clip can be used, nothing is begun`() throws {
    try clip("short.mp4", frames: 3)
    _ = try dataset([("short.mp4", "x"), ("none.mp4", "x")])
    #expect(throws: NoUsableClips.self) { try PreprocessingPlan(options()) }
    #expect(!FileManager.default.fileExists(atPath: scratch.file(".precomputed")))
  }

  /// The container of a file that is cut off still counts all of its frames.
  @Test func `A clip that ends early takes a shorter bucket, or is told`() throws {
    try clip("whole.mp4", frames: 60)
    let whole = try Data(contentsOf: URL(fileURLWithPath: scratch.file("whole.mp4")))
    var decoded = 60
    var size = whole.count
    // Cut until fewer than 33 and at least 9 frames are left.
    while decoded >= 33 {
      size -= whole.count / 40
      try whole.prefix(size).write(to: URL(fileURLWithPath: scratch.file("cut.mp4")))
      decoded = try VideoReader.countFrames(path: scratch.file("cut.mp4"))
    }
    try #require(decoded >= 9)
    try #require(try VideoReader(path: scratch.file("cut.mp4")).frameCount == .declared(60))
    _ = try dataset([("cut.mp4", "x"), ("whole.mp4", "x")])

    #expect(try run(options("64x64x33;64x64x9")).failures.isEmpty)
    #expect(try cached("latents/cut").tensor("num_frames").item() == 2)
    #expect(try cached("latents/whole").tensor("num_frames").item() == 5)

    let summary = try run(options("64x64x33"))
    #expect(summary.failures.map(\.line) == [2])
    let problem = summary.failures[0].description
    #expect(problem.contains("has \(decoded) frames, but the shortest bucket takes 33"))
    #expect(problem.contains("The latents of an earlier run still lie in "))
  }

  // MARK: Other bad input

  @Test func `Mistakes are found before any work`() throws {
    try clip("a.mp4", frames: 9)
    _ = try dataset([("a.mp4", "x")])
    func error(_ change: (inout PreprocessingOptions) throws -> Void) -> String {
      message {
        var options = try options()
        try change(&options)
        _ = try PreprocessingPlan(options)
      }
    }
    #expect(error { $0.buckets = try ResolutionBucket.list("65x64x9") }.contains("65x64x9: the width"))
    #expect(
      error { $0.buckets = try ResolutionBucket.list("64x64x8") }.contains("64x64x8: the number of frames"))
    #expect(error { $0.buckets = [] }.contains("give at least one"))
    #expect(error { $0.models.unified = scratch.file("none") }.contains(scratch.file("none")))
    #expect(error { $0.models[.textEncoder] = scratch.file("none") }.contains("does not exist"))
    #expect(error { $0.models[.textEncoder] = scratch.path }.contains("holds no config.json"))
    #expect(error { $0.captionColumn = "words" }.contains("--caption-column"))

    let other = scratch.file("other.safetensors")
    try writeSafetensors([("weight", Tensor.zeros([1]))], to: other)
    #expect(error { $0.models.unified = other }.contains("not an LTX-2 checkpoint"))
    try writeSafetensors(
      [("weight", Tensor.zeros([1]))], metadata: ["config": #"{"_class_name": "LatentUpsampler"}"#], to: other
    )
    #expect(error { $0.models.unified = other }.contains("config.transformer is missing: the file holds"))
    try writeSafetensors(
      [("weight", Tensor.zeros([1]))], metadata: ["config": #"{"transformer": {}, "vae": {}}"#], to: other)
    #expect(error { $0.models.unified = other }.contains("holds no video VAE encoder"))
  }

  @Test func `A text encoder that the checkpoint was not made for`() throws {
    try clip("a.mp4", frames: 9)
    _ = try dataset([("a.mp4", "x")])
    // A projection for one layer less.
    let source = try SafetensorsFile(path: model.checkpoint)
    let key = "text_embedding_projection.aggregate_embed.weight"
    let tensors = try source.keys.map { name in
      let tensor = try source.tensor(name)
      return (key: name, tensor: name == key ? try tensor.narrow(1, 0, tensor.size(1) - 64) : tensor)
    }
    let other = scratch.file("other.safetensors")
    try writeSafetensors(tensors, metadata: source.metadata, to: other)
    var options = try options()
    options.models.unified = other
    #expect(message { _ = try run(options) }.contains("made for another text encoder"))
  }

  @Test func `A text encoder with more layers than its configuration says`() throws {
    try clip("a.mp4", frames: 9)
    _ = try dataset([("a.mp4", "x")])
    let config = model.textEncoder + "/config.json"
    let text = try String(contentsOfFile: config, encoding: .utf8)
    try Data(text.replacing("\"num_hidden_layers\": 7", with: "\"num_hidden_layers\": 6").utf8)
      .write(to: URL(fileURLWithPath: config))
    #expect(message { _ = try run(options()) }.contains("layers.6.input_layernorm.weight is no part"))
  }

  @Test func `An output folder that can't be made`() throws {
    try clip("a.mp4", frames: 9)
    _ = try dataset([("a.mp4", "x")])
    var options = try options()
    options.outputFolder = try scratch.write("a file", to: "taken")
    #expect(throws: PreprocessingError.self) { try run(options) }
    #expect(message { _ = try run(options) }.contains("choose another --output-dir"))
  }
}
