import Foundation
import Testing
import TinyTraining

/// The figures of docs/tiny-model.md with a margin, because fewer clips are measured.
@Suite struct TrainedModelTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Resources/tiny-ltx2").path
  private static let model = "\(folder)/tiny-ltx2.safetensors"

  @Test func theVideoVAEReconstructsHeldOutClips() throws {
    let quality = try VideoVAEQuality(checkpoint: Self.model)
    let metrics = Dictionary(
      uniqueKeysWithValues: try quality.measure(3).map { ($0.name, $0.value) })
    for (style, limit) in [("plain", 26.0), ("sketch", 20.0), ("snow", 22.0)] {
      let decibels = try #require(metrics["psnr_\(style)"])
      #expect(decibels > limit, "\(style): \(decibels) dB")
    }
  }

  @Test func theAudioVAEAndTheVocoderKeepPitchAndTimbre() throws {
    let quality = try AudioQuality(audioVAE: Self.model, vocoder: Self.model, clips: 12)
    let metrics = Dictionary(
      uniqueKeysWithValues: try quality.measure().map { ($0.name, $0.value) })
    for name in ["register", "contour", "timbre"] {
      let share = try #require(metrics["both_\(name)_right"])
      #expect(share > 0.9, "\(name): \(share)")
    }
    let cents = try #require(metrics["both_cents"])
    #expect(cents < 50, "\(cents)")
  }

  @Test func clipsShowWhatHeldOutCaptionsSay() throws {
    let output = FileManager.default.temporaryDirectory
      .appendingPathComponent("ltx-evaluation-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: output) }
    var options = Evaluation.Options()
    options.count = 16
    let judgments = try Evaluation(model: Self.folder, folder: output, options: options).run()
    let shares = Dictionary(
      uniqueKeysWithValues: Evaluation.shares(judgments).map { ($0.name, $0.value) })
    for (name, limit) in Evaluation.limits {
      let share = try #require(shares[name])
      // One right clip in eight more or less is chance.
      #expect(share > limit - 0.125, "\(name): \(share)")
    }
  }
}
