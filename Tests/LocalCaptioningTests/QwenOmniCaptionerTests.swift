import Foundation
import LanguageModels
import Media
import MediaTestSupport
import Support
import Testing
import Torch

@testable import LocalCaptioning

/// The captioner with models whose words mean nothing.
@Suite struct QwenOmniCaptionerTests {
  private static let models = ["qwen25_omni", "qwen3_omni"]

  private func captioner(_ name: String) throws -> QwenOmniCaptioner {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appending(path: "Fixtures/models/\(name)").path
    return try QwenOmniCaptioner(folder: folder, device: .cpu, dtype: .float32)
  }

  private func clip(in folder: TemporaryFolder, hasAudio: Bool) throws -> String {
    try write(
      scenes([4, 4]), to: folder.file("\(hasAudio).mp4"), rate: Rational(4),
      audio: hasAudio ? .init(sampleRate: 16_000, channelCount: 1) : nil)
  }

  @Test(arguments: models) func aClipIsAnswered(_ name: String) throws {
    let folder = try TemporaryFolder()
    let path = try clip(in: folder, hasAudio: true)
    let captioner = try captioner(name)
    var options = QwenOmniCaptioner.Options()
    options.maxTokens = 5
    let request = try captioner.request(path: path, options) { _ in "Describe it." }
    #expect(request.tokenCount > 20)
    var counts: [Int] = []
    let answer = try captioner.answer(request, options) { counts.append($0) }
    #expect(answer.tokenCount == counts.count && counts == Array(1...counts.count))
    #expect(answer.isTruncated == (answer.tokenCount == 5))
    #expect(try captioner.answer(request, options).text == answer.text)
  }

  /// Audio that is interleaved takes no start and end of its own part, and the answer changes.
  @Test(arguments: models) func audioIsInterleavedOnRequest(_ name: String) throws {
    let folder = try TemporaryFolder()
    let captioner = try captioner(name)
    func count(hasAudio: Bool, isInterleaved: Bool) throws -> Int {
      var options = QwenOmniCaptioner.Options()
      options.isInterleaved = isInterleaved
      return try captioner.request(
        path: clip(in: folder, hasAudio: hasAudio), options
      ) { _ in "What?" }.tokenCount
    }
    let (apart, mixed) = (
      try count(hasAudio: true, isInterleaved: false),
      try count(hasAudio: true, isInterleaved: true)
    )
    #expect(apart == mixed)
    let silent = try count(hasAudio: false, isInterleaved: true)
    #expect(try silent == count(hasAudio: false, isInterleaved: false))
    #expect(silent < mixed)
  }

  @Test func aSeedDecidesSampledAnswers() throws {
    let folder = try TemporaryFolder()
    let path = try clip(in: folder, hasAudio: false)
    let captioner = try captioner("qwen25_omni")
    var options = QwenOmniCaptioner.Options()
    options.maxTokens = 12
    let request = try captioner.request(path: path, options) { _ in "What?" }
    func text(_ seed: UInt64) throws -> String {
      options.sampling = Sampling(temperature: 2, seed: seed)
      return try captioner.answer(request, options).text
    }
    #expect(try text(1) == text(1))
    #expect(try text(1) != text(2))
  }

  @Test func answersCanBeCancelled() throws {
    let folder = try TemporaryFolder()
    let captioner = try captioner("qwen25_omni")
    let request = try captioner.request(
      path: clip(in: folder, hasAudio: false)
    ) { _ in "What?" }
    var count = 0
    #expect(throws: CancellationError.self) {
      _ = try captioner.answer(request) {
        count = $0
        if count == 2 { captioner.cancel() }
      }
    }
    #expect(count == 2)
    #expect(throws: CancellationError.self) { _ = try captioner.answer(request) }
  }

  @Test func aFolderWithoutAModelIsRefused() {
    let error = #expect(throws: Support.Issue.self) {
      _ = try QwenOmniCaptioner(folder: "/nowhere", device: .cpu, dtype: .float32)
    }
    #expect(error?.file == "/nowhere")
  }
}
