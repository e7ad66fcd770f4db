import Foundation
import NN
import Support
import TensorFiles
import TestSupport
import Testing
import Torch

@testable import LTX

@Suite struct VideoVAETests {
  // From Tests/Oracles: 8 x 32 x 32, zeros around the encoder's frames, reflection around the
  // decoder's.
  private static let model = Fixtures.model("ltx2_vae")

  private let encoder: VideoEncoder
  private let decoder: VideoDecoder
  private let channels: Int

  init() throws {
    let checkpoint = try Checkpoint(path: Self.model)
    encoder = try checkpoint.videoEncoder(dtype: .float32)
    decoder = try checkpoint.videoDecoder(dtype: .float32)
    channels = encoder.configuration.latentChannels
  }

  private func noise(_ shape: [Int], seed: UInt64 = 1) throws -> Tensor {
    try Generator(seed: seed).normal(shape)
  }

  private func largestDifference(_ a: Tensor, _ b: Tensor) throws -> Double {
    #expect(a.shape == b.shape)
    return try (a - b).abs().max().item()
  }

  // MARK: Sizes

  @Test func compressionComesFromTheBlocks() {
    #expect(encoder.compression == CompressionFactors(time: 8, height: 32, width: 32))
    #expect(decoder.compression == encoder.compression)
  }

  @Test func framesThatCompleteNoLatentFrameAreCutOff() throws {
    let pixels = try noise([1, 3, 12, 32, 64]).tanh()
    let cut = try encoder(pixels)
    #expect(cut.shape == [1, channels, 2, 1, 2])
    #expect(try largestDifference(cut, encoder(pixels.narrow(2, 0, 9))) == 0)
  }

  @Test func aBatchIsEncodedAndDecodedAsItsSamplesAre() throws {
    let pixels = try noise([2, 3, 9, 64, 64]).tanh()
    let latent = try encoder(pixels)
    #expect(try largestDifference(latent.narrow(0, 1, 1), encoder(pixels.narrow(0, 1, 1))) < 1e-5)
    let decoded = try decoder.decode(latent)
    #expect(decoded.shape == pixels.shape)
    // Convolutions of one sample and of two may sum in a different order.
    let scale = try decoded.abs().max().item()
    let difference = try largestDifference(
      decoded.narrow(0, 1, 1), decoder.decode(latent.narrow(0, 1, 1)))
    #expect(difference < 1e-5 * scale, "\(difference) of \(scale)")
  }

  @Test func imagesThatDoNotFitAreRefused() throws {
    let error = #expect(throws: Support.Issue.self) { try encoder(noise([1, 3, 1, 48, 64])) }
    #expect(error?.subject == ["pixels"])
    #expect(error?.description.contains("for example to 32 x 64") == true)
    #expect(throws: Support.Issue.self) { try encoder(noise([3, 1, 32, 32])) }
    #expect(throws: Support.Issue.self) { try encoder(noise([1, 4, 1, 32, 32])) }
    #expect(throws: Support.Issue.self) { try decoder.decode(noise([1, channels + 1, 1, 2, 2])) }
  }

  @Test func aLatentOfOneRowCannotBeReflected() throws {
    #expect(
      throws: decoder.compression.reflectionIssue(rows: 1, columns: 4)
    ) { try decoder.decode(noise([1, channels, 1, 1, 4])) }
    // An encoder that also pads by reflection.
    let weights = try Checkpoint(path: Self.model).weights(LoadPolicy(dtype: .float32))
    var configuration = encoder.configuration
    configuration.padding = .reflect
    let reflecting = try VideoEncoder(weights / "vae", configuration: configuration)
    #expect(
      throws: encoder.compression.reflectionIssue(rows: 1, columns: 3)
    ) {
      try reflecting(noise([1, 3, 1, 32, 96]))
    }
    #expect(try reflecting(noise([1, 3, 1, 64, 96])).shape == [1, channels, 1, 2, 3])
  }

  // MARK: Attention

  /// Written out position by position; no published configuration of LTX-2 has this block.
  @Test func attentionIsAmongThePositionsOfAFrame() throws {
    let width = 4
    let source = Tensors([
      "norm.gamma": try noise([width, 1, 1], seed: 3),
      "to_qkv.weight": try noise([3 * width, width, 1, 1], seed: 4),
      "to_qkv.bias": try noise([3 * width], seed: 5),
      "proj.weight": try noise([width, width, 1, 1], seed: 6),
      "proj.bias": try noise([width], seed: 7),
    ])
    func values(_ name: String) throws -> [Float] { try source.tensor(name).array() }
    let (gamma, qkv, qkvBias) = (
      try values("norm.gamma"), try values("to_qkv.weight"), try values("to_qkv.bias")
    )
    let (out, outBias) = (try values("proj.weight"), try values("proj.bias"))
    let x = try noise([1, 2, 2, 3, width], seed: 8)
    let found: [Float] = try FrameAttention(Weights(source), channels: width)(x, .none).array()
    let input: [Float] = try x.array()
    let positions = 6
    for frame in 0..<2 {
      let rows = (0..<positions).map { p -> [Float] in
        let start = (frame * positions + p) * width
        let row = Array(input[start..<(start + width)])
        let length = row.map { $0 * $0 }.reduce(0, +).squareRoot()
        let normed = zip(row, gamma).map { $0 / length * $1 * Float(width).squareRoot() }
        return (0..<(3 * width)).map { o in
          qkvBias[o] + (0..<width).map { qkv[o * width + $0] * normed[$0] }.reduce(0, +)
        }
      }
      for p in 0..<positions {
        let scores = (0..<positions).map { k -> Float in
          let product = (0..<width).map { rows[p][$0] * rows[k][width + $0] }.reduce(0, +)
          return Foundation.exp(product / Float(width).squareRoot())
        }
        let total = scores.reduce(0, +)
        let mixed = (0..<width).map { c in
          (0..<positions).map { scores[$0] / total * rows[$0][2 * width + c] }.reduce(0, +)
        }
        for c in 0..<width {
          let expected =
            outBias[c] + (0..<width).map { out[c * width + $0] * mixed[$0] }.reduce(0, +)
          let place = (frame * positions + p) * width + c
          #expect(abs(found[place] - input[place] - expected) < 1e-4)
        }
      }
    }
  }

  // MARK: Padding

  @Test(arguments: VideoVAEConfiguration.SpatialPadding.allCases, [true, false])
  func paddingIsWhatTheGeneralOperationGives(
    _ mode: VideoVAEConfiguration.SpatialPadding, _ isCausal: Bool
  )
    throws
  {
    let (inputs, outputs) = (3, 2)
    let source = Tensors([
      "conv.weight": try noise([outputs, inputs, 3, 3, 3]), "conv.bias": try noise([outputs]),
    ])
    let convolution = try CausalConvolution(
      Weights(source), inputs: inputs, outputs: outputs, padding: mode, isCausal: isCausal)
    let x = try noise([2, inputs, 4, 5, 6], seed: 2)
    let first = try x.narrow(2, 0, 1)
    let last = try x.narrow(2, 3, 1)
    let inTime = try Tensor.cat(isCausal ? [first, first, x] : [first, x, last], 2)
    let inSpace = try inTime.pad(
      [1, 1, 1, 1, 0, 0], mode: mode == .zeros ? "constant" : mode.rawValue)
    let expected = try inSpace.conv3d(source.tensor("conv.weight"), source.tensor("conv.bias"))
    let found = try convolution(x.permute([0, 2, 3, 4, 1]).contiguous()).permute([0, 4, 1, 2, 3])
    #expect(try largestDifference(found, expected) < 1e-5)
  }

  // MARK: Tiles

  @Test(arguments: [2, 3, 5, 9, 10, 31])
  func weightsOfTilesAddUpToOne(length: Int) throws {
    let tiling = Tiling(
      frames: Tiling.Axis(size: 24, overlap: 16), height: Tiling.Axis(size: 96, overlap: 64),
      width: Tiling.Axis(size: 128, overlap: 0))
    for output in [TileGrid.Output.latent, .pixels] {
      let grid = try TileGrid(tiling, latent: (length, length, length), .usual, output)
      for (axis, spans) in [grid.frames, grid.rows, grid.columns].enumerated() {
        let pixels = axis == 0 ? (length - 1) * 8 + 1 : length * 32
        var sums = [Float](repeating: 0, count: output == .latent ? length : pixels)
        for span in spans {
          let range = output == .latent ? span.latent : span.pixels
          for (index, entry) in range.enumerated() { sums[entry] += span.weights?[index] ?? 1 }
        }
        #expect(sums.allSatisfy { abs($0 - 1) < 1e-5 })
      }
    }
  }

  @Test func tilesDecodeToAboutTheSameWithoutSeams() throws {
    // A smooth latent, for which the missing surroundings of tiles matter little.
    let ramp = try Tensor.linspace(from: -1, to: 1, steps: 8)
    let latent = try
      (noise([1, channels, 1, 1, 1]) * ramp.reshape([1, 1, 1, 8, 1])
      * ramp.reshape([1, 1, 1, 1, 8]))
      .expand([1, channels, 5, 8, 8]).contiguous()
    let tiling = Tiling(
      frames: Tiling.Axis(size: 24, overlap: 8), height: Tiling.Axis(size: 192, overlap: 128),
      width: Tiling.Axis(size: 192, overlap: 128))
    let whole = try decoder.decode(latent)
    let tiled = try decoder.decode(latent, tiling: tiling)
    #expect(tiled.shape == whole.shape)
    #expect(tiled.shape == [1, 3, 33, 256, 256])
    // No step between neighboring pixels or frames is much larger than in the untiled result.
    for axis in 2...4 {
      func step(_ x: Tensor) throws -> Double {
        let count = x.size(axis)
        return try (x.narrow(axis, 1, count - 1) - x.narrow(axis, 0, count - 1)).abs().max().item()
      }
      #expect(try step(tiled) < 1.5 * step(whole))
    }
  }

  @Test func farFromASeamATileDecodesToExactlyTheSame() throws {
    // Twelve latent columns are more than a pixel of the first one depends on, in either direction.
    let latent = try noise([1, channels, 1, 2, 20])
    let tiling = Tiling(width: Tiling.Axis(size: 12 * 32, overlap: 2 * 32))
    let difference = try (decoder.decode(latent, tiling: tiling) - decoder.decode(latent)).abs()
    #expect(try difference.narrow(4, 0, 16).max().item() < 1e-5)
    #expect(try difference.max().item() > 1e-3)
  }

  @Test func partsAreTheWhole() throws {
    let latent = try noise([1, channels, 6, 2, 3])
    let tiling = Tiling(
      frames: Tiling.Axis(size: 16, overlap: 8), width: Tiling.Axis(size: 64, overlap: 32))
    var parts: [Tensor] = []
    try decoder.decode(latent, tiling: tiling) { parts.append($0) }
    #expect(parts.count > 2)
    #expect(
      try largestDifference(Tensor.cat(parts, 2), decoder.decode(latent, tiling: tiling)) == 0)
  }

  @Test func tilesThatCoverEverythingChangeNothing() throws {
    let pixels = try noise([1, 3, 9, 64, 64]).tanh()
    #expect(try largestDifference(encoder.encode(pixels, tiling: .usual), encoder(pixels)) == 0)
    let latent = try noise([1, channels, 2, 2, 2])
    #expect(
      try largestDifference(decoder.decode(latent, tiling: .usual), decoder.decode(latent)) == 0)
  }

  @Test func tilesThatTheModelCannotBeTiledByAreRefused() throws {
    let latent = try noise([1, channels, 2, 2, 2])
    let cases: [(Tiling, String)] = [
      (Tiling(frames: Tiling.Axis(size: 20, overlap: 8)), "frames: have size 20"),
      (Tiling(height: Tiling.Axis(size: 32, overlap: 0)), "height: have size 32"),
      (Tiling(width: Tiling.Axis(size: 96, overlap: 40)), "width: overlap by 40"),
      (Tiling(width: Tiling.Axis(size: 64, overlap: 64)), "width: overlap by 64"),
    ]
    for (tiling, expected) in cases {
      let error = #expect(throws: Support.Issue.self) { try decoder.decode(latent, tiling: tiling) }
      #expect(error?.description.contains(expected) == true)
    }
    let narrow = Tiling(height: Tiling.Axis(size: 96, overlap: 32))
    let error = #expect(throws: Support.Issue.self) {
      try encoder.encode(noise([1, 3, 1, 64, 64]), tiling: narrow)
    }
    #expect(error?.description.contains("at least 64") == true)
  }
}

@Suite struct VideoVAEConfigurationTests {
  private func config(_ vae: String) throws -> Configuration {
    try Configuration(json: "{\"vae\": {\(vae)}}", file: "model.safetensors")
  }

  private let usual =
    "\"timestep_conditioning\": false, \"encoder_blocks\": [], \"decoder_blocks\": []"

  @Test func sizesFollowFromTheLists() throws {
    let vae = try config(
      """
      "latent_channels": 48, "patch_size": 2, "decoder_base_channels": 16, "spatial_padding_mode": "replicate",
      "encoder_blocks": [["res_x", 2], ["compress_all_res", {"multiplier": 2}], ["compress_space", {}]],
      "decoder_blocks": [["res_x_y", {"multiplier": 4}], ["compress_space", {"multiplier": 2}],
                         ["compress_all", {"residual": true}], ["attn", {}]]
      """)
    let encoder = try VideoVAEConfiguration.Encoder(vae)
    #expect(encoder.compression == CompressionFactors(time: 2, height: 8, width: 8))
    #expect(encoder.latentChannels == 48)
    #expect(encoder.padding == .replicate)
    #expect(encoder.varianceChannels == 1)
    let decoder = try VideoVAEConfiguration.ConvolutionalDecoder(vae)
    #expect(decoder.compression == encoder.compression)
    #expect(decoder.bottleneckChannels == 16 * 4 * 2)
    #expect(decoder.blocks.first == .attention)
    #expect(decoder.hasTimestepConditioning)
  }

  @Test func defaultPaddingIsZerosForTheEncoderAndReflectionForTheDecoder() throws {
    #expect(try VideoVAEConfiguration.Encoder(config(usual)).padding == .zeros)
    #expect(try VideoVAEConfiguration.ConvolutionalDecoder(config(usual)).padding == .reflect)
  }

  @Test func anEncoderOfItsOwnIsReadFromItsOwnObject() throws {
    let encoder = try VideoVAEConfiguration.Encoder(
      config(
        """
        "_class_name": "CausalDiffusionVAE", "out_channels": 3, "latent_channels": 7,
        "encoder": {"out_channels": 24, "patch_size": 1, "blocks": [["compress_time_res", {"multiplier": 1}]]}
        """))
    #expect(encoder.latentChannels == 24)
    #expect(encoder.compression == CompressionFactors(time: 2, height: 1, width: 1))
  }

  @Test(arguments: [
    (
      "\"encoder_blocks\": [[\"res_x\", 1], [\"compress_most\", {}]]",
      "config.vae.encoder_blocks[1]: is a \"compress_most\""
    ),
    (
      "\"encoder_blocks\": [[\"res_x\", {}]]", "config.vae.encoder_blocks[0].num_layers: is missing"
    ),
    (
      "\"encoder_blocks\": [[\"res_x\", -1]]",
      "config.vae.encoder_blocks[0].num_layers: must be between 1 and 1024 (got -1)"
    ),
    ("\"encoder_blocks\": [[\"res_x\"]]", "config.vae.encoder_blocks[0]: must be a pair"),
    (
      "\"encoder_blocks\": [[\"compress_time_res\", {\"multiplier\": 3}]]",
      "config.vae.encoder_blocks[0].multiplier: is 3"
    ),
    ("\"latent_channels\": 0", "config.vae.latent_channels: must be between 1 and 1048576 (got 0)"),
    ("\"latent_log_var\": \"none\"", "config.vae.latent_log_var: is \"none\""),
    ("\"norm_layer\": \"group_norm\"", "config.vae.norm_layer: is \"group_norm\""),
    ("\"dims\": 2", "config.vae.dims: is 2"),
    ("\"spatial_padding_mode\": \"mirror\"", "config.vae.spatial_padding_mode: is \"mirror\""),
    ("\"patch_size\": 4", "config.vae.encoder_blocks: is missing"),
  ])
  func encodersThatAreNotSupportedAreNamed(json: String, message: String) throws {
    let error = #expect(throws: Support.Issue.self) {
      try VideoVAEConfiguration.Encoder(config(json))
    }
    #expect(error?.description.contains(message) == true, "\(String(describing: error))")
  }

  @Test(arguments: [
    (
      "\"decoder_blocks\": [[\"attn_res_x\", {\"num_layers\": 1}]]",
      "config.vae.decoder_blocks[0]: is a \"attn_res_x\""
    ),
    (
      "\"decoder_blocks\": [[\"compress_all\", {\"residual\": 1}]]",
      "decoder_blocks[0].residual: must be true or false"
    ),
    (
      "\"decoder_blocks\": [[\"res_x_y\", {\"inject_noise\": true}]]",
      "decoder_blocks[0].inject_noise: is true"
    ),
    (
      "\"decoder_base_channels\": 3, \"decoder_blocks\": [[\"compress_all\", {\"residual\": true}]]",
      ".residual: needs"
    ),
  ])
  func decodersThatAreNotSupportedAreNamed(json: String, message: String) throws {
    let error = #expect(throws: Support.Issue.self) {
      try VideoVAEConfiguration.Decoder(config(json))
    }
    #expect(error?.description.contains(message) == true, "\(String(describing: error))")
  }

  @Test func weightsOfAnotherSizeAreNamed() throws {
    let source = Tensors(["per_channel_statistics.mean-of-means": try Tensor.zeros([16])])
    let configuration = try VideoVAEConfiguration.Decoder(config(usual))
    let error = #expect(throws: WeightError.self) {
      try VideoDecoder(Weights(source), configuration: configuration)
    }
    #expect(error?.key == "per_channel_statistics.mean-of-means")
  }
}

/// Tensors in memory as a checkpoint.
final class Tensors: TensorSource {
  let name = "memory"
  let metadata: [String: String] = [:]
  let entries: [String: TensorEntry]
  private let tensors: [String: Tensor]

  init(_ tensors: [String: Tensor]) {
    self.tensors = tensors
    entries = tensors.mapValues {
      TensorEntry(dtype: $0.dtype, shape: $0.shape, range: 0..<$0.byteCount)
    }
  }

  func tensor(_ key: String) throws -> Tensor {
    guard let tensor = tensors[key] else {
      throw TensorFileError(.missingTensor, path: name, key: key, "is not there")
    }
    return tensor
  }
}
