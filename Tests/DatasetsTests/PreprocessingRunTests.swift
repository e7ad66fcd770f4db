import Foundation
import LTX
import Media
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import Datasets
@testable import Generation
@testable import Training

/// `ltx preprocess` from end to end: real H.264 clips, the tiny model, and the files that training
/// reads.
@Suite struct PreprocessingRunTests {
  private let fixture: PreprocessingFixture

  init() throws { fixture = try PreprocessingFixture(ownsModel: true) }

  // MARK: What is written

  @Test func latentsAndTextFeaturesAreThoseOfTheModels() throws {
    try FileManager.default.createDirectory(
      atPath: fixture.file("sub"), withIntermediateDirectories: true)
    try fixture.clip(
      "sub/wide.one.mp4", width: 128, height: 64, frames: 20, rate: Rational(30000, 1001))
    try fixture.clip("high.mp4", width: 64, height: 96, frames: 12)
    try fixture.dataset([("sub/wide.one.mp4", "a wide one"), ("high.mp4", "a high one")])
    var options = try fixture.options("96x64x17;64x96x9;64x96x17")
    options.loraTrigger = " zxqv "
    let summary = try fixture.run(options)
    #expect(
      summary.encoded(.latents) == 2 && summary.encoded(.conditions) == 2
        && summary.failures.isEmpty)

    let checkpoint = try Checkpoint(path: fixture.model.checkpoint)
    let encoder = try checkpoint.videoEncoder(dtype: .float32)
    for (name, file, size, frames, rate) in [
      ("sub/wide.one", "sub/wide.one.mp4", (96, 64), 17, 30000 / 1001.0),
      ("high", "high.mp4", (64, 96), 9, 25.0),
    ] {
      let reader = try VideoReader(path: fixture.file(file))
      let first = try (0..<frames).compactMap { _ in try reader.next() }
      let wanted = try withoutGrad {
        try encoder(FrameTensors.pixels(first, filling: size)).squeeze(0)
      }
      let found = try fixture.cached("latents/\(name)")
      #expect(found.keys == ["fps", "height", "latents", "num_frames", "width"])
      #expect(try fixture.difference(found.tensor("latents"), wanted) < 1e-5)
      #expect(
        try ["num_frames", "height", "width"].map { Int(try found.tensor($0).item()) }
          == Array(wanted.shape[1...]))
      #expect(
        found.entries["num_frames"]?.dtype == .int64 && found.entries["num_frames"]?.shape == [1])
      #expect(try found.tensor("fps").item() == rate)
    }

    let text = try PromptEncoder(
      checkpoint: checkpoint.weights(LoadPolicy(dtype: .float32)),
      configuration: TextConfiguration(checkpoint.config),
      textEncoder: fixture.model.textEncoder, dtype: .float32)
    let features = try text(["zxqv a high one"])
    let found = try fixture.cached("conditions/high")
    #expect(found.keys == ["audio_prompt_embeds", "prompt_attention_mask", "video_prompt_embeds"])
    #expect(
      try fixture.difference(
        found.tensor("video_prompt_embeds"), features.byModality.video.squeeze(0)) < 1e-5)
    #expect(
      try fixture.difference(
        found.tensor("audio_prompt_embeds"), features.byModality.audio.squeeze(0)) < 1e-5)
    #expect(found.entries["prompt_attention_mask"]?.dtype == .int64)
    #expect(try found.tensor("prompt_attention_mask").sum().item() == features.mask.sum().item())

    // Training finds both.
    #expect(
      try PrecomputedDataset(
        root: fixture.scratch.path,
        strategies: PerModality(
          video: ModalityStrategy(isGenerated: true, latentsFolder: "latents"), audio: nil)
      ).count == 2)
  }

  @Test func theDefaultIsBfloat16AndAnImageIsAClipOfOneFrame() throws {
    try RGBFrame(
      bytes: (0..<(3 * 70 * 66)).map { UInt8(truncatingIfNeeded: $0) }, width: 70, height: 66
    )
    .writePNG(to: fixture.file("still.png"))
    try fixture.dataset([("still.png", "an image")])
    var options = try fixture.options("64x64x9;64x64x1")
    options.dtype = .bfloat16
    #expect(try fixture.run(options).encoded(.latents) == 1)
    let found = try fixture.cached("latents/still")
    #expect(found.entries["latents"]?.dtype == .bfloat16)
    #expect(try found.tensor("num_frames").item() == 1)
    #expect(try found.tensor("fps").item() == 1)
    #expect(
      try fixture.cached("conditions/still").entries["video_prompt_embeds"]?.dtype == .bfloat16)
  }
}
