import Foundation
import HTTPTestSupport
import Media
import Support
import TestSupport
import Testing

@testable import Captions

/// The captioner against a server that speaks the Gemini API.
@Suite struct GeminiCaptionerTests {
  private let folder: ScratchFolder
  private let server: GeminiStandIn

  init() throws {
    folder = try ScratchFolder()
    server = try GeminiStandIn()
    try TestClips.video(folder.file("a.mp4"))
    try TestClips.image(folder.file("b.png"))
    try TestClips.audio(folder.file("c.wav"))
  }

  private func captioner(
    _ change: (inout GeminiCaptioner.Options) -> Void = { _ in }
  ) throws -> GeminiCaptioner {
    var options = GeminiCaptioner.Options(key: "AIza-secret-key")
    options.environment = ["GOOGLE_GEMINI_BASE_URL": server.address + "/"]
    options.retryDelays = [0.02, 0.02]
    options.pollDelay = 0.02
    options.timeLimit = 20
    change(&options)
    return try GeminiCaptioner(options)
  }

  private func answer(_ captioner: GeminiCaptioner, _ name: String) throws -> ModelAnswer {
    let clip = MediaClip(path: folder.file(name), name: name)
    return try captioner.request(for: clip, CaptionInstructions()).answer { _ in }
  }

  private func failure(_ body: () throws -> Void) -> CaptionFailure? {
    do { try body() } catch { return error as? CaptionFailure }
    return nil
  }

  @Test func smallFilesArePartOfTheRequest() throws {
    let captioner = try captioner()
    for (name, type) in [
      ("a.mp4", "video/mp4"), ("b.png", "image/png"), ("c.wav", "audio/wav"),
    ] {
      let answer = try answer(captioner, name)
      #expect(answer.text == #"{"combined_caption_english": "A gray square."}"# && !answer.isCut)
      let content = try #require(server.contents.last)
      let media = content.parts.first?["inlineData"]
      #expect(media?["mimeType"]?.string == type)
      let data = media?["data"]?.string.flatMap { Data(base64Encoded: $0) }
      #expect(data == FileManager.default.contents(atPath: folder.file(name)))
      #expect(content.body["generationConfig"] == ["temperature": 0])
    }
    #expect(
      server.contents.map { $0.parts.last?["text"]?.string } == [
        CaptionInstructions.standard(.video(hasAudio: true)), CaptionInstructions.standard(.image),
        CaptionInstructions.standard(.audio),
      ])
    #expect(server.uploaded.isEmpty)
  }

  @Test func formatsThatGeminiDoesNotKnowAreConverted() throws {
    try FileManager.default.copyItem(atPath: folder.file("b.png"), toPath: folder.file("d.bmp"))
    _ = try answer(captioner { $0.maxTokens = 100 }, "d.bmp")
    let content = try #require(server.contents.last)
    #expect(content.parts.first?["inlineData"]?["mimeType"] == "image/jpeg")
    #expect(content.body["generationConfig"]?["maxOutputTokens"] == 100)
  }

  @Test func largeFilesAreUploadedAndDeleted() throws {
    let captioner = try captioner { $0.inlineLimit = 100 }
    server.change { $0.states = ["PROCESSING", "PROCESSING", "ACTIVE"] }
    _ = try answer(captioner, "a.mp4")
    #expect(server.uploaded == [try Data(contentsOf: URL(fileURLWithPath: folder.file("a.mp4")))])
    #expect(server.types == ["video/mp4"] && server.polls == 2)
    let media = server.contents.last?.parts.first?["fileData"]
    #expect(media?["fileUri"]?.string == "\(server.address)/v1beta/files/f1")
    #expect(server.deleted == ["files/f1"] && server.files.isEmpty)
  }

  @Test func anUploadIsDeletedAfterAFailure() throws {
    let captioner = try captioner { $0.inlineLimit = 100 }
    server.change { $0.responses = [GeminiStandIn.error(400, "INVALID_ARGUMENT", "bad video")] }
    let refused = failure { _ = try answer(captioner, "a.mp4") }
    #expect(refused?.scope == .clip && refused?.description.contains("bad video") == true)
    #expect(server.deleted == ["files/f1"])
    server.change { $0.states = ["PROCESSING", "FAILED"] }
    #expect(
      failure { _ = try answer(captioner, "a.mp4") }?.description.contains("FAILED") == true)
    #expect(server.deleted.count == 2)
    server.change { $0.states = ["PROCESSING"] }
    let slow = try self.captioner {
      $0.inlineLimit = 100
      $0.timeLimit = 0.5
    }
    #expect(
      failure { _ = try answer(slow, "a.mp4") }?.description.contains("within 0.5 s") == true)
    #expect(server.files.isEmpty)
  }

  @Test func theKeyAndTheModelAreCheckedFirst() throws {
    let wrong = message { _ = try captioner { $0.key = "AIza-wrong-key" } }
    #expect(wrong.contains("Gemini: refuses the key (401)"), "\(wrong)")
    #expect(!wrong.contains("AIza-wrong-key"))
    let model = message { _ = try captioner { $0.model = "gemini-0" } }
    #expect(model.contains("no such model"), "\(model)")
    #expect(GeminiCaptioner.key(in: ["GOOGLE_API_KEY": "g"]) == "g")
    #expect(GeminiCaptioner.key(in: ["GOOGLE_API_KEY": "g", "GEMINI_API_KEY": " h\n"]) == "h")
    #expect(GeminiCaptioner.key(in: ["GEMINI_API_KEY": ""]) == nil)
  }

  @Test func rateLimitsAreRespected() throws {
    let captioner = try captioner()
    server.change {
      $0.responses = [GeminiStandIn.error(429, "RESOURCE_EXHAUSTED", "quota", retryDelay: "1s")]
    }
    let begin = Date()
    _ = try answer(captioner, "b.png")
    #expect(Date().timeIntervalSince(begin) >= 1)
    server.change {
      $0.responses = Array(
        repeating: GeminiStandIn.error(429, "RESOURCE_EXHAUSTED", "quota"), count: 3)
    }
    let over = failure { _ = try answer(captioner, "b.png") }
    #expect(over?.scope == .run && over?.description.contains("quota") == true)
  }

  @Test(
    arguments: [
      (.json("{\"promptFeedback\": {\"blockReason\": \"SAFETY\"}}"), .clip, "(SAFETY)"),
      (GeminiStandIn.content("", finish: "PROHIBITED_CONTENT"), .clip, "(PROHIBITED_CONTENT)"),
      (GeminiStandIn.content(" ", finish: "MAX_TOKENS"), .clip, "all its tokens"),
      (.json("{\"candidates\": []}"), .server, "has no candidates"),
      (.json("<html>"), .server, "not JSON"),
      (GeminiStandIn.error(413, "INVALID_ARGUMENT", "too large"), .clip, "(413): too large"),
      (GeminiStandIn.error(403, "PERMISSION_DENIED", "disabled"), .run, "disabled"),
    ] as [(LocalServer.Response, CaptionFailure.Scope, String)])
  func failuresConcernTheClipTheServerOrTheRun(
    response: LocalServer.Response, scope: CaptionFailure.Scope, words: String
  ) throws {
    let captioner = try captioner()
    server.change { $0.responses = [response] }
    let failure = failure { _ = try answer(captioner, "b.png") }
    #expect(failure?.scope == scope)
    #expect(failure?.description.contains(words) == true, "\(String(describing: failure))")
  }

  @Test func anAnswerThatTheLimitEndsIsMarked() throws {
    let captioner = try captioner()
    server.change { $0.responses = [GeminiStandIn.content("It ends in", finish: "MAX_TOKENS")] }
    let answer = try answer(captioner, "b.png")
    #expect(answer.isCut && answer.text == "It ends in")
  }
}
