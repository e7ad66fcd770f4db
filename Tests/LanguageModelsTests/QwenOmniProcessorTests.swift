import Foundation
import NN
import Support
import Testing
import Torch

@testable import LanguageModels

/// Rules that the cases in Tests/Fixtures/caption-processor don't cover.
@Suite struct QwenOmniProcessorTests {
  private func processor(_ name: String = "qwen3_omni") throws -> QwenOmniProcessor {
    let folder = DecoderTests.folder(name)
    return try QwenOmniProcessor(
      folder: folder, configuration: QwenOmniConfiguration(folder: folder))
  }

  private func frames(_ count: Int) throws -> Tensor {
    try Tensor.full([count, 3, 16, 16], 128, dtype: .uint8)
  }

  private func tone(_ count: Int) -> [Float] { (0..<count).map { Float(sin(Double($0) * 0.3)) } }

  /// A clip without audio has its plain placeholders, also if others are interleaved.
  @Test(arguments: ["qwen25_omni", "qwen3_omni"])
  func clipsWithoutAudioAreNotInterleaved(name: String) throws {
    let processor = try processor(name)
    var options = QwenOmniProcessor.Options()
    options.isInterleaved = true
    options.videoBounds = 64...4096
    let silent = QwenOmniMessage(
      role: "user", [.video(QwenOmniClip(frames: try frames(4))), .text("x")])
    let heard = QwenOmniMessage(
      role: "user",
      [.video(QwenOmniClip(frames: try frames(4), audio: tone(16_000))), .text("x")])
    let both = try processor([[silent, heard]], options)
    let tokens = processor.configuration.tokens
    let ids = both.ids[0]
    #expect(ids.count { $0 == tokens.audioStart } == 1 && both.audioFrames == [100])
    #expect(ids.count { $0 == tokens.video } == 2 * 2 * 4)
    #expect(ids.count { $0 == tokens.audio } == (name == "qwen25_omni" ? 25 : 13))
    let place = try #require(ids.firstIndex(of: tokens.visionStart))
    #expect(ids[place + 1] == tokens.video)
    // Without the option, the clip's audio is not heard.
    options.isInterleaved = false
    let plain = try processor([[heard]], options)
    #expect(plain.audioFrames.isEmpty && plain.media.inputFeatures == nil)
    #expect(!plain.ids[0].contains(tokens.audio))
  }

  /// Line breaks of the template and of the text are encoded together. Placeholders in a text
  /// without media are refused.
  @Test func textIsEncodedWithItsSurroundings() throws {
    let processor = try processor()
    let ids = try processor([[QwenOmniMessage(role: "user", [.text("\n\na"), .text("b")])]]).ids[0]
    let expected = try processor.tokenizer.encode(
      "<|im_start|>user\n\n\nab<|im_end|>\n<|im_start|>assistant\n", addBOS: false)
    #expect(ids == expected)
    #expect(throws: Support.Issue.self) {
      try processor([[QwenOmniMessage(role: "user", [.text("<|image_pad|>")])]])
    }
  }

  @Test func framesOfAnotherFormAreRefused() throws {
    let processor = try processor()
    for frames in [
      try frames(3), try frames(0), try frames(2).to(.float32),
      try Tensor.zeros([2, 1, 16, 16], dtype: .uint8),
    ] {
      #expect(throws: Support.Issue.self) {
        try processor([[QwenOmniMessage(role: "user", [.video(QwenOmniClip(frames: frames))])]])
      }
    }
    var options = QwenOmniProcessor.Options()
    options.fps = .infinity
    #expect(throws: Support.Issue.self) {
      try processor([[QwenOmniMessage(role: "user", [.text("a")])]], options)
    }
  }

  @Test(arguments: [
    (#""patch_size": 4"#, #""patch_size": 14"#), (#""merge_size": 2"#, #""merge_size": 4"#),
    (#""min_pixels": 256"#, #""min_pixels": 2560"#), (#""dither": 0.0"#, #""do_resize": false"#),
    (#""max_pixels": 1600,"#, ""), (#""image_std""#, #""image_deviation""#),
    (#""image_mean": ["#, #""image_mean": [0.5,"#),
  ])
  func settingsThatDoNotFitAreRefused(part: String, other: String) throws {
    let source = DecoderTests.folder("qwen3_omni")
    let folder = FileManager.default.temporaryDirectory.path + "/omni-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try FileManager.default.copyItem(
      atPath: "\(source)/tokenizer.json", toPath: "\(folder)/tokenizer.json")
    let configuration = try QwenOmniConfiguration(folder: source)
    let name = QwenOmniProcessor.configurationName
    #expect(throws: Support.Issue.self, "the file is missing") {
      try QwenOmniProcessor(folder: folder, configuration: configuration)
    }
    let text = try String(contentsOfFile: "\(source)/\(name)", encoding: .utf8)
    try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
    #expect(throws: Never.self) {
      try QwenOmniProcessor(folder: folder, configuration: configuration)
    }
    let changed = text.replacing(part, with: other, maxReplacements: 1)
    try #require(changed != text)
    try changed.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
    #expect(throws: Support.Issue.self) {
      try QwenOmniProcessor(folder: folder, configuration: configuration)
    }
  }
}
