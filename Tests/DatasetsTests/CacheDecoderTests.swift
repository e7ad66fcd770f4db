import Foundation
import Generation
import LTX
import Media
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Datasets

/// Decodes cached latents to media, with the tiny model.
@Suite struct CacheDecoderTests {
  private let cache: CachedFiles
  private let model: TinyModelFiles
  private let checkpoint: Checkpoint

  init() throws {
    cache = try CachedFiles()
    model = try TinyModelFiles.ltx2()
    checkpoint = try Checkpoint(path: model.checkpoint)
  }

  private func options(_ change: (inout CacheDecodingOptions) -> Void = { _ in })
    -> CacheDecodingOptions
  {
    var options = CacheDecodingOptions()
    options.dtype = .float32
    change(&options)
    return options
  }

  private func decode(
    _ path: String, _ change: (inout CacheDecodingOptions) -> Void = { _ in }
  ) throws -> CacheDecodingSummary {
    try CacheDecoder(models: ModelFiles(unified: model.checkpoint), options: options(change))
      .decode(path, into: cache.scratch.file("out"))
  }

  /// [C, F, H, W]
  private func video(_ name: String, frames: Int, rate: Double = 25, folder: String = "latents")
    throws
    -> Tensor
  {
    let channels = try VideoVAEConfiguration.Decoder(checkpoint.config).latentChannels
    let latents = try Generator(seed: 5).normal([channels, frames, 2, 3])
    try cache.write(
      "\(folder)/\(name)",
      [
        ("latents", latents), ("num_frames", Tensor([frames])), ("height", Tensor([2])),
        ("width", Tensor([3])),
        ("fps", Tensor([rate])),
      ])
    return latents
  }

  /// [C, T, N]
  private func audio(_ name: String, steps: Int, folder: String = "audio_latents") throws -> Tensor
  {
    let configuration = try AudioVAEConfiguration(checkpoint.config)
    let latents = try Generator(seed: 6).normal(
      [configuration.latentChannels, steps, configuration.frequencyBins])
    try cache.write(
      "\(folder)/\(name)",
      [
        ("latents", latents), ("num_time_steps", Tensor([steps])),
        ("frequency_bins", Tensor([configuration.frequencyBins])),
        ("duration", Tensor([Double(steps) / 25])),
      ])
    return latents
  }

  @Test func filesOfAnotherModelAreCounted() throws {
    let models = ModelFiles(unified: model.checkpoint)
    let own = try FileIdentity.identity(of: models)
    let latents = try video("a", frames: 1)
    for (name, identity) in [("b", own), ("c", "of another")] {
      try cache.write(
        "latents/\(name)", [("latents", latents), ("fps", Tensor([25.0]))],
        [Fingerprint.Key.model.rawValue: identity])
    }
    let summary = try decode("\(cache.root)/latents")
    #expect(summary.written.count == 3 && summary.ofOtherModels == 1)
  }

  private var written: [String] { cache.scratch.files(below: "out") }

  private func samples(_ path: String) throws -> AudioClip { try AudioClip.read(path: path) }

  @Test func anImageIsExactlyTheDecodersOutput() throws {
    let latents = try video("sub/still", frames: 1, rate: 1)
    #expect(try decode("\(cache.root)/latents").failures.isEmpty)
    #expect(written == ["sub/still.png"])
    let wanted = try withoutGrad {
      try FrameTensors.frames(checkpoint.videoDecoder(dtype: .float32).decode(latents.unsqueeze(0)))
    }
    let found = try #require(try VideoReader(path: cache.scratch.file("out/sub/still.png")).next())
    #expect(found.bytes == wanted.first?.bytes)
  }

  @Test func aVideoHasItsFramesAndItsExactRate() throws {
    let latents = try video("a", frames: 3, rate: 30000 / 1001.0)
    let frames = try withoutGrad {
      try FrameTensors.frames(checkpoint.videoDecoder(dtype: .float32).decode(latents.unsqueeze(0)))
    }
    let wanted = cache.scratch.file("wanted.mp4")
    let writer = try VideoWriter(
      path: wanted, width: 96, height: 64, frameRate: Rational(30000, 1001),
      quality: .init(preset: "superfast"))
    for frame in frames { try writer.append(frame) }
    try writer.finish()
    for tiling in [true, false] {
      #expect(try decode("\(cache.root)/latents/") { $0.vaeTiling = tiling }.failures.isEmpty)
      let path = cache.scratch.file("out/a.mp4")
      #expect(try VideoReader(path: path).frameRate == Rational(30000, 1001))
      #expect(try VideoReader.countFrames(path: path) == 17)
      #expect(
        try Data(contentsOf: URL(fileURLWithPath: path))
          == Data(contentsOf: URL(fileURLWithPath: wanted)))
    }
  }

  @Test func audioIsTheVocodersOutput() throws {
    let latents = try audio("a", steps: 6)
    #expect(try decode("\(cache.root)/audio_latents").written == [cache.scratch.file("out/a.wav")])
    let wanted = try withoutGrad {
      try AudioTensors.channels(
        checkpoint.vocoder(dtype: .float32)(
          checkpoint.audioDecoder(dtype: .float32)(latents.unsqueeze(0))))
    }
    let found = try samples(cache.scratch.file("out/a.wav"))
    #expect(found.sampleRate == (try checkpoint.vocoder(dtype: .float32).sampleRate))
    #expect(found.sampleCount == wanted[0].count)
    for channel in 0..<2 {
      let largest =
        zip(found.channels[channel], wanted[channel]).map { abs($0 - min(1, max(-1, $1))) }.max()
        ?? 1
      #expect(largest < 2 / 32767, "16 bits")
    }
  }

  @Test func tokensOfOlderCachesDecodeToTheSame() throws {
    let latents = try video("new", frames: 1)
    let shape = latents.shape
    let tokens = try latents.permute([1, 2, 3, 0]).reshape([
      shape[1] * shape[2] * shape[3], shape[0],
    ])
    .contiguous()
    try cache.write(
      "latents/old",
      [
        ("latents", tokens), ("num_frames", Tensor([1])), ("height", Tensor([2])),
        ("width", Tensor([3])),
      ])
    let steps = try audio("new", steps: 5)
    try cache.write(
      "audio_latents/old",
      [
        ("latents", try steps.permute([1, 2, 0]).reshape([-1, steps.size(0)]).contiguous()),
        ("num_time_steps", Tensor([5])), ("frequency_bins", Tensor([steps.size(2)])),
      ])
    #expect(try decode(cache.scratch.path).failures.isEmpty)
    for (folder, ending) in [("decoded_videos", "png"), ("decoded_audio", "wav")] {
      let pair = try ["new", "old"].map {
        try Data(
          contentsOf: URL(fileURLWithPath: cache.scratch.file("out/\(folder)/\($0).\(ending)")))
      }
      #expect(pair[0] == pair[1], "\(folder)")
    }
  }

  @Test func aWholeCacheDecodesToVideosWithAudio() throws {
    _ = try video("a", frames: 2)
    _ = try video("b", frames: 2, rate: 24)
    _ = try video("a", frames: 2, folder: "reference_latents")
    _ = try audio("a", steps: 20)
    _ = try audio("a", steps: 4, folder: "reference_audio_latents")
    try cache.write(
      "video_masks/b",
      [("mask", Tensor([1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0].map(Float.init), shape: [2, 2, 3]))])
    try cache.write("audio_masks/a", [("mask", Tensor([Float(0), 1, 1, 0]))])
    try cache.conditions("a")
    var loads: [String] = []
    let decoder = try CacheDecoder(
      models: ModelFiles(unified: model.checkpoint), options: options { $0.withAudio = true })
    let summary = try decoder.decode(cache.scratch.path, into: cache.scratch.file("out")) {
      if case .loading(let what) = $0 { loads.append(what) }
    }
    #expect(summary.failures.isEmpty && summary.written.count == 7, "\(summary.failures)")
    #expect(loads.count == 2, "each model is loaded once: \(loads)")
    #expect(
      written == [
        "decoded_audio/a.wav", "decoded_audio_masks/a.png", "decoded_reference_audio/a.wav",
        "decoded_reference_videos/a.mp4", "decoded_video_masks/b.mp4", "decoded_videos/a.mp4",
        "decoded_videos/b.mp4",
      ])
    #expect(try VideoReader(path: cache.scratch.file("out/decoded_videos/a.mp4")).hasAudio)
    #expect(try !VideoReader(path: cache.scratch.file("out/decoded_videos/b.mp4")).hasAudio)
    let audio = try samples(cache.scratch.file("out/decoded_videos/a.mp4"))
    #expect(abs(audio.duration - 9 / 25) < 0.03, "as long as the video: \(audio.duration)")

    // White where the mask is 1: the first latent frame for one frame, the second for eight.
    let mask = try VideoReader(path: cache.scratch.file("out/decoded_video_masks/b.mp4"))
    #expect(mask.frameRate == Rational(24))
    var frames: [RGBFrame] = []
    while let frame = try mask.next() { frames.append(frame) }
    try #require(frames.count == 9 && frames[0].width == 96 && frames[0].height == 64)
    func level(_ frame: RGBFrame, _ row: Int, _ column: Int) -> UInt8 {
      frame.bytes[3 * ((32 * row + 16) * 96 + 32 * column + 16)]
    }
    #expect(
      [(0, 0), (0, 1), (1, 0), (1, 2)].map { level(frames[0], $0.0, $0.1) > 127 } == [
        true, false, true, true,
      ])
    #expect((1..<9).allSatisfy { level(frames[$0], 0, 0) < 128 })
  }

  @Test func oneFolderIsDecodedWithAudioBesideItOrAsOneFile() throws {
    _ = try video("sub/a", frames: 2)
    _ = try audio("sub/a", steps: 9)
    let output = cache.scratch.file("out/videos")
    let decoder = try CacheDecoder(
      models: ModelFiles(unified: model.checkpoint), options: options { $0.withAudio = true })
    #expect(try decoder.decode("\(cache.root)/latents", into: output).failures.isEmpty)
    #expect(written == ["decoded_audio/sub/a.wav", "videos/sub/a.mp4"])
    #expect(try VideoReader(path: "\(output)/sub/a.mp4").hasAudio)

    let one = cache.scratch.file("out/one")
    #expect(
      try decoder.decode("\(cache.root)/latents/sub/a.safetensors", into: one).written == [
        "\(one)/a.mp4"
      ])
    #expect(try VideoReader(path: "\(one)/a.mp4").hasAudio)
  }

  @Test func filesThatCantBeDecodedAreReportedAndTheOthersDecoded() throws {
    let latents = try video("good", frames: 1)
    try cache.latents("other_model", shape: [5, 1, 2, 3])
    try cache.write(
      "latents/nan", [("latents", try latents * Double.nan), ("fps", Tensor([25.0]))])
    try cache.write("latents/rate", [("latents", latents), ("fps", Tensor([-1.0]))])
    try cache.write("latents/slow", [("latents", latents), ("fps", Tensor([1e-6]))])
    try cache.scratch.write("nothing", to: ".precomputed/latents/text.safetensors")
    let summary = try decode("\(cache.root)/latents")
    #expect(written == ["good.png"])
    #expect(summary.written.count == 1 && summary.failures.count == 5)
    for (failure, (name, text)) in zip(
      summary.failures,
      [
        ("nan", "NaN"), ("other_model", "made with another model"), ("rate", "fps is -1"),
        ("slow", "fps is 1e-06, which is not a frame rate"),
        ("text", "too few"),
      ])
    {
      #expect(
        failure.hasPrefix("\(cache.root)/latents/\(name).safetensors: ") && failure.contains(text),
        "\(failure)")
    }
  }

  @Test func nothingToDecode() throws {
    try cache.conditions("a")
    #expect(message { _ = try decode(cache.scratch.file("none")) }.contains("does not exist"))
    #expect(message { _ = try decode("\(cache.root)/conditions") }.contains("text features"))
    #expect(
      message { _ = try decode(cache.root) }.contains(
        "holds no .safetensors or .pt files to decode"))
    _ = try audio("a", steps: 3)
    let silent = cache.scratch.file("silent.safetensors")
    try writeSafetensors(
      [("x", Tensor.ones([1]))],
      metadata: ["config": #"{"vae": {}, "transformer": {}}"#], to: silent)
    let text = message {
      _ = try CacheDecoder(models: ModelFiles(unified: silent)).decode(
        cache.root, into: cache.scratch.file("out"))
    }
    #expect(text.contains("config.audio_vae: is missing"), "\(text)")
    #expect(written.isEmpty)
  }
}
