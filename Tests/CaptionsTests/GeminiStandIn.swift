import Foundation
import HTTPTestSupport
import Support
import Synchronization

/// The endpoints of the Gemini API that captioning uses.
final class GeminiStandIn: Sendable {
  struct Behavior: Sendable {
    var key = "AIza-secret-key"
    /// The next responses to requests for content, regardless of the request.
    var responses: [LocalServer.Response?] = []
    /// The states of an uploaded file, one per question; the last one stays.
    var states = ["ACTIVE"]
  }

  struct Content: Sendable {
    let body: JSON
    var parts: [JSON] { body["contents"]?.array?.first?["parts"]?.array ?? [] }
  }

  private struct State {
    var behavior = Behavior()
    var contents: [Content] = []
    var files: [String: Data] = [:]
    var uploaded: [Data] = []
    var types: [String] = []
    var deleted: [String] = []
    var polls = 0
  }

  private let state = Mutex(State())
  private let server: Mutex<LocalServer?> = Mutex(nil)

  var address: String { server.withLock { $0?.address ?? "" } }
  var contents: [Content] { state.withLock(\.contents) }
  /// The files that are stored now.
  var files: [String: Data] { state.withLock(\.files) }
  var uploaded: [Data] { state.withLock(\.uploaded) }
  var types: [String] { state.withLock(\.types) }
  var deleted: [String] { state.withLock(\.deleted) }
  var polls: Int { state.withLock(\.polls) }

  init() throws {
    let made = try LocalServer { [weak self] request in self?.respond(request) }
    server.withLock { $0 = made }
  }

  func change(_ change: (inout Behavior) -> Void) { state.withLock { change(&$0.behavior) } }

  static func error(
    _ code: Int, _ status: String, _ message: String, retryDelay: String? = nil
  ) -> LocalServer.Response {
    let details: [JSON] =
      retryDelay.map {
        [["@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": .string($0)]]
      } ?? []
    let error: JSON = [
      "code": JSON(code), "message": .string(message), "status": .string(status),
      "details": .array(details),
    ]
    return .json(JSON.object(["error": error]).text(), status: code)
  }

  static func content(_ text: String, finish: String = "STOP") -> LocalServer.Response {
    let content: JSON = [
      "role": "model", "parts": [["text": "thinking", "thought": true], ["text": .string(text)]],
    ]
    let answer: JSON = [
      "candidates": [["content": content, "finishReason": .string(finish), "index": 0]],
      "modelVersion": "gemini",
    ]
    return .json(answer.text())
  }

  private func respond(_ request: LocalServer.Request) -> LocalServer.Response? {
    let behavior = state.withLock(\.behavior)
    // The address of an upload is its own permission.
    if request.path == "/upload/session/1" { return upload(request) }
    guard request.headers["x-goog-api-key"] == behavior.key, !request.target.contains("key=") else {
      return Self.error(
        400, "INVALID_ARGUMENT",
        "API key not valid: \(request.headers["x-goog-api-key"] ?? ""). Please pass a valid API key."
      )
    }
    switch (request.method, request.path) {
    case ("GET", "/v1beta/models/gemini-3.5-flash"):
      return .json(#"{"name": "models/gemini-3.5-flash"}"#)
    case ("POST", "/v1beta/models/gemini-3.5-flash:generateContent"):
      guard let body = try? JSON(parsing: request.body) else {
        return Self.error(400, "INVALID_ARGUMENT", "not JSON")
      }
      let next: LocalServer.Response?? = state.withLock { state in
        state.contents.append(Content(body: body))
        return state.behavior.responses.isEmpty
          ? nil : .some(state.behavior.responses.removeFirst())
      }
      return next ?? Self.content(#"{"combined_caption_english": "A gray square."}"#)
    case ("POST", "/upload/v1beta/files"):
      guard request.headers["x-goog-upload-command"] == "start" else {
        return Self.error(400, "INVALID_ARGUMENT", "no start")
      }
      state.withLock {
        $0.types.append(request.headers["x-goog-upload-header-content-type"] ?? "")
      }
      return .init(headers: ["X-Goog-Upload-URL": "\(address)/upload/session/1"])
    case ("GET", let path) where path.hasPrefix("/v1beta/files/"):
      return file(String(path.dropFirst("/v1beta/".count)))
    case ("DELETE", let path) where path.hasPrefix("/v1beta/files/"):
      let name = String(path.dropFirst("/v1beta/".count))
      state.withLock {
        $0.files[name] = nil
        $0.deleted.append(name)
      }
      return .json("{}")
    default: return Self.error(404, "NOT_FOUND", "is not found")
    }
  }

  private func upload(_ request: LocalServer.Request) -> LocalServer.Response {
    guard request.headers["x-goog-upload-command"] == "upload, finalize",
      request.headers["x-goog-upload-offset"] == "0", request.headers["x-goog-api-key"] == nil
    else { return Self.error(400, "INVALID_ARGUMENT", "no upload") }
    state.withLock {
      $0.files["files/f1"] = request.body
      $0.uploaded.append(request.body)
    }
    return .json(JSON.object(["file": description("files/f1")]).text())
  }

  private func description(_ name: String) -> JSON {
    let current = state.withLock { state in
      state.behavior.states.count > 1
        ? state.behavior.states.removeFirst() : state.behavior.states[0]
    }
    return [
      "name": .string(name), "uri": .string("\(address)/v1beta/\(name)"),
      "state": .string(current), "mimeType": "video/mp4",
    ]
  }

  private func file(_ name: String) -> LocalServer.Response {
    let exists = state.withLock { state in
      state.polls += 1
      return state.files[name] != nil
    }
    return exists
      ? .json(description(name).text()) : Self.error(404, "NOT_FOUND", "no such file")
  }
}
