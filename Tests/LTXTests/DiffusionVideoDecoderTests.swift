import Foundation
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX

/// The diffusion decoder of the video VAE. Tests/ProbeTests compares it with upstream's.
@Suite struct DiffusionVideoDecoderTests {
  private let folder: ScratchFolder
  private let channels = 16

  init() throws { folder = try ScratchFolder() }

  private func file(_ vae: TinyDiffusionVideoVAE, prefix: String? = "vae") throws -> String {
    let path = folder.file("\(UUID().uuidString).safetensors")
    try vae.write(to: path, prefix: prefix, seed: 5)
    return path
  }

  private func decoder(_ vae: TinyDiffusionVideoVAE, steps: Int? = nil) throws -> VideoDecoder {
    try Checkpoint(path: file(vae)).videoDecoder(dtype: .float32, steps: steps)
  }

  private func latent(_ frames: Int, _ rows: Int, _ columns: Int, batch: Int = 1) throws -> Tensor {
    try Generator(seed: 6).normal([batch, channels, frames, rows, columns])
  }

  /// Noise of one seed, and the shapes that were drawn.
  private final class Noise {
    private let random: Generator
    var shapes: [[Int]] = []

    init(seed: UInt64 = 7) throws { random = try Generator(seed: seed) }

    func draw(_ shape: [Int]) throws -> Tensor {
      shapes.append(shape)
      return try random.normal(shape)
    }
  }

  private func difference(_ a: Tensor, _ b: Tensor) throws -> Double {
    #expect(a.shape == b.shape)
    return try (a - b).abs().max().item()
  }

  // MARK: The definition

  @Test(arguments: [
    (TinyDiffusionVideoVAE.unified, nil), (.unified, 3), (.split, nil), (.split, 1),
  ])
  func theDecoderIsItsPlainDefinition(_ vae: TinyDiffusionVideoVAE, steps: Int?) throws {
    let path = try file(vae)
    let latent = try latent(1, 2, 3)
    let decoder = try Checkpoint(path: path).videoDecoder(dtype: .float32, steps: steps)
    let found = try decoder.decode(latent, noise: Noise().draw)
    let plain = try PlainDiffusionDecoder(path: path)
    let expected = try plain.decode(
      latent, steps: steps ?? vae.steps, predictsPixels: vae.output == .pixels,
      noise: Noise().draw)
    let size = try expected.abs().max().item()
    #expect(try difference(found, expected) < 2e-5 * size)
  }

  // MARK: Noise and steps

  @Test func noiseIsDrawnOnceForTheVideo() throws {
    let (noise, decoder) = (try Noise(), try decoder(.split))
    let tiling = Tiling(width: Tiling.Axis(size: 96, overlap: 64))
    let pixels = try decoder.decode(latent(3, 3, 5), tiling: tiling, noise: noise.draw)
    #expect(pixels.shape == [1, 3, 17, 96, 160])
    #expect(noise.shapes == [[1, 3, 17, 96, 160]])
  }

  @Test func aDecoderOfOneStepThatPredictsPixelsDrawsForEachTile() throws {
    let (noise, decoder) = (try Noise(), try decoder(.unified))
    let tiling = Tiling(width: Tiling.Axis(size: 96, overlap: 64))
    _ = try decoder.decode(latent(3, 3, 5), tiling: tiling, noise: noise.draw)
    #expect(noise.shapes == [[1, 3, 17, 96, 96], [1, 3, 17, 96, 96], [1, 3, 17, 96, 96]])
    // With two steps it begins from one draw.
    let finer = try Checkpoint(path: file(.unified)).videoDecoder(dtype: .float32, steps: 2)
    let other = try Noise()
    _ = try finer.decode(latent(3, 3, 5), tiling: tiling, noise: other.draw)
    #expect(other.shapes == [[1, 3, 17, 96, 160]])
  }

  @Test func aSeedGivesOneVideo() throws {
    let decoder = try decoder(.split)
    let latent = try latent(2, 2, 2)
    let first = try decoder.decode(latent, noise: Noise().draw)
    #expect(try difference(first, decoder.decode(latent, noise: Noise().draw)) == 0)
    #expect(try difference(first, decoder.decode(latent, noise: Noise(seed: 8).draw)) > 0.01)
  }

  @Test func stepsAreChosen() throws {
    let usual = try decoder(.split).decode(latent(1, 2, 2), noise: Noise().draw)
    let two = try decoder(.split, steps: 2).decode(latent(1, 2, 2), noise: Noise().draw)
    let three = try decoder(.split, steps: 3).decode(latent(1, 2, 2), noise: Noise().draw)
    #expect(try difference(usual, two) == 0)
    #expect(try difference(usual, three) > 1e-3)
    for steps in [0, 1001] {
      let error = #expect(throws: Support.Issue.self) { try decoder(.split, steps: steps) }
      #expect(error?.subject == ["decoderSteps"])
    }
    let convolutional = try Checkpoint(path: Fixtures.model("ltx23_vae"))
    let error = #expect(throws: Support.Issue.self) { try convolutional.videoDecoder(steps: 2) }
    #expect(error?.description.contains("convolutional") == true)
  }

  @Test func noiseIsNeeded() throws {
    let decoder = try decoder(.split)
    #expect(decoder.needsNoise)
    #expect(throws: VideoDecoder.noiseIssue) { try decoder.decode(latent(1, 2, 2)) }
  }

  // MARK: Sizes

  @Test(arguments: [(1, 1, 1), (1, 2, 1), (2, 1, 3)])
  func smallLatentsArePadded(_ frames: Int, _ rows: Int, _ columns: Int) throws {
    let (noise, decoder) = (try Noise(), try decoder(.split))
    let latent = try latent(frames, rows, columns)
    let pixels = try decoder.decode(latent, noise: noise.draw)
    #expect(pixels.shape == [1, 3, (frames - 1) * 8 + 1, rows * 32, columns * 32])
    // The kernels of the first stage need three latent cells in each axis.
    let floor = 3
    let padded = [max(frames, floor), max(rows, floor), max(columns, floor)]
    #expect(noise.shapes == [[1, 3, (padded[0] - 1) * 8 + 1, padded[1] * 32, padded[2] * 32]])
    // The result is a part of that of a latent which is padded by hand: the edges before by half of
    // what is missing, the rest behind.
    var larger = latent
    for (axis, count) in [(2, frames), (3, rows), (4, columns)] {
      let before = axis == 2 ? 0 : (max(count, floor) - count) / 2
      larger = try Tensor.cat(
        [Tensor](repeating: larger.narrow(axis, 0, 1), count: before) + [larger]
          + [Tensor](
            repeating: larger.narrow(axis, count - 1, 1),
            count: max(count, floor) - count - before), axis)
    }
    let whole = try decoder.decode(larger, noise: Noise().draw)
    let part = try whole.narrow(2, 0, pixels.size(2))
      .narrow(3, (padded[1] - rows) / 2 * 32, rows * 32)
      .narrow(4, (padded[2] - columns) / 2 * 32, columns * 32)
    #expect(try difference(pixels, part) == 0)
  }

  @Test func latentsOfAnotherShapeAreRefused() throws {
    let decoder = try decoder(.split)
    for shape in [[1, channels + 1, 1, 2, 2], [channels, 1, 2, 2], [1, channels, 0, 2, 2]] {
      let error = #expect(throws: Support.Issue.self) {
        try decoder.decode(Tensor.zeros(shape), noise: Noise().draw)
      }
      #expect(error?.subject == ["latent"])
    }
  }

  @Test func aBatchIsDecodedAsItsSamplesAre() throws {
    let decoder = try decoder(.split)
    let latents = try latent(1, 3, 3, batch: 2)
    let noise = try Generator(seed: 9).normal([2, 3, 17, 96, 96])
    let both = try decoder.decode(latents) { _ in noise }
    for index in 0..<2 {
      let one = try decoder.decode(latents.narrow(0, index, 1)) { _ in
        try noise.narrow(0, index, 1)
      }
      #expect(try difference(both.narrow(0, index, 1), one) < 1e-5)
    }
  }

  @Test func bfloat16IsCloseToFloat32() throws {
    let path = try file(.split)
    let latent = try latent(1, 3, 3)
    let exact = try Checkpoint(path: path).videoDecoder(dtype: .float32)
      .decode(latent, noise: Noise().draw)
    let narrow = try Checkpoint(path: path).videoDecoder(dtype: .bfloat16)
      .decode(latent.to(.bfloat16), noise: Noise().draw)
    #expect(narrow.dtype == .bfloat16)
    #expect(try difference(narrow.to(.float32), exact) < 0.05 * exact.abs().max().item())
  }

  // MARK: Tiles

  /// Tiles whose overlaps are at the minimum, which is the distance over which their borders count.
  private let tiles = Tiling(
    frames: Tiling.Axis(size: 16, overlap: 8), height: Tiling.Axis(size: 128, overlap: 32),
    width: Tiling.Axis(size: 128, overlap: 32))

  @Test(arguments: 2...4)
  func awayFromSeamsTilesAreTheWhole(_ axis: Int) throws {
    let decoder = try decoder(.split)
    var sizes = [3, 3, 3]
    sizes[axis - 2] = axis == 2 ? 4 : 7
    let latent = try latent(sizes[0], sizes[1], sizes[2])
    var tiling = Tiling()
    switch axis {
    case 2: tiling.frames = tiles.frames
    case 3: tiling.height = tiles.height
    default: tiling.width = tiles.width
    }
    let whole = try decoder.decode(latent, noise: Noise().draw)
    let tiled = try decoder.decode(latent, tiling: tiling, noise: Noise().draw)
    let others = [0, 1, 2, 3, 4].filter { $0 != axis }
    let steps: [Float] = try (whole - tiled).abs().amax(others).array()
    // The second tile begins where the first one has an overlap left.
    let (first, overlap) = axis == 2 ? (15 - 8, 8) : (128 - 32, 32)
    #expect(steps[..<first].allSatisfy { $0 < 1e-4 }, "\(steps)")
    #expect(steps[first..<first + overlap].contains { $0 > 1e-3 })
    let second = (first + overlap)..<min(steps.count, 2 * first + 1)
    #expect(steps[second].allSatisfy { $0 < 1e-4 }, "\(steps)")
  }

  @Test func partsAreTheWhole() throws {
    let decoder = try decoder(.split)
    let latent = try latent(5, 3, 5)
    var parts: [Tensor] = []
    try decoder.decode(latent, tiling: tiles, noise: Noise().draw) { parts.append($0) }
    #expect(parts.count > 2)
    #expect(parts.map { $0.size(2) }.reduce(0, +) == 33)
    let whole = try decoder.decode(latent, tiling: tiles, noise: Noise().draw)
    #expect(try difference(Tensor.cat(parts, 2), whole) == 0)
  }

  @Test func tilesThatCoverEverythingChangeNothing() throws {
    let latent = try latent(2, 3, 3)
    for vae in [TinyDiffusionVideoVAE.unified, .split] {
      let decoder = try decoder(vae)
      let tiling = decoder.configuration.recommendedTiling(
        for: VideoSize(width: 96, height: 96, frames: 9), limitBytes: .max, dtype: .float32)
      let whole = try decoder.decode(latent, noise: Noise().draw)
      let tiled = try decoder.decode(latent, tiling: tiling, noise: Noise().draw)
      #expect(try difference(whole, tiled) == 0)
    }
  }

  @Test func weightsOfTilesAddUpToOne() throws {
    guard case .diffusion(let configuration) = try decoder(.split).configuration else {
      Issue.record("the decoder is not a diffusion decoder")
      return
    }
    for length in [3, 4, 7, 10] {
      let grid = try configuration.tileGrid(
        tiles, latent: VolumeSize(frames: length, rows: length, columns: length))
      for (spans, pixels) in [
        (grid.frames, (length - 1) * 8 + 1), (grid.rows, length * 32), (grid.columns, length * 32),
      ] {
        var sums = [Float](repeating: 0, count: pixels)
        for span in spans {
          for (index, entry) in span.pixels.enumerated() {
            sums[entry] += span.weights?[index] ?? 1
          }
        }
        #expect(sums.allSatisfy { abs($0 - 1) < 1e-5 })
      }
    }
  }

  @Test func tilesThatTheDecoderCannotBeTiledByAreRefused() throws {
    let decoder = try decoder(.split)
    let latent = try latent(3, 3, 3)
    let cases: [(Tiling, String)] = [
      (Tiling(frames: Tiling.Axis(size: 15, overlap: 8)), "frames: have size 15"),
      (Tiling(frames: Tiling.Axis(size: 16, overlap: 4)), "at least 8"),
      (Tiling(height: Tiling.Axis(size: 60, overlap: 32)), "height: have size 60"),
      (Tiling(width: Tiling.Axis(size: 96, overlap: 24)), "at least 32"),
      (Tiling(width: Tiling.Axis(size: 64, overlap: 64)), "overlap by 64"),
    ]
    for (tiling, expected) in cases {
      let error = #expect(throws: Support.Issue.self) {
        try decoder.decode(latent, tiling: tiling, noise: Noise().draw)
      }
      #expect(error?.description.contains(expected) == true, "\(String(describing: error))")
    }
  }

  /// The published architecture, which has no file here.
  private func usual() throws -> VideoVAEConfiguration.DiffusionDecoder {
    try VideoVAEConfiguration.DiffusionDecoder(
      Configuration(
        json: #"{"vae": {"_class_name": "CausalDiffusionVAE", "decoder": {}}}"#, file: "vae"))
  }

  @Test func recommendedTilesOverlapByTheLeast() throws {
    let configuration = try usual()
    let video = VideoSize(width: 1920, height: 1088, frames: 121)
    for limit in [3_000_000_000, 4_000_000_000, 100_000_000_000] {
      let tiling = configuration.recommendedTiling(
        for: video, limitBytes: limit, dtype: .bfloat16)
      #expect(tiling.frames?.overlap == 8)
      #expect(tiling.height?.overlap == 96)
      #expect(tiling.width?.overlap == 96)
      #expect(configuration.decodingBytes(video, tiling: tiling, dtype: .bfloat16) <= limit)
      _ = try configuration.tileGrid(
        tiling, latent: VolumeSize(frames: 16, rows: 34, columns: 60))
    }
    // Memory beyond the usual limit changes nothing, so that a seed gives one video.
    let (some, plenty) = (
      configuration.recommendedTiling(for: video, limitBytes: 10_000_000_000, dtype: .bfloat16),
      configuration.recommendedTiling(for: video, limitBytes: .max, dtype: .bfloat16)
    )
    #expect(some == plenty)
    // Nothing fits: the smallest tiles.
    let least = configuration.recommendedTiling(for: video, limitBytes: 0, dtype: .bfloat16)
    #expect(least.frames?.size == 16 && least.height?.size == 192 && least.width?.size == 192)
  }

  // MARK: Weights

  @Test func staticGatesBecomePartOfTheWeights() throws {
    let path = try file(.split)
    let source = try SafetensorsFile(path: path)
    var tensors: [String: Tensor] = [:]
    for key in source.entries.keys { tensors[key] = try source.tensor(key) }
    let targets = [
      "gate_msa": "attn.proj", "gate_mlp": "mlp.w_down", "gate_ctx": "context_proj",
    ]
    for (name, target) in targets {
      for block in 0..<2 {
        let scope = "vae.decoder.diff_blocks.\(block)"
        let gate = try #require(tensors["\(scope).\(name)"]).to(.float32)
        tensors["\(scope).\(name)"] = nil
        let (weight, bias) = ("\(scope).\(target).weight", "\(scope).\(target).bias")
        let stored = try #require(tensors[weight])
        tensors[weight] = try (stored.to(.float32) * gate.unsqueeze(-1)).to(stored.dtype)
        if let stored = tensors[bias] {
          tensors[bias] = try (stored.to(.float32) * gate).to(stored.dtype)
        }
      }
    }
    let folded = folder.file("folded.safetensors")
    try writeSafetensors(
      tensors.map { ($0.key, $0.value) }, metadata: source.metadata, to: folded)
    let latent = try latent(1, 2, 2)
    let expected = try Checkpoint(path: folded).videoDecoder(dtype: .float32)
      .decode(latent, noise: Noise().draw)
    let found = try Checkpoint(path: path).videoDecoder(dtype: .float32)
      .decode(latent, noise: Noise().draw)
    #expect(try difference(found, expected) == 0)
    var without = TinyDiffusionVideoVAE.split
    without.hasGates = false
    #expect(try difference(found, decoder(without).decode(latent, noise: Noise().draw)) > 1e-3)
  }

  @Test func namesWithoutPrefixAreTheSame() throws {
    let latent = try latent(1, 2, 2)
    let prefixed = try decoder(.split).decode(latent, noise: Noise().draw)
    let bare = try Checkpoint(path: file(.split, prefix: nil)).videoDecoder(dtype: .float32)
      .decode(latent, noise: Noise().draw)
    #expect(try difference(prefixed, bare) == 0)
  }

  @Test func tensorsThatNothingReadsAreRefused() throws {
    // The head for previews is known.
    _ = try decoder(.unified)
    let path = try file(.unified)
    let source = try SafetensorsFile(path: path)
    var tensors = try source.entries.keys.map { ($0, try source.tensor($0)) }
    tensors.append(("vae.decoder.extra.weight", try Tensor.zeros([2])))
    let stray = folder.file("stray.safetensors")
    try writeSafetensors(tensors, metadata: source.metadata, to: stray)
    let error = #expect(throws: WeightError.self) {
      try Checkpoint(path: stray).videoDecoder(dtype: .float32)
    }
    #expect(error?.key == "vae.decoder.extra.weight")
  }

  @Test func theEncoderOfANestedConfigurationWorks() throws {
    let encoder = try Checkpoint(path: file(.unified)).videoEncoder(dtype: .float32)
    #expect(encoder.compression == .usual)
    let pixels = try Generator(seed: 1).normal([1, 3, 12, 64, 32]).tanh()
    #expect(try encoder(pixels).shape == [1, channels, 2, 2, 1])
  }

  // MARK: Configuration

  @Test func defaultsAreThePublishedArchitecture() throws {
    let c = try usual()
    #expect(c.stages.map(\.channels) == [1024, 512, 256, 256])
    #expect(c.stages.map(\.depth) == [4, 6, 4, 2])
    #expect((c.contextChannels, c.channels, c.depth) == (128, 128, 8))
    #expect((c.headSize, c.timeChannels, c.steps) == (64, 384, 2))
    #expect(c.output == .velocity && c.timestepScale == 1)
    #expect(c.latentFloor == VolumeSize(frames: 3, rows: 7, columns: 7))
    #expect(c.ghostFrames == 2)
    #expect(c.leastOverlap == (8, 96))
  }

  @Test(arguments: [
    (#""model_output_type": "eps""#, #"config.vae.model_output_type: is "eps""#),
    (#""decoder": {"head_dim": 8}"#, "config.vae.decoder.head_dim: must be a multiple of 8"),
    (#""decoder": {"na_head_dim": 20}"#, "config.vae.decoder.na_head_dim: must be a multiple of 8"),
    (#""decoder": {"stage_channels": [64, 64]}"#, "stage_channels: has 2 entries, expected 5"),
    (#""decoder": {"stage_channels": [96, 48, 24, 24, 12]}"#, "heads of 64 channels"),
    (#""decoder": {"stage5_channels": 100}"#, "stage5_channels: is 100"),
    (#""decoder": {"stage_channels": [1024, 256, 256, 256, 128]}"#, "upsamples[0]: divides 1024"),
    (#""decoder": {"stage_kernels": [[3, 3, 3]]}"#, "stage_kernels: has 1 entries, expected 5"),
    (#""decoder": {"stage5_kernel": [3, 4, 3]}"#, "stage5_kernel: must be three odd sizes"),
    (
      #""decoder": {"upsamples": [[[4, 2, 2], 2], [[2, 1, 1], 2], [[2, 2, 2], 1], [[2, 2, 2], 2]]}"#,
      "upsamples[0]: must be a pair"
    ),
    (#""decoder": {"patch_size": 2}"#, "upsamples: expands a latent cell to 8 frames of 16 x 16"),
    (#""decoder": {"default_num_inference_steps": 0}"#, "default_num_inference_steps: must be"),
    (#""decoder": {"stage_depths": [1, 1, 1, 1, 0]}"#, "stage_depths: must hold integers"),
    (#""decoder": 3"#, "config.vae.decoder: must be an object"),
  ])
  func decodersThatAreNotSupportedAreNamed(json: String, message: String) throws {
    let error = #expect(throws: Support.Issue.self) {
      try VideoVAEConfiguration.Decoder(
        Configuration(
          json: "{\"vae\": {\"_class_name\": \"CausalDiffusionVAE\", \(json)}}", file: "vae"))
    }
    #expect(error?.description.contains(message) == true, "\(String(describing: error))")
  }
}
