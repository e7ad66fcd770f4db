import Foundation
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX

/// The upsampler around the network; the network's outputs are compared with upstream's in
/// Tests/ProbeTests.
@Suite struct LatentUpsamplerTests {
  private func statistics(_ channels: Int) throws -> ChannelStatistics {
    ChannelStatistics(mean: try .zeros([channels]), std: try .ones([channels]))
  }

  @Test(arguments: [
    ("spatial", [2, 6, 2, 6, 10]), ("spatial_2d", [2, 6, 2, 6, 10]),
    ("rational_1.5", [2, 6, 2, 5, 8]),
    ("temporal", [2, 6, 3, 3, 5]), ("space_and_time", [2, 6, 3, 6, 10]),
  ])
  func sizesAreWhatTheConfigurationSays(_ name: String, _ expected: [Int]) throws {
    let upsampler = try LatentUpsampler(path: Fixtures.model("upsampler_\(name)"), dtype: .float32)
    let size = upsampler.configuration.outputSize(frames: 2, rows: 3, columns: 5)
    #expect([2, 6, size.frames, size.rows, size.columns] == expected)
    let latent = try Generator(seed: 1).normal([2, 6, 2, 3, 5])
    #expect(try upsampler(latent, statistics: statistics(6)).shape == expected)
  }

  /// The network doesn't undo normalization by other statistics.
  @Test func statisticsCount() throws {
    let upsampler = try LatentUpsampler(path: Fixtures.model("upsampler_spatial"), dtype: .float32)
    let latent = try Generator(seed: 1).normal([1, 6, 1, 2, 2])
    let plain = try upsampler(latent, statistics: statistics(6))
    let shifted = ChannelStatistics(mean: try .ones([6]), std: try .full([6], 0.5))
    let restored = try upsampler((latent - 1) / 0.5, statistics: shifted)
    #expect(try ((restored * 0.5 + 1) - plain).abs().max().item() < 1e-4)
    #expect(try (upsampler(latent, statistics: shifted) - plain).abs().max().item() > 1e-2)
  }

  @Test func aCheckpointGivesItsStatistics() throws {
    let checkpoint = try Checkpoint(path: Fixtures.model("ltx23_vae"))
    let alone = try checkpoint.videoLatentStatistics()
    let encoder = try checkpoint.videoEncoder().statistics
    #expect(try Tensor.isEqual(alone.mean, encoder.mean) && Tensor.isEqual(alone.std, encoder.std))
    #expect(throws: Support.Issue.self) {
      try Checkpoint(path: Fixtures.model("ltx2_transformer")).videoLatentStatistics()
    }
  }

  @Test func latentsOfAnotherModelAreRefused() throws {
    let upsampler = try LatentUpsampler(path: Fixtures.model("upsampler_spatial"))
    #expect(
      throws: Support.Issue.shape(
        "latent", [1, 7, 1, 2, 2], expected: "[batch, 6, frames, rows, columns]")
    ) {
      try upsampler(.zeros([1, 7, 1, 2, 2]), statistics: statistics(7))
    }
    let error = #expect(throws: Support.Issue.self) {
      try upsampler(.zeros([1, 6, 1, 2, 2]), statistics: statistics(7))
    }
    #expect(error?.subject == ["latent statistics"])
    #expect(throws: Support.Issue.self) {
      try upsampler(.zeros([6, 1, 2, 2]), statistics: statistics(6))
    }
  }

  @Test(arguments: [
    ("ltx2_vae", "this is not a latent upsampler"), ("lora_all", "__metadata__.config: is missing"),
  ])
  func filesThatAreNoUpsampler(_ name: String, _ message: String) throws {
    let error = #expect(throws: (any Error).self) {
      try LatentUpsampler(path: Fixtures.model(name))
    }
    #expect(error.map { "\($0)" }?.contains(message) == true, "\(String(describing: error))")
  }

  @Test func aTensorThatBelongsNowhereIsNamed() throws {
    let file = try SafetensorsFile(path: Fixtures.model("upsampler_spatial"))
    let path = NSTemporaryDirectory() + "upsampler-\(UUID().uuidString).safetensors"
    defer { try? FileManager.default.removeItem(atPath: path) }
    var tensors = try file.entries.keys.sorted().map { (key: $0, tensor: try file.tensor($0)) }
    tensors.append((key: "res_blocks.7.conv1.weight", tensor: try .ones([1])))
    try writeSafetensors(tensors, metadata: file.metadata, to: path)
    let error = #expect(throws: WeightError.self) { try LatentUpsampler(path: path) }
    #expect(error?.key == "res_blocks.7.conv1.weight")
  }

  @Test(arguments: [
    ("\"spatial_upsample\": false", "config.spatial_upsample"),
    ("\"temporal_upsample\": true, \"dims\": 2", "config.dims: is 2"),
    ("\"rational_resampler\": true, \"dims\": 2", "config.dims: is 2"),
    ("\"dims\": 1", "config.dims: must be between 2 and 3 (got 1)"),
    ("\"rational_resampler\": true, \"spatial_scale\": 1.3", "config.spatial_scale: is 1.3"),
    ("\"mid_channels\": 48", "config.mid_channels: is 48"),
    (
      "\"num_blocks_per_stage\": 0",
      "config.num_blocks_per_stage: must be between 1 and 1024 (got 0)"
    ),
    ("\"in_channels\": \"128\"", "config.in_channels: must be an integer"),
  ])
  func unsupportedConfigurationIsNamed(_ json: String, _ message: String) throws {
    let configuration = try Configuration(json: "{\(json)}", file: "upscaler.safetensors")
    let error = #expect(throws: Support.Issue.self) {
      try LatentUpsamplerConfiguration(configuration)
    }
    #expect(error?.description.contains(message) == true, "\(String(describing: error))")
  }

  @Test func defaultsAreUpstreams() throws {
    let c = try LatentUpsamplerConfiguration(
      Configuration(json: "{}", file: "upscaler.safetensors"))
    #expect(
      c.inputChannels == 128 && c.middleChannels == 512 && c.blocksPerStage == 4
        && c.dimensions == 3)
    #expect(c.method == .space && c.spatialScale.value == 2 && !c.isTemporal)
  }
}
