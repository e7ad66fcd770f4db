import Foundation
import LTX
import Media
import Support
import TensorFiles
import Testing
import Torch

@testable import Generation

/// Models whose output isn't finite: nothing is written, and the error names the failed component.
@Suite struct NonFiniteOutputTests {
  let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// The tiny checkpoint with one tensor replaced.
  private func models(_ key: String, _ change: (Tensor) throws -> Tensor) throws -> GenerationModels
  {
    let files = try TinyFiles.files.get()
    let source = try SafetensorsFile(path: files.checkpoint)
    try #require(source.contains(key))
    let path = scratch.path("model.safetensors")
    try writeSafetensors(
      source.keys.map {
        (key: $0, tensor: try $0 == key ? change(source.tensor($0)) : source.tensor($0))
      },
      metadata: source.metadata, to: path)
    return GenerationModels(ModelFiles(unified: path, textEncoder: files.textEncoder))
  }

  private func problem(_ models: GenerationModels, _ output: String) throws -> String {
    var request = scratch.request()
    request.hasAudio = true
    let plan = try GenerationPlan(request, models: models, output: scratch.path(output))
    do {
      try GenerationPipeline(plan).run()
      return "nothing was thrown"
    } catch {
      return "\(error)"
    }
  }

  /// Finite weights that are too large for their computation.
  @Test(arguments: [
    ("vae.decoder.conv_out.conv.weight", "video decoder: the output has NaN or infinite values"),
    (
      "audio_vae.decoder.conv_out.conv.weight",
      "audio decoder: the output has NaN or infinite values"
    ),
    ("vocoder.conv_pre.weight", "vocoder: the output has NaN or infinite values"),
    (
      "model.diffusion_model.proj_out.weight",
      "sampling: the video latents are not finite after step 1 of 2"
    ),
    (
      "model.diffusion_model.audio_proj_out.weight",
      "sampling: the audio latents are not finite after step 1 of 2"
    ),
  ])
  func theStageIsNamed(_ key: String, _ wanted: String) throws {
    let models = try models(key) { try Tensor.full($0.shape, 3e38).to($0.dtype) }
    let text = try problem(models, "out.mp4")
    #expect(text.hasPrefix(wanted), "\(text)")
    #expect(try !scratch.contents().contains("out.mp4"))
  }

  @Test(
    arguments: [
      "vae.decoder.conv_in.conv.bias",
      "model.diffusion_model.transformer_blocks.1.attn1.to_q.weight",
      "audio_vae.decoder.conv_in.conv.weight",
      "text_embedding_projection.aggregate_embed.weight",
    ], [Double.nan, .infinity])
  func aDamagedWeightIsNamed(_ key: String, _ value: Double) throws {
    let models = try models(key) { weight in
      let damaged = try weight.clone()
      try damaged.flatten().narrow(0, 3, 1).copy_(Tensor.full([1], Scalar(value)).to(weight.dtype))
      return damaged
    }
    let text = try problem(models, "out.mp4")
    #expect(text.contains("model.safetensors: \(key) holds NaN or infinite values"), "\(text)")
    #expect(try !scratch.contents().contains("out.mp4"))
  }

  @Test func tensorsIn8BitsAreCheckedToo() throws {
    #expect(throws: Support.Issue.self) {
      try Tensor([Float(1), .nan]).to(.float8E4M3).requireFinite(from: "video decoder")
    }
    #expect(throws: Never.self) {
      try Tensor([Float(1), -3e38]).requireFinite(from: "video decoder")
    }
  }
}
