import Foundation
import LTX
import TestSupport
import Testing

private let runsAll = ProcessInfo.processInfo.environment["LTX_ALL_BUDGETS"] == "1"

/// The predicted memory of the video VAE's decoder against that on the pretend GPU, at published
/// widths.
///
/// `LTX_ALL_BUDGETS=1` also compares the larger sizes, which takes minutes.
@Suite(.serialized) struct DecodingMemoryTests {
  private struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let isTiled: Bool
    /// LTX-2.5 has the diffusion decoder.
    var generation = TinyModel.Generation.ltx23
    var testDescription: String {
      "LTX-\(generation.rawValue), \(name)\(isTiled ? ", in tiles" : "")"
    }
  }

  private static let cases =
    [
      Case(name: "512x320x25", isTiled: false),
      Case(name: "512x320x25", isTiled: false, generation: .ltx25),
      Case(name: "512x320x25", isTiled: true, generation: .ltx25),
    ]
    + (runsAll
      ? ["960x544x49", "768x512x121", "1280x704x49"].flatMap { name in
        [false, true].map { Case(name: name, isTiled: $0) }
          + [Case(name: name, isTiled: true, generation: .ltx25)]
      } : [])

  @Test(arguments: cases) private func predictedPeaksAreTheCountedOnes(_ example: Case) throws {
    let shop = try Workshop()
    try FullSizeModel.writeCheckpoint(
      to: shop.path, generation: example.generation, blocks: 4)
    let model = "\(shop.path)/\(FullSizeModel.checkpointName)"
    let size = try #require(FullSizeCache.Size.all.first { $0.name == example.name })
    try FullSizeCache.write(to: "\(shop.path)/cache", size: size, samples: 1)
    let (result, report) = try PretendGPU.run(
      [
        "decode", "cache/latents", "decoded", "--model-path", model, "--device", "cuda",
        example.isTiled ? "--vae-tiling" : "--no-vae-tiling",
      ], in: shop.path, environment: ["PRETEND_GPU_NULL": "1"])
    try #require(result.status == 0, "\(result.errors)")
    let counted = try #require(report.devices.map(\.peakBytes).max())
    let parts = example.name.split(separator: "x").compactMap { Int($0) }
    // The tiles of `ltx decode`.
    let axis = Tiling.Axis(size: 512, overlap: 128)
    let tiling = Tiling(frames: .init(size: 128, overlap: 24), height: axis, width: axis)
    let predicted = try Checkpoint(ModelFiles(unified: model)).videoDecodingBytes(
      VideoSize(width: parts[0], height: parts[1], frames: parts[2]),
      tiling: example.isTiled ? tiling : nil, dtype: .bfloat16)
    #expect(
      Double(abs(predicted - counted)) <= 0.05 * Double(counted),
      "\(predicted) predicted, \(counted) counted")
  }
}
