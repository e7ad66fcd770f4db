import Foundation
import HTTPTestSupport
import Media
import Support
import TestSupport
import Testing

@testable import Captions

/// The captioner against a server that speaks OpenAI's chat API.
@Suite struct OpenAICaptionerTests {
  private let folder: ScratchFolder

  init() throws { folder = try ScratchFolder() }

  private func captioner(
    _ server: ChatStandIn, _ change: (inout OpenAICaptioner.Options) -> Void = { _ in }
  ) throws -> OpenAICaptioner {
    var options = OpenAICaptioner.Options(url: server.address)
    options.retryDelays = [0.02, 0.02]
    options.timeLimit = 20
    options.environment = [:]
    change(&options)
    return try OpenAICaptioner(options)
  }

  private func clip(_ name: String) throws -> MediaClip {
    let path = folder.file(name)
    if !FileManager.default.fileExists(atPath: path) {
      switch MediaExtension(ofFile: name)?.kind {
      case .image: try TestClips.image(path)
      case .audio: try TestClips.audio(path)
      default: try TestClips.video(path, hasAudio: !name.hasPrefix("silent"))
      }
    }
    return MediaClip(path: path, name: name)
  }

  private func answer(_ captioner: OpenAICaptioner, _ name: String) throws -> ModelAnswer {
    try captioner.request(for: clip(name), CaptionInstructions()).answer { _ in }
  }

  private func failure(_ body: () throws -> Void) -> CaptionFailure? {
    do { try body() } catch { return error as? CaptionFailure }
    return nil
  }

  // MARK: Requests

  @Test func aVideoIsSentAsAFileWithItsAudioAndTheInstructionLast() throws {
    let server = try ChatStandIn()
    let captioner = try captioner(server) { $0.vLLM = .init(thinks: false) }
    #expect(captioner.abilities == ServerAbilities(video: .file, audio: .inputAudio))
    #expect(captioner.summary.contains("qwen-omni at http://127.0.0.1"))
    let answer = try answer(captioner, "a.mp4")
    #expect(CaptionText.cleaned(answer.text) == "A gray square brightens." && !answer.isCut)
    let chat = try #require(server.chats.first)
    #expect(chat.types == ["video_url", "input_audio", "text"])
    #expect(chat.data("video_url") == FileManager.default.contents(atPath: folder.file("a.mp4")))
    #expect(chat.data("input_audio")?.starts(with: Data("RIFF".utf8)) == true)
    #expect(chat.text == CaptionInstructions.standard(.video(hasAudio: true)))
    #expect(chat.body["model"] == "qwen-omni" && chat.body["temperature"] == 0)
    #expect(chat.body["max_tokens"] == 4096 && chat.body["repetition_penalty"] == 1.05)
    #expect(chat.body["chat_template_kwargs"] == ["enable_thinking": false])
    #expect(chat.body["mm_processor_kwargs"] == ["fps": 2])
    #expect(chat.headers["authorization"] == nil)
  }

  @Test func everyKindOfFile() throws {
    let server = try ChatStandIn()
    let captioner = try captioner(server)
    for name in ["silent.mp4", "b.png", "c.wav"] { _ = try answer(captioner, name) }
    let chats = server.chats
    #expect(
      chats.map(\.types) == [
        ["video_url", "text"], ["image_url", "text"], ["input_audio", "text"],
      ])
    #expect(chats[0].text == CaptionInstructions.standard(.video(hasAudio: false)))
    #expect(chats[1].text == CaptionInstructions.standard(.image))
    #expect(chats[2].text == CaptionInstructions.standard(.audio))
    // Servers that may refuse what OpenAI doesn't know get nothing else.
    #expect(
      chats.allSatisfy {
        Set($0.body.object?.keys ?? []) == ["model", "max_tokens", "temperature", "messages"]
      })
  }

  @Test(
    arguments: [
      (["text", "image_url"], .frames, .none),
      (["text", "image_url", "input_audio"], .frames, .inputAudio),
      (["text", "image_url", "video_url", "audio_url"], .file, .audioURL),
      (["text", "input_audio"], .none, .inputAudio),
    ] as [(Set<String>, ServerAbilities.Video, ServerAbilities.Audio)])
  func aServerIsAskedOnceWhatItTakes(
    parts: Set<String>, video: ServerAbilities.Video, audio: ServerAbilities.Audio
  ) throws {
    let server = try ChatStandIn(.init(parts: parts))
    let captioner = try captioner(server)
    #expect(captioner.abilities == ServerAbilities(video: video, audio: audio))
    #expect(captioner.summary.contains("no audio") == (audio == .none))
    if video == .none {
      #expect(failure { _ = try self.answer(captioner, "a.mp4") }?.scope == .clip)
      #expect(try !self.answer(captioner, "c.wav").text.isEmpty)
      return
    }
    let answer = try answer(captioner, "a.mp4")
    let chat = try #require(server.chats.first)
    #expect(chat.types.count { $0 == "image_url" } == (video == .frames ? 4 : 0))
    #expect(chat.types.contains("audio_url") == (audio == .audioURL))
    #expect(answer.notes == (audio == .none ? ["the server takes no audio"] : []))
    #expect(chat.text.contains("speech") == (audio != .none))
    #expect(server.probes.count <= 4)
    if audio == .none {
      #expect(failure { _ = try self.answer(captioner, "c.wav") }?.scope == .clip)
    }
  }

  @Test func framesAreSentIfTheServerDoesNotTakeAFile() throws {
    let server = try ChatStandIn()
    let captioner = try captioner(server)
    server.change {
      $0.responses = [ChatStandIn.error(400, "Expected 20 frames from video, got 19")]
    }
    let answer = try answer(captioner, "a.mp4")
    #expect(answer.notes == ["the server did not take the file, so its frames were sent"])
    #expect(server.chats.map { $0.types.first } == ["video_url", "image_url"])
    server.change { $0.largestRequest = 100 }
    let large = failure { _ = try self.answer(captioner, "a.mp4") }
    #expect(large?.scope == .clip)
    #expect(large?.description.contains("refuses a request of 0.") == true)
    #expect(large?.description.contains("(413)") == true)
  }

  // MARK: Connecting

  @Test func theModelIsChosen() throws {
    let server = try ChatStandIn(.init(models: ["one", "two"]))
    #expect(
      message { _ = try captioner(server) }.contains("has several models (one, two)"))
    #expect(
      message { _ = try captioner(server) { $0.model = "three" } }.contains("no model three"))
    #expect(try captioner(server) { $0.model = "two" }.summary.hasPrefix("two at "))
  }

  @Test func serversThatCanNotBeUsedAreNamed() throws {
    let server = try ChatStandIn(.init(parts: ["text"]))
    #expect(
      message { _ = try captioner(server) }.contains("takes neither videos nor images nor audio"))
    #expect(message { _ = try captioner(server) { $0.url = "127.0.0.1:1" } }.contains("not a URL"))
    let address = server.address
    server.stop()
    let gone = message { _ = try captioner(server) { $0.url = address } }
    #expect(gone.contains("no server answers") && gone.contains(address), "\(gone)")
    let page = try LocalServer { _ in .init(body: Data("<html>hello</html>".utf8)) }
    #expect(
      message { _ = try captioner(server) { $0.url = page.address } }.contains("lists no models"))
  }

  @Test func theKeyIsSentAndNeverRepeated() throws {
    let server = try ChatStandIn(.init(key: "sk-secret-1234"))
    let refused = message { _ = try self.captioner(server) { $0.key = "sk-wrong-5678" } }
    #expect(refused.contains("refuses the key (401)") && refused.contains("[key]"), "\(refused)")
    #expect(!refused.contains("sk-wrong"))
    #expect(message { _ = try self.captioner(server) }.contains("OPENAI_API_KEY"))
    let captioner = try self.captioner(server) { $0.key = "sk-secret-1234" }
    _ = try answer(captioner, "b.png")
    #expect(server.chats.first?.headers["authorization"] == "Bearer sk-secret-1234")
  }

  // MARK: Failures

  @Test(
    arguments: [
      (ChatStandIn.error(400, "too long"), .clip, "too long"),
      (ChatStandIn.error(401, "no"), .run, "refuses the key"),
      (ChatStandIn.error(404, "no such model"), .run, "no such model"),
      (ChatStandIn.error(422, "bad"), .clip, "(422): bad"),
      (.json("{\"choices\": [", status: 200), .server, "not JSON"),
      (.json("{\"choices\": []}", status: 200), .server, "has no choices"),
      (.json("{\"error\": \"out of memory\"}", status: 200), .server, "out of memory"),
      (ChatStandIn.completion(""), .clip, "the answer is empty"),
      (ChatStandIn.completion("", finish: "length"), .clip, "all its tokens"),
      (ChatStandIn.completion("x", finish: "content_filter"), .clip, "filter"),
      (
        .json(
          "{\"choices\": [{\"message\": {\"content\": null, \"refusal\": \"I won't\"}}]}",
          status: 200), .clip, "I won't"
      ),
    ] as [(LocalServer.Response, CaptionFailure.Scope, String)])
  func failuresConcernTheClipTheServerOrTheRun(
    response: LocalServer.Response, scope: CaptionFailure.Scope, words: String
  ) throws {
    let server = try ChatStandIn()
    let captioner = try captioner(server)
    server.change { $0.responses = [response] }
    let failure = failure { _ = try self.answer(captioner, "b.png") }
    #expect(failure?.scope == scope)
    #expect(failure?.description.contains(words) == true, "\(String(describing: failure))")
    #expect(server.chats.count == 1)
  }

  @Test func temporaryFailuresAreRetried() throws {
    let server = try ChatStandIn()
    let captioner = try captioner(server)
    server.change { $0.responses = [ChatStandIn.error(500, "oops"), nil] }
    #expect(try !answer(captioner, "b.png").text.isEmpty)
    #expect(server.chats.count == 3)

    server.change {
      $0.responses = Array(repeating: ChatStandIn.error(500, "oops"), count: 3)
    }
    #expect(failure { _ = try self.answer(captioner, "b.png") }?.scope == .server)

    server.change { $0.responses = Array(repeating: ChatStandIn.error(429, "slow"), count: 3) }
    let limited = failure { _ = try self.answer(captioner, "b.png") }
    #expect(limited?.scope == .run)
    #expect(limited?.description.contains("the limit on requests is reached (429)") == true)
  }

  @Test func aBusyServerIsGivenTheTimeThatItAsksFor() throws {
    let server = try ChatStandIn()
    let captioner = try captioner(server)
    var busy = ChatStandIn.error(429, "slow down")
    busy.headers["Retry-After"] = "1"
    server.change { $0.responses = [busy] }
    let begin = Date()
    _ = try answer(captioner, "b.png")
    #expect(Date().timeIntervalSince(begin) >= 1)
  }

  @Test func hangingUpAndDrippingAreFailuresOfTheServer() throws {
    let server = try ChatStandIn()
    let captioner = try captioner(server) { $0.timeLimit = 1 }
    var cut = ChatStandIn.completion("a caption")
    cut.hangUpAfter = 20
    server.change { $0.responses = [cut, cut, cut] }
    let lost = failure { _ = try self.answer(captioner, "b.png") }
    #expect(lost?.scope == .server)
    #expect(lost?.description.contains("the connection was lost") == true)

    var slow = ChatStandIn.completion("a caption")
    slow.dripInterval = 0.1
    server.change { $0.responses = [slow] }
    let begin = Date()
    let late = failure { _ = try self.answer(captioner, "b.png") }
    #expect(late?.description.contains("gave no complete answer within 1 s") == true)
    // A model that takes too long once will do so again.
    #expect(Date().timeIntervalSince(begin) < 3)
  }

  @Test func anAnswerThatTheLimitEndsIsMarked() throws {
    let server = try ChatStandIn()
    let captioner = try captioner(server)
    server.change {
      $0.answer = "{\"\(CaptionAnswer.key)\": \"It ends in the"
      $0.finishReason = "length"
    }
    let answer = try answer(captioner, "b.png")
    #expect(answer.isCut && CaptionText.cleaned(answer.text) == "It ends in the")
  }

  @Test func aDamagedClipIsNotSent() throws {
    let server = try ChatStandIn()
    let captioner = try captioner(server)
    try folder.write("no video", to: "bad.mp4")
    #expect(throws: MediaError.self) {
      try captioner.request(
        for: MediaClip(path: folder.file("bad.mp4"), name: "bad.mp4"), CaptionInstructions())
    }
    #expect(server.chats.isEmpty)
  }

  // MARK: A whole run

  @Test func severalRequestsRunAtTheSameTime() throws {
    let server = try ChatStandIn()
    for index in 0..<6 { try TestClips.image(folder.file("\(index).png")) }
    try folder.write("no image", to: "9.png")
    server.change { $0.delay = 0.3 }
    let plan = try CaptionPlan(CaptionOptions(input: folder.path))
    let summary = try CaptionRun(
      plan, captioner(server), instructions: CaptionInstructions(), workers: 3
    ).run()
    #expect(summary.captioned == 6 && summary.failures.map(\.file) == ["9.png"])
    #expect(server.mostRunning == 3)
  }
}
