import Foundation
import LanguageModels
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles

@Suite struct TinyModelTests {
  private static func contents(of folder: String) throws -> [String: Data] {
    var files: [String: Data] = [:]
    for name in try FileManager.default.subpathsOfDirectory(atPath: folder) where name.contains(".")
    {
      files[name] = try Data(contentsOf: URL(fileURLWithPath: folder).appendingPathComponent(name))
    }
    return files
  }

  /// Keys with `#` in place of numbers.
  private static func patterns(_ keys: some Sequence<String>) -> Set<String> {
    Set(
      keys.map { key in
        key.split(separator: ".").map { $0.allSatisfy(\.isNumber) ? "#" : $0 }.joined(
          separator: ".")
      })
  }

  @Test(arguments: TinyModel.Generation.allCases)
  func seedDecidesTheBytes(_ generation: TinyModel.Generation) throws {
    let (a, b, c) = (try Scratch(), try Scratch(), try Scratch())
    _ = try TinyModel.write(to: a.folder, generation: generation, seed: 1)
    _ = try TinyModel.write(to: b.folder, generation: generation, seed: 1)
    _ = try TinyModel.write(to: c.folder, generation: generation, seed: 2)
    let first = try Self.contents(of: a.folder)
    #expect(try first == Self.contents(of: b.folder))
    let other = try Self.contents(of: c.folder)
    #expect(first.keys == other.keys)
    for (name, data) in first {
      #expect((data == other[name]) == !name.hasSuffix(".safetensors"), "\(name)")
    }
    #expect(try a.names() == ["model"])  // nothing beside it
    #expect(first.values.reduce(0) { $0 + $1.count } < 40_000_000)
  }

  @Test func aFolderWithContentIsNotTouchedUnlessAsked() throws {
    let scratch = try Scratch()
    let kept = URL(fileURLWithPath: scratch.folder).appendingPathComponent("notes.txt")
    try FileManager.default.createDirectory(
      atPath: scratch.folder, withIntermediateDirectories: true)
    try Data("mine".utf8).write(to: kept)
    let error = #expect(throws: Support.Issue.self) { try TinyModel.write(to: scratch.folder) }
    #expect(error?.file == scratch.folder && error?.problem == "is not empty")
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.folder) == ["notes.txt"])

    let files = try TinyModel.write(to: scratch.folder, isOverwriting: true)
    #expect(try Data(contentsOf: kept) == Data("mine".utf8))
    #expect(throws: Never.self) { try Checkpoint(path: files.checkpoint) }
    #expect(try scratch.names() == ["model"])
  }

  @Test func aFileIsRefused() throws {
    let scratch = try Scratch()
    try Data("a".utf8).write(to: URL(fileURLWithPath: scratch.folder))
    let error = #expect(throws: Support.Issue.self) {
      try TinyModel.write(to: scratch.folder, isOverwriting: true)
    }
    #expect(error?.problem == "is a file")
  }

  @Test(arguments: TinyModel.Generation.allCases)
  func theFilesAreWhole(_ generation: TinyModel.Generation) throws {
    let scratch = try Scratch()
    let files = try TinyModel.write(to: scratch.folder, generation: generation)
    if generation != .ltx25 { try keysAreThoseOfTheReference(files, generation) }
    try everyModelReadsAllThatIsItsOwn(files, generation)
    try noTensorIsConstant(files)
    try theLoRAIsSmall(files)
  }

  /// The fixtures' keys are those of upstream's modules.
  private func keysAreThoseOfTheReference(
    _ files: TinyModel.Files, _ generation: TinyModel.Generation
  ) throws {
    let file = try SafetensorsFile(path: files.checkpoint)
    let ours = file.entries
    let reference = generation == .ltx2 ? "ltx2" : "ltx23"
    for (file, prefixes) in [
      ("\(reference)_transformer", ["model.", "text_embedding_projection."]),
      ("\(reference)_vae", ["vae."]),
    ] {
      let theirs = try SafetensorsFile(path: Fixtures.model(file)).entries
      let mine = ours.keys.filter { key in prefixes.contains { key.hasPrefix($0) } }
      #expect(Self.patterns(mine) == Self.patterns(theirs.keys))
    }
    let isWide = { (key: String) in key.hasSuffix("scale_shift_table") || key.contains("statistics")
    }
    for (key, entry) in ours where !key.contains("scale_shift_table_a2v") {
      #expect(entry.dtype == (generation == .ltx23 && isWide(key) ? .float32 : .bfloat16), "\(key)")
    }
    #expect(file.metadata["model_version"] == (generation == .ltx2 ? nil : "2.3.0"))
    for (name, path) in [
      ("upsampler_spatial", files.spatialUpsampler),
      ("upsampler_temporal", files.temporalUpsampler),
    ] {
      let theirs = try SafetensorsFile(path: Fixtures.model(name)).entries
      #expect(
        try Self.patterns(SafetensorsFile(path: path).entries.keys) == Self.patterns(theirs.keys))
    }
    // Encoder and decoder share the statistics.
    #expect(ours.keys.filter { $0.hasPrefix("audio_vae.") }.count == 104 - 2)
    #expect((ours["vocoder.bwe_generator.conv_pre.weight"] != nil) == (generation == .ltx23))
    if generation == .ltx2 { #expect(ours.keys.filter { $0.hasPrefix("vocoder.") }.count == 194) }
  }

  private func everyModelReadsAllThatIsItsOwn(
    _ files: TinyModel.Files, _ generation: TinyModel.Generation
  ) throws {
    let checkpoint = try Checkpoint(path: files.checkpoint)
    let root = checkpoint.weights()
    let scope = root / "model" / "diffusion_model"
    let text = try TextConfiguration(checkpoint.config)
    _ = try Transformer(scope, configuration: TransformerConfiguration(checkpoint.config))
    _ = try TextConnectors(scope, configuration: text)
    _ = try PromptEncoder(checkpoint: root, configuration: text, textEncoder: files.textEncoder)
    _ = try VideoEncoder(
      root / "vae", configuration: VideoVAEConfiguration.Encoder(checkpoint.config))
    _ = try VideoDecoder(
      root / "vae", configuration: VideoVAEConfiguration.Decoder(checkpoint.config))
    let others = ["audio_vae.", "vocoder.", "duration_head.", "vae.decoder.coarse_"]
    let unused = root.unusedKeys.filter { key in !others.contains(where: key.hasPrefix) }
    let statistics = [
      "vae.per_channel_statistics.channel", "vae.per_channel_statistics.mean-of-stds",
      "vae.per_channel_statistics.mean-of-stds_over_std-of-means",
    ]
    #expect(unused == (generation == .ltx25 ? [] : statistics))
  }

  /// A file for each component has what the unified file has, and every weight is read.
  @Test func aSplitPackIsWhole() throws {
    let scratch = try Scratch()
    let files = try TinyModel.write(to: scratch.folder, generation: .ltx25, isSplit: true, seed: 5)
    #expect(files.paths.allSatisfy { FileManager.default.fileExists(atPath: $0) })
    let checkpoint = try Checkpoint(files.model)
    try checkpoint.require("transformer", "vae", "audio_vae", "vocoder", "duration_head")
    let inspection = CheckpointInspection(checkpoint)
    #expect(inspection.unknownKeys.isEmpty && inspection.problems.isEmpty)
    #expect(inspection.missing.isEmpty, "\(inspection.missing)")
    #expect(checkpoint.version?.parts == [2, 5, 0])
    #expect(checkpoint.metadata(of: .transformer)["gemma_source_checkpoint"] != nil)
    _ = try checkpoint.promptEncoder()
    _ = try checkpoint.durationHead()
    #expect(try checkpoint.hasDiffusionDecoder == true)
    #expect(try checkpoint.supportsGeneratedKeyframes == false)
    // The video VAE's names are bare, the audio VAE's are not.
    let video = try SafetensorsFile(path: #require(files.videoVAE))
    #expect(video.keys.allSatisfy { !$0.hasPrefix("vae.") })
    let audio = try SafetensorsFile(path: #require(files.audioVAE))
    #expect(audio.keys.allSatisfy { $0.hasPrefix("audio_vae.") || $0.hasPrefix("vocoder.") })
  }

  private func noTensorIsConstant(_ files: TinyModel.Files) throws {
    let sources: [any TensorSource] = [
      try SafetensorsFile(path: files.checkpoint),
      try ShardedSafetensors(folder: files.textEncoder),
      try SafetensorsFile(path: files.spatialUpsampler),
      try SafetensorsFile(path: files.temporalUpsampler),
      try SafetensorsFile(path: files.distilledLoRA),
    ]
    for source in sources {
      for key in source.entries.keys {
        let values = try source.tensor(key).to(.float32)
        // A few values may be close to each other; the vocoder's last layers have one channel.
        if values.count > 4 { #expect(try (values.max() - values.min()).item() > 0.003, "\(key)") }
        if key.contains("std-of-means") || key.contains("stds") {
          #expect(try values.min().item() > 0)
        }
      }
    }
  }

  @Test(arguments: TinyModel.Generation.allCases)
  func signalsKeepTheirSize(_ generation: TinyModel.Generation) throws {
    let scratch = try Scratch()
    let files = try TinyModel.write(to: scratch.folder, generation: generation, seed: 3)
    for dtype in [DType.float32, .bfloat16] { try signalsKeepTheirSize(files, dtype) }
  }

  private func signalsKeepTheirSize(_ files: TinyModel.Files, _ dtype: DType) throws {
    let checkpoint = try Checkpoint(path: files.checkpoint)
    let root = checkpoint.weights(LoadPolicy(dtype: dtype))
    let scope = root / "model" / "diffusion_model"
    let text = try TextConfiguration(checkpoint.config)
    let random = try Generator(seed: 5)

    func expectOrderOne(_ tensor: Tensor, _ what: String) throws {
      let values = try tensor.to(.float32)
      #expect(try values.isFinite().all().item() == 1, "\(what)")
      let deviation = try values.std().item()
      #expect((0.1...10).contains(deviation), "\(what) \(deviation)")
    }

    try withoutGrad {
      let prompts = try PromptEncoder(
        checkpoint: root, configuration: text, textEncoder: files.textEncoder, dtype: dtype)
      let features = try prompts(["slow waves of blue light"])
      try expectOrderOne(features.byModality.video.slice(1, from: 1015), "features")
      let contexts = try TextConnectors(scope, configuration: text)(features)
      let (videoContext, audioContext) = (
        try #require(contexts.byModality.video), try #require(contexts.byModality.audio)
      )
      try expectOrderOne(videoContext, "context")

      let encoder = try checkpoint.videoEncoder(dtype: dtype)
      let decoder = try checkpoint.videoDecoder(dtype: dtype)
      let clip = try (random.uniform([1, 3, 9, 64, 64]) * 2 - 1).to(dtype)
      let latent = try encoder.encode(clip, tiling: nil)
      #expect(latent.shape == [1, 16, 2, 2, 2])
      try expectOrderOne(latent, "latent")
      let statistics = try checkpoint.videoLatentStatistics(dtype: dtype)
      for (path, shape) in [
        (files.spatialUpsampler, [1, 16, 2, 4, 4]), (files.temporalUpsampler, [1, 16, 3, 2, 2]),
      ] {
        let larger = try LatentUpsampler(path: path, dtype: dtype)(latent, statistics: statistics)
        #expect(larger.shape == shape)
        try expectOrderOne(larger, path)
      }
      let decoded = try decoder.decode(
        latent, noise: decoder.needsNoise ? { try random.normal($0) } : nil)
      #expect(decoded.shape == clip.shape)
      try expectOrderOne(decoded, "decoded")

      let transformer = try checkpoint.transformer(LoadPolicy(dtype: dtype))
      for sigma in [0.05, 1.0] {
        let sigmas = try Tensor.full([1], Scalar(sigma))
        let timesteps = try Tensor.full([1, 1], Scalar(sigma))
        let video = ModalityInput(
          latent: try random.normal([1, 8, 16]).to(dtype), timesteps: timesteps, sigma: sigmas,
          positions: try VideoTokens.positions(
            batch: 1, frames: 2, rows: 2, columns: 2, fps: 24, factors: .usual),
          context: try videoContext.to(dtype))
        let audio = ModalityInput(
          latent: try random.normal([1, 9, 32]).to(dtype), timesteps: timesteps, sigma: sigmas,
          positions: try AudioTokens().positions(batch: 1, frames: 9),
          context: try audioContext.to(dtype))
        let velocity = try transformer(PerModality(video: video, audio: audio))
        try expectOrderOne(try #require(velocity.video), "video velocity at \(sigma)")
        try expectOrderOne(try #require(velocity.audio), "audio velocity at \(sigma)")
      }
    }
  }

  /// The LoRA fits, and changes the model's output a little.
  private func theLoRAIsSmall(_ files: TinyModel.Files) throws {
    let checkpoint = try Checkpoint(path: files.checkpoint)
    let lora = try LoRAFile(path: files.distilledLoRA)
    // In each block: four layers of six attentions, two of two feed-forwards.
    #expect(lora.modules.count == TinyTransformer().blocks * (6 * 4 + 2 * 2))
    var adapters = AdapterSet()
    try lora.add(to: &adapters, strength: 1, dtype: .float32)
    let random = try Generator(seed: 6)
    let sigma = try Tensor.full([1], 0.5)
    let configuration = try TransformerConfiguration(checkpoint.config)
    let width = configuration.captionChannels ?? configuration.sizes.video.width
    let video = ModalityInput(
      latent: try random.normal([1, 4, 16]), timesteps: try sigma.unsqueeze(1), sigma: sigma,
      positions: try VideoTokens.positions(
        batch: 1, frames: 1, rows: 2, columns: 2, fps: 24, factors: .usual),
      context: try random.normal([1, 5, width]))
    func velocity(_ adapters: AdapterSet) throws -> Tensor {
      let transformer = try checkpoint.transformer(LoadPolicy(dtype: .float32, adapters: adapters))
      return try #require(transformer(PerModality(video: video, audio: nil)).video)
    }
    let plain = try velocity(AdapterSet())
    let change = try ((velocity(adapters) - plain).std() / plain.std()).item()
    #expect((0.005...0.5).contains(change), "\(change)")
  }

  @Test func tokenizerTakesAnyText() throws {
    let scratch = try Scratch()
    let files = try TinyModel.write(to: scratch.folder)
    let tokenizer = try openTokenizer(at: files.textEncoder)
    let rows = TinyTokenizer().embeddingCount
    for (id, token) in ["<pad>", "<eos>", "<bos>", "<unk>"].enumerated() {
      #expect(tokenizer.id(of: token) == id)
    }
    for byte in [0, 10, 255] { #expect(tokenizer.id(of: String(format: "<0x%02X>", byte)) != nil) }
    for text in [
      "A camera moves  slowly.\n\nÜber Köln, кошка: 漢字 😀 \u{0}\u{1F3AC}", "",
      "\u{301}e\u{301}\t\t\t",
    ] {
      let ids = try tokenizer.encode(text, addBOS: true)
      #expect(tokenizer.decode(ids, skipSpecialTokens: true) == text)
      #expect(ids.allSatisfy { $0 < rows && $0 != 3 })
    }
    // Frequent words are one token.
    #expect(try tokenizer.encode(" the camera", addBOS: false).count == 2)
  }

  @Test func mergesAreLearntByFrequency() {
    let merges = PairMerging.learn(from: ["ab abc", "ab. x ab."], count: 10)
    // "ab" occurs 4 times, " ab" twice (there is no space before it at the start of a sentence).
    #expect(merges == [Merge(left: "a", right: "b"), Merge(left: "\u{2581}", right: "ab")])
  }
}
