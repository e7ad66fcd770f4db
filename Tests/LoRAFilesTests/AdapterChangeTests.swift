import Foundation
import NN
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX
@testable import LoRAFiles

@Suite struct AdapterChangeTests {
  private let a = "diffusion_model.transformer_blocks.3.attn1.to_q"
  private let b = "diffusion_model.transformer_blocks.0.audio_attn1.to_q"

  private func norm(_ tensor: Tensor) throws -> Double {
    try tensor.to(.float64).square().sum().item().squareRoot()
  }

  @Test(arguments: [false, true])
  func normsAreThoseOfTheProducts(_ isDoRA: Bool) throws {
    let generator = try Generator(seed: 3)
    let (down, up) = (try generator.normal([4, 24]), try generator.normal([16, 4]))
    let weight = try generator.normal([16, 24])
    let magnitude = try generator.uniform([16]) * 4 + 3
    let layer = try AdapterChange.Layer(
      path: a,
      isDoRA
        ? DoRAAdapter(down: down, up: up, magnitude: magnitude, scale: 0.25)
        : LoRAAdapter(down: down, up: up, scale: 0.25), weight: weight)
    let sum = try weight + up.matmul(down) * 0.25
    let changed =
      isDoRA ? try sum * (magnitude / sum.square().sum([1]).sqrt()).unsqueeze(1) : sum
    let expected = try norm(changed - weight)
    #expect(abs(layer.norm / expected - 1) < 1e-5)
    let base = try norm(weight)
    #expect(abs((layer.baseNorm ?? 0) / base - 1) < 1e-6)
    #expect(abs((layer.relative ?? 0) / (expected / base) - 1) < 1e-5)
    #expect(layer.block == 3 && layer.part == .video)
  }

  @Test func groupsAreByModalityAndByBlock() throws {
    let one = try Tensor.full([1, 4], 1, dtype: .float32)
    let column = try Tensor.full([4, 1], 1, dtype: .float32)
    func layer(_ path: String, _ scale: Double) throws -> AdapterChange.Layer {
      // |B A| is 4 * scale, |W| is 40.
      try AdapterChange.Layer(
        path: path, LoRAAdapter(down: one, up: column, scale: scale),
        weight: .full([4, 4], Scalar(10.0), dtype: .float32))
    }
    let change = AdapterChange([try layer(a, 0.3), try layer(a + "x", 0.4), try layer(b, 0.0001)])
    #expect(change.parts.map(\.name) == ["video", "audio"])
    #expect(change.blocks.map(\.name) == ["block 0", "block 3"])
    #expect(abs((change.parts[0].relative ?? 0) - 0.5 * 4 / (2.0.squareRoot() * 40)) < 1e-12)
    #expect(abs((change.parts[1].relative ?? 0) - 1e-5) < 1e-12)
    #expect(
      change.sentences == [
        "video adapters moved: 3.5 % of the base weights",
        "audio adapters barely moved: 0.001 % of the base weights",
      ])
    #expect(change.isSuspicious)
  }

  @Test func zerosAndNonFiniteValuesAreReported() throws {
    let down = try Tensor.full([2, 4], 1, dtype: .float32)
    func layer(_ path: String, _ value: Double) throws -> AdapterChange.Layer {
      try AdapterChange.Layer(
        path: path,
        LoRAAdapter(down: down, up: .full([4, 2], Scalar(value), dtype: .float32), scale: 1))
    }
    let zero = AdapterChange([try layer(a, 0), try layer(b, 0)])
    #expect(zero.sentences == ["all 2 adapters are zero; the LoRA changes nothing"])
    #expect(zero.isSuspicious && zero.total.relative == nil)
    let broken = AdapterChange([try layer(a, .nan), try layer(b, 0), try layer(b, 1)])
    #expect(broken.total.nonFiniteLayers == 1 && broken.total.zeroLayers == 1)
    #expect(broken.sentences[0] == "1 of 3 adapters are not finite; the LoRA can't be used")
    #expect(broken.sentences[1].hasSuffix("; 1 of 2 are zero"))
    let infinite = AdapterChange([try layer(a, .infinity)])
    #expect(infinite.total.nonFiniteLayers == 1)
    let tiny = AdapterChange([try layer(a, 1e-8)])
    #expect(tiny.sentences[0].hasPrefix("video adapters barely moved: about "))
  }

  /// A run's parameters give the same norms as the file that is saved from them.
  @Test func parametersAreReadAsTheFileIs() throws {
    let fixture = try LoRAFixture()
    let checkpoint = try LoRAFixture.checkpoint()
    let file = try LoRAFixture.lora("lora_all")
    let parameters = file.modules.flatMap { module in
      let path = LoRAFile.checkpointPath(module.path)
      return [
        Parameter(key: path + ".lora_A.weight", tensor: module.down),
        Parameter(key: path + ".lora_B.weight", tensor: module.up),
      ]
    }
    let run = try AdapterChange(parameters, scale: 0.5, checkpoint: checkpoint)
    try writeSafetensors(
      LoRAFile.tensors(of: parameters, scale: 0.5, dtype: .float32),
      to: fixture.path("a.safetensors"))
    let saved = try AdapterChange(
      LoRAFile(path: fixture.path("a.safetensors")), checkpoint: checkpoint)
    #expect(run.layers.count == file.modules.count)
    let (x, y) = (try #require(run.total.relative), try #require(saved.total.relative))
    #expect(x > 0 && abs(x / y - 1) < 1e-5)
  }
}
