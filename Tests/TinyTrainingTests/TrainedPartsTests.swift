import Foundation
import Testing
import TinyTraining

/// The figures of docs/tiny-model.md with a margin, on fewer clips.
@Suite struct TrainedPartsTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Resources/tiny-ltx2/parts").path

  @Test func theVideoVAEReconstructsHeldOutClips() throws {
    let quality = try VideoVAEQuality(checkpoint: "\(Self.folder)/video-vae.safetensors")
    let metrics = Dictionary(
      uniqueKeysWithValues: try quality.measure(3).map { ($0.name, $0.value) })
    for (style, limit) in [("plain", 24.0), ("sketch", 19.0), ("snow", 21.0)] {
      let decibels = try #require(metrics["psnr_\(style)"])
      #expect(decibels > limit, "\(style): \(decibels) dB")
    }
  }

  @Test func theAudioVAEAndTheVocoderKeepPitchAndTimbre() throws {
    let quality = try AudioQuality(
      audioVAE: "\(Self.folder)/audio-vae.safetensors",
      vocoder: "\(Self.folder)/vocoder.safetensors", clips: 12)
    let metrics = Dictionary(
      uniqueKeysWithValues: try quality.measure().map { ($0.name, $0.value) })
    for name in ["register", "contour", "timbre"] {
      let share = try #require(metrics["both_\(name)_right"])
      #expect(share > 0.9, "\(name): \(share)")
    }
    let cents = try #require(metrics["both_cents"])
    #expect(cents < 50, "\(cents)")
  }
}
