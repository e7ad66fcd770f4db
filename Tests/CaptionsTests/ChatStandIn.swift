import Foundation
import HTTPTestSupport
import Support
import Synchronization

/// A server with OpenAI's chat API, as vLLM, SGLang and llama.cpp answer.
final class ChatStandIn: Sendable {
  struct Behavior: Sendable {
    var models = ["qwen-omni"]
    /// The types of parts that the server takes.
    var parts: Set<String> = ["text", "video_url", "image_url", "input_audio", "audio_url"]
    /// The key that is needed; nil for none.
    var key: String?
    /// The next responses about clips, regardless of the request; nil closes the connection.
    var responses: [LocalServer.Response?] = []
    /// The answer to the rest.
    var answer = #"{"combined_caption_english": "A gray square brightens."}"#
    var finishReason = "stop"
    /// The seconds before an answer.
    var delay = 0.0
    /// Requests beyond this size are refused.
    var largestRequest = Int.max
  }

  struct Chat: Sendable {
    let body: JSON
    let headers: [String: String]

    var content: [JSON] { body["messages"]?.array?.first?["content"]?.array ?? [] }
    var types: [String] { content.compactMap { $0["type"]?.string } }
    var text: String { content.compactMap { $0["text"]?.string }.joined() }

    /// The data of the first part of a type.
    func data(_ type: String) -> Data? {
      let part = content.first { $0["type"]?.string == type }?[type]
      let encoded =
        part?["data"]?.string
        ?? part?["url"]?.string?.split(separator: ",").last.map(String.init)
      return encoded.flatMap { Data(base64Encoded: $0) }
    }
  }

  private struct State {
    var behavior: Behavior
    var chats: [Chat] = []
    var running = 0
    var mostRunning = 0
  }

  private let state: Mutex<State>
  private let server: Mutex<LocalServer?> = Mutex(nil)

  var address: String { server.withLock { $0.map { $0.address + "/v1" } ?? "" } }
  /// The requests about clips, without those that ask what the server takes.
  var chats: [Chat] {
    state.withLock { $0.chats.filter { $0.body["max_tokens"]?.int != 8 } }
  }
  var probes: [Chat] { state.withLock { $0.chats.filter { $0.body["max_tokens"]?.int == 8 } } }
  var mostRunning: Int { state.withLock(\.mostRunning) }

  init(_ behavior: Behavior = Behavior()) throws {
    state = Mutex(State(behavior: behavior))
    let made = try LocalServer { [weak self] request in self?.respond(request) }
    server.withLock { $0 = made }
  }

  func change(_ change: (inout Behavior) -> Void) { state.withLock { change(&$0.behavior) } }
  func stop() { server.withLock { $0?.stop() } }

  static func error(_ status: Int, _ message: String) -> LocalServer.Response {
    let error: JSON = ["message": .string(message), "type": "error", "code": JSON(status)]
    return .json(JSON.object(["error": error]).text(), status: status)
  }

  static func completion(_ text: String, finish: String = "stop") -> LocalServer.Response {
    let choice: JSON = [
      "index": 0, "message": ["role": "assistant", "content": .string(text)],
      "finish_reason": .string(finish),
    ]
    let completion: JSON = [
      "id": "chatcmpl-1", "object": "chat.completion", "choices": [choice],
      "usage": ["prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15],
    ]
    return .json(completion.text())
  }

  private func respond(_ request: LocalServer.Request) -> LocalServer.Response? {
    let behavior = state.withLock(\.behavior)
    if let key = behavior.key, request.headers["authorization"] != "Bearer \(key)" {
      return Self.error(401, "Incorrect API key: \(request.headers["authorization"] ?? "none")")
    }
    switch (request.method, request.path) {
    case ("GET", "/v1/models"):
      let models = behavior.models.map { JSON.object(["id": .string($0), "object": "model"]) }
      return .json(JSON.object(["object": "list", "data": .array(models)]).text())
    case ("POST", "/v1/chat/completions"):
      guard request.body.count <= behavior.largestRequest else {
        return Self.error(413, "Request Entity Too Large")
      }
      guard let body = try? JSON(parsing: request.body) else { return Self.error(400, "not JSON") }
      return chat(Chat(body: body, headers: request.headers), behavior)
    default: return .json(#"{"detail": "Not Found"}"#, status: 404)
    }
  }

  private func chat(_ chat: Chat, _ behavior: Behavior) -> LocalServer.Response? {
    state.withLock { state in
      state.chats.append(chat)
      state.running += 1
      state.mostRunning = max(state.mostRunning, state.running)
    }
    defer { state.withLock { $0.running -= 1 } }
    if let unknown = chat.types.first(where: { !behavior.parts.contains($0) }) {
      return Self.error(400, "unsupported content[].type: \(unknown)")
    }
    if chat.body["max_tokens"]?.int == 8 { return Self.completion("Gray") }
    Thread.sleep(forTimeInterval: behavior.delay)
    let next: LocalServer.Response?? = state.withLock { state in
      state.behavior.responses.isEmpty ? nil : .some(state.behavior.responses.removeFirst())
    }
    if let next { return next }
    return Self.completion(behavior.answer, finish: behavior.finishReason)
  }
}
