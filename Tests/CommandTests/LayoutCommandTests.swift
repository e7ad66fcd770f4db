import Foundation
import LTX
import Media
import TensorFiles
import TestSupport
import Testing
import Torch

/// The commands on LTX-2.5 as one file and as a split pack: the whole path, and sets of files that
/// don't belong together.
@Suite(.serialized) struct LayoutCommandTests {
  enum Layout: String, CaseIterable, Sendable { case unified, split }

  /// Tiny models of several generations, two short clips, and a cache for each layout.
  private final class Prepared: Sendable {
    static let shared = Result { try Prepared() }

    let path: String
    private let workshop: Workshop

    private init() throws {
      workshop = try Workshop()
      path = workshop.path
      for arguments in [
        ["unified", "--generation", "2.5"], ["split", "--generation", "2.5", "--split"], ["old"],
      ] {
        let made = try Program.run(["tiny-model"] + arguments, in: path)
        #expect(made.status == 0, "\(made.errors)")
      }
      for (name, source) in [("a", "testsrc2"), ("b", "mandelbrot")] {
        try runFFmpeg([
          "-f", "lavfi", "-i", "\(source)=size=96x64:rate=24", "-f", "lavfi", "-i",
          "sine=frequency=440", "-t", "0.5", "-pix_fmt", "yuv420p", "\(path)/\(name).mp4",
        ])
      }
      try workshop.write("d.csv", "video,caption\na.mp4,one\nb.mp4,two\n")
    }

    func file(_ component: ModelFiles.Component) -> String {
      "split/\(TinyModel.Generation.ltx25.splitName(component))"
    }

    /// The options that name a model's files.
    func options(_ layout: Layout, textEncoder: Bool = true) -> [String] {
      let generation = TinyModel.Generation.ltx25
      switch layout {
      case .unified:
        return ["--model-path", "unified/\(generation.checkpointName)"]
          + (textEncoder
            ? ["--text-encoder-path", "unified/\(generation.textEncoderName)"] : [])
      case .split:
        return
          (textEncoder
          ? [
            "--transformer-path", file(.transformer), "--text-encoder-path", file(.textEncoder),
          ] : []) + ["--video-vae-path", file(.videoVAE), "--audio-vae-path", file(.audioVAE)]
      }
    }

    /// Preprocesses the clips with a layout's model.
    func preprocess(_ layout: Layout) throws -> Program.Result {
      try Program.run(
        [
          "preprocess", "d.csv", "--resolution-buckets", "64x64x9", "--output-dir",
          "cache-\(layout)",
        ] + options(layout), in: path)
    }

    /// Writes a training configuration.
    func configure(
      _ layout: Layout, _ name: String, model: [String]? = nil, more: String = ""
    ) throws -> String {
      let generation = TinyModel.Generation.ltx25
      let lines =
        model
        ?? (layout == .unified
          ? [
            "model_path: unified/\(generation.checkpointName)",
            "text_encoder_path: unified/\(generation.textEncoderName)",
          ]
          : [
            "model_path: \(file(.transformer))", "text_encoder_path: \(file(.textEncoder))",
            "video_vae_path: \(file(.videoVAE))", "audio_vae_path: \(file(.audioVAE))",
          ])
      try workshop.write(
        "\(name).yaml",
        """
        model: {\(lines.joined(separator: ", "))}
        lora: {rank: 4, alpha: 4, target_modules: [to_q, to_v]}
        training_strategy: {name: flexible, video: {is_generated: true, latents_dir: latents},
          audio: {is_generated: true, latents_dir: audio_latents}}
        optimization: {learning_rate: 1e-3, steps: 2, batch_size: 1}
        acceleration: {mixed_precision_mode: "no"}
        data: {preprocessed_data_root: \(path)/cache-\(layout)}
        output_dir: \(path)/\(name)
        \(more)
        """)
      return "\(name).yaml"
    }

    /// The smallest and fastest request.
    func generate(_ layout: Layout, _ output: String, _ more: [String]) throws -> Program.Result {
      try Program.run(
        [
          "generate", "--prompt", "a red ball", "--width", "64", "--height", "64", "--distilled",
          "--output", output,
        ] + options(layout) + more, in: path)
    }

    func frameCount(_ name: String) throws -> Int {
      try VideoReader.countFrames(path: "\(path)/\(name)")
    }
  }

  @Test(arguments: Layout.allCases) func fromClipsToAVideoOfATrainedLoRA(_ layout: Layout) throws {
    let prepared = try Prepared.shared.get()
    let cached = try prepared.preprocess(layout)
    #expect(cached.status == 0, "\(cached.errors)")
    let again = try prepared.preprocess(layout)
    #expect(again.output.contains("2 rows: 2 up to date"), "\(again.output) \(again.errors)")

    let configuration = try prepared.configure(
      layout, "run-\(layout)",
      more: """
        validation: {samples: [{prompt: a red ball}], video_dims: [64, 64, 9], frame_rate: 24,
          inference_steps: 1, interval: 2}
        """)
    let trained = try Program.run(["train", configuration], in: prepared.path)
    #expect(trained.status == 0, "\(trained.errors)")
    let folder = "\(prepared.path)/run-\(layout)"
    let samples = try FileManager.default.contentsOfDirectory(atPath: "\(folder)/samples")
    #expect(samples.contains { $0.hasSuffix(".mp4") }, "\(samples)")
    let lora = try #require(
      FileManager.default.contentsOfDirectory(atPath: "\(folder)/checkpoints").sorted().last {
        $0.hasPrefix("lora_weights")
      })

    let generated = try prepared.generate(
      layout, "out-\(layout).mp4",
      ["--num-frames", "9", "--lora", "run-\(layout)/checkpoints/\(lora)"])
    #expect(generated.status == 0, "\(generated.errors)")
    #expect(try prepared.frameCount("out-\(layout).mp4") == 9)

    let decoded = try Program.run(
      ["decode", "cache-\(layout)", "decoded-\(layout)"]
        + prepared.options(layout, textEncoder: false), in: prepared.path)
    #expect(decoded.status == 0, "\(decoded.errors)")
    #expect(try prepared.frameCount("decoded-\(layout)/decoded_videos/a.mp4") == 9)
  }

  /// The length is within the range, whatever an untrained head predicts.
  @Test(arguments: Layout.allCases) func theModelChoosesTheLength(_ layout: Layout) throws {
    let prepared = try Prepared.shared.get()
    let head = layout == .split ? ["--duration-head-path", prepared.file(.durationHead)] : []
    let result = try prepared.generate(
      layout, "long-\(layout).mp4",
      ["--auto-duration", "0.7", "0.8", "--no-audio", "--prompt", "a blue house"] + head)
    #expect(result.status == 0, "\(result.errors)")
    #expect(
      result.output == "long-\(layout)-1.mp4\nlong-\(layout)-2.mp4\n", "\(result.output)")
    for number in 1...2 {
      #expect(try prepared.frameCount("long-\(layout)-\(number).mp4") == 17)
    }
  }

  @Test func keyframesAreGeneratedOnlyByModelsThatWereTrainedForThem() throws {
    let prepared = try Prepared.shared.get()
    let options = ["--num-frames", "9", "--no-audio"]
    let plain = try prepared.generate(.unified, "plain.mp4", options)
    let more = try prepared.generate(
      .unified, "keyframes.mp4", options + ["--num-generated-keyframes", "1"])
    #expect(plain.status == 0 && more.status == 0, "\(more.errors)")
    #expect(try prepared.frameCount("keyframes.mp4") == 9)
    let files = ["plain.mp4", "keyframes.mp4"].map {
      FileManager.default.contents(atPath: "\(prepared.path)/\($0)")
    }
    #expect(files[0] != files[1])
    let refused = try prepared.generate(
      .split, "no.mp4", options + ["--generated-keyframes", "4"])
    #expect(refused.status == 2)
    #expect(
      refused.errors.contains("--generated-keyframes: the transformer of")
        && refused.errors.contains("was not trained to generate keyframes"), "\(refused.errors)")
  }

  /// 41 frames are padded to 49, two segments of 24; a round doubles the frame rate.
  @Test func theDetailingRecipeAddsFramesBetweenKeyframes() throws {
    let prepared = try Prepared.shared.get()
    let generation = TinyModel.Generation.ltx25
    let stages = [
      "--num-frames", "41", "--spatial-upsampler-path",
      "unified/\(generation.spatialUpsamplerName)",
      "--dfr",
    ]
    let round = [
      "--temporal-upsampler-path", "unified/\(generation.temporalUpsamplerName)",
      "--temporal-upsample-rounds", "1",
    ]
    let result = try prepared.generate(.unified, "detailed.mp4", stages + round)
    #expect(result.status == 0, "\(result.errors)")
    let reader = try VideoReader(path: "\(prepared.path)/detailed.mp4")
    #expect(reader.frameRate.value == 48 && reader.hasAudio)
    #expect(try prepared.frameCount("detailed.mp4") == 81)
    for (options, problem) in [
      (stages + ["--temporal-upsample-rounds", "1"], "--temporal-upsampler-path: is missing"),
      (stages + ["--num-generated-keyframes", "1"], "--dfr: chooses the keyframes itself"),
      (
        stages + round + ["--temporal-upsample-rounds", "3"], "--temporal-upsample-rounds: must be"
      ),
      (["--num-frames", "41", "--dfr"], "--dfr: samples a distilled model in two stages"),
      (["--num-frames", "41"] + round, "--temporal-upsample-rounds is for --dfr"),
    ] {
      let refused = try prepared.generate(.unified, "never.mp4", options)
      #expect(refused.status == 2 && refused.errors.contains(problem), "\(refused.errors)")
    }
    let split = try prepared.generate(.split, "never.mp4", stages)
    #expect(split.status == 2 && split.errors.contains("--dfr: needs a transformer"))
  }

  /// One sentence each, before anything is loaded.
  @Test func filesThatDoNotBelongTogetherAreRefused() throws {
    let prepared = try Prepared.shared.get()
    let generation = TinyModel.Generation.ltx25
    let unified = "unified/\(generation.checkpointName)"
    let gemma4 = "unified/\(generation.textEncoderName)"
    let gemma3 = "old/\(TinyModel.textEncoderName)"
    let old = "old/\(TinyModel.checkpointName)"
    let transformer = ["--transformer-path", prepared.file(.transformer)]
    let packed = ["--text-encoder-path", prepared.file(.textEncoder)]
    let vae = ["--video-vae-path", prepared.file(.videoVAE)]
    let cases: [(options: [String], problem: String)] = [
      (["--model-path", prepared.file(.transformer)] + packed, "config.vae: is missing"),
      (transformer + packed, "config.vae: is missing"),
      (
        transformer + packed + ["--video-vae-path", prepared.file(.transformer)],
        "config.vae: is missing, but this file is given as the one of the video VAE"
      ),
      (
        ["--transformer-path", prepared.file(.durationHead)] + packed + vae,
        "has no tensors of the transformer"
      ),
      (
        transformer + packed + vae + ["--auto-duration", "1", "2"],
        "--auto-duration: "
      ),
      (transformer + vae + ["--text-encoder-path", gemma4], "text_embedding_projection"),
      (["--model-path", unified, "--text-encoder-path", gemma3], "--text-encoder-path: "),
      (["--model-path", old, "--text-encoder-path", gemma4], "--text-encoder-path: "),
    ]
    for (options, problem) in cases {
      let result = try Program.run(
        [
          "generate", "--prompt", "a ball", "--width", "64", "--height", "64", "--no-audio",
          "--output", "never.mp4",
        ] + options, in: prepared.path)
      #expect(result.status == 2, "\(options): \(result.errors)")
      let lines = result.errors.split(separator: "\n").filter { !$0.hasPrefix("note: ") }
      #expect(lines.count == 1 && result.errors.contains(problem), "\(options): \(result.errors)")
    }
  }

  @Test func trainingRefusesACacheOfAnotherGeometryAndAPackWithoutItsVAE() throws {
    let prepared = try Prepared.shared.get()
    #expect(try prepared.preprocess(.split).status == 0)
    let lone = try prepared.configure(
      .split, "lone",
      model: [
        "model_path: \(prepared.file(.transformer))",
        "text_encoder_path: \(prepared.file(.textEncoder))",
      ])
    let missing = try Program.run(["train", lone], in: prepared.path)
    #expect(missing.status != 0 && missing.errors.contains("model.video_vae_path is missing"))

    // The latents of a video VAE that compresses by 4 x 16 x 16.
    let latents = "\(prepared.path)/cache-split/latents/a.safetensors"
    let file = try SafetensorsFile(path: latents)
    let channels = try file.tensor("latents").size(0)
    let sizes = ["num_frames": 3, "height": 4, "width": 4]
    let tensors = try file.keys.map { key -> (key: String, tensor: Tensor) in
      let tensor = try file.tensor(key).clone()
      if key == "latents" { return (key, try .zeros([channels, 3, 4, 4], dtype: tensor.dtype)) }
      guard let size = sizes[key] else { return (key, tensor) }
      return (key, try .full(tensor.shape, Scalar(size), dtype: tensor.dtype))
    }
    try writeSafetensors(tensors, metadata: file.metadata, to: latents)
    let run = try prepared.configure(
      .split, "geometry", more: "")
    let result = try Program.run(["train", run], in: prepared.path)
    #expect(result.status != 0)
    #expect(
      result.errors.contains(
        "holds latents of 3 x 4 x 4 for a clip of 64x64x9, but the video VAE compresses it by "
          + "8 x 32 x 32 to 2 x 2 x 2"), "\(result.errors)")
  }

  @Test func inspectShowsWhatASetOfFilesIsAndWhatIsMissing() throws {
    let prepared = try Prepared.shared.get()
    let generation = TinyModel.Generation.ltx25
    func inspect(_ arguments: [String]) throws -> Program.Result {
      try Program.run(["inspect"] + arguments, in: prepared.path)
    }
    let unified = try inspect(["unified/\(generation.checkpointName)"])
    #expect(unified.status == 0, "\(unified.errors)")
    for line in [
      "version: 2.5.0\n", "\nvideo VAE: ", "\nduration head: ", "\nmissing: text encoder\n",
      "\nnot needed: ",
    ] {
      #expect(unified.output.contains(line), "\(unified.output)")
    }
    #expect(!unified.output.contains("reads these"), "\(unified.output)")

    let whole = try inspect(
      prepared.options(.split) + ["--duration-head-path", prepared.file(.durationHead)])
    #expect(whole.status == 0, "\(whole.errors)")
    #expect(whole.output.contains("\ntext encoder: gemma4_unified ("), "\(whole.output)")
    for absent in ["missing: ", "reads these"] { #expect(!whole.output.contains(absent)) }

    let alone = try inspect([prepared.file(.transformer)])
    #expect(
      alone.output.contains(
        "missing: text projection, video VAE, audio VAE, vocoder, text encoder\n"),
      "\(alone.output)")
    let packed = try inspect([prepared.file(.textEncoder)])
    #expect(packed.status == 0 && packed.output.contains("text projection: 4 tensors"))
    let wrong = try inspect([
      "unified/\(generation.checkpointName)", "--text-encoder-path",
      "old/\(TinyModel.textEncoderName)",
    ])
    #expect(wrong.status == 1 && wrong.errors.hasPrefix("error: "), "\(wrong.errors)")
  }
}
