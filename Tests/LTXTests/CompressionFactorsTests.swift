import NN
import TestSupport
import Testing

@testable import LTX

/// The factors that positions, masks and sizes follow, for each layout of a video VAE's
/// configuration.
@Suite struct CompressionFactorsTests {
  private static let encoder = """
    "encoder_blocks": [["res_x", {"num_layers": 1}], ["compress_space_res", {"multiplier": 1}],
      ["compress_all_x_y", {"multiplier": 2}], ["compress_time", 1]]
    """
  private static let decoder = #""decoder_blocks": [["compress_all", {"multiplier": 1}]]"#

  private func factors(_ vae: String?) throws -> [Int] {
    let json = vae.map { "{\"vae\": {\($0)}}" } ?? "{\"transformer\": {}}"
    let factors = try CompressionFactors(Configuration(json: json, file: "x.safetensors"))
    return [factors.time, factors.height, factors.width]
  }

  @Test func aFlatListOfBlocksDecides() throws {
    #expect(try factors(Self.encoder) == [4, 16, 16])
    #expect(try factors("\(Self.encoder), \(Self.decoder), \"patch_size\": 2") == [4, 8, 8])
  }

  @Test func withoutAnEncoderTheDecodersBlocksDecide() throws {
    #expect(try factors(Self.decoder) == [2, 8, 8])
    #expect(try factors("\"encoder_blocks\": [], \(Self.decoder)") == [2, 8, 8])
  }

  @Test func nestedConfigurationsAndFilesWithoutAVideoVAEHaveTheUsualFactors() throws {
    let nested = #""encoder": {"blocks": [["compress_all_res", {"multiplier": 1}]]}"#
    for vae in [nil, nested, "\"_class_name\": \"CausalDiffusionVAE\", \(nested)"] {
      #expect(try factors(vae) == [8, 32, 32])
    }
  }

  @Test(arguments: [
    (#""encoder_blocks": ["res_x"]"#, "encoder_blocks[0]: must be a pair"),
    (#""encoder_blocks": {}"#, "encoder_blocks: must be a list"),
    ("\"patch_size\": 0, \(decoder)", "patch_size: must be between 1"),
    (
      "\"decoder_blocks\": [\(Array(repeating: "[\"compress_all\", 1]", count: 60).joined(separator: ","))]",
      "compresses by more than 4096"
    ),
  ])
  func damagedConfigurationsAreRefusedByKey(vae: String, problem: String) {
    let text = message { _ = try factors(vae) }
    #expect(text.contains("x.safetensors: config.vae.") && text.contains(problem), "\(text)")
  }
}
