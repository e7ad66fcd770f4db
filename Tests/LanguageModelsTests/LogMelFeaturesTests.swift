import Foundation
import NN
import Support
import Testing
import Torch

@testable import LanguageModels

@Suite struct LogMelFeaturesTests {
  private func features(_ family: QwenOmniFamily, chunkLength: Int = 2) throws -> LogMelFeatures {
    try LogMelFeatures(
      Configuration(json: #"{"chunk_length": \#(chunkLength)}"#, file: "test"), family: family)
  }

  private func recording(_ count: Int) -> [Float] {
    (0..<count).map { Float(sin(Double($0) * 0.2 + Double($0 * $0) * 1e-6)) * 0.3 }
  }

  /// Silence at the end is not computed, and changes nothing: a longer limit gives the same frames.
  @Test(arguments: [161, 1600, 8001, 31_990])
  func silenceIsNotComputed(count: Int) throws {
    let short = try features(.qwen25)([recording(count)])
    let long = try features(.qwen25, chunkLength: 30)([recording(count)])
    #expect(short.frames == [(count + 159) / 160] && long.frames == short.frames)
    // At the limit the signal is mirrored instead.
    let same = count < 30_000 ? short.frames[0] : short.frames[0] - 2
    let difference = try short.features.narrow(2, 0, same) - long.features.narrow(2, 0, same)
    #expect(try difference.abs().max().item() < 1e-5)
  }

  @Test func framesAreCountedAsByTheReference() throws {
    let cut = try features(.qwen25)([recording(40_000), recording(401)])
    #expect(cut.frames == [200, 3] && cut.features.shape == [2, 128, 200])
    #expect(try cut.features.select(0, 1).narrow(1, 3, 197).abs().max().item() == 0)
    // The longest recording is not padded to whole frames.
    let kept = try features(.qwen3)([recording(40_001), recording(401), recording(39_999)])
    #expect(kept.frames == [250, 3, 250])
  }

  @Test func recordingsThatAreTooShortAreRefused() {
    for family in QwenOmniFamily.allCases {
      #expect(throws: Support.Issue.self) { try features(family)([[]]) }
    }
    #expect(throws: Support.Issue.self) { try features(.qwen3)([recording(200)]) }
    #expect(throws: Never.self) { try features(.qwen25)([recording(1)]) }
  }

  @Test(arguments: [
    #"{"sampling_rate": 44100}"#, #"{"dither": 0.1}"#, #"{"n_fft": 401}"#, #"{"hop_length": 0}"#,
    #"{"feature_size": "128"}"#,
  ])
  func unsupportedSettingsAreRefused(json: String) {
    #expect(throws: Support.Issue.self) {
      try LogMelFeatures(Configuration(json: json, file: "test"), family: .qwen3)
    }
  }
}
