import Foundation
import HTTPTestSupport
import Support
import Synchronization

@testable import Tracking

/// The endpoints of Weights & Biases that a run uses, in memory. `Tests/Oracles/check_wandb.py`
/// also connects the real client to it.
final class WandBStandIn: Sendable {
  struct Run: Sendable {
    var displayName: String?
    var tags: [String] = []
    var config = ""
    /// The rows by number.
    var rows: [Int: String] = [:]
    var summary = ""
    var files: [String: Data] = [:]
    var uploaded: Set<String> = []
    var exitCode: Int?
    var messages = 0
  }

  /// The failures that a test requests.
  struct Trouble: Sendable {
    /// The statuses of the next messages of the stream; 0 closes the connection.
    var stream: [Int] = []
    /// The status of every upload.
    var upload: Int?
    /// The time that a message takes, in seconds.
    var delay = 0.0
  }

  static let key = "0123456789abcdef0123456789abcdef01234567"

  private let state: Mutex<(runs: [String: Run], trouble: Trouble)> = Mutex(([:], Trouble()))
  private let box: Mutex<LocalServer?> = Mutex(nil)

  init(port: UInt16 = 0) throws {
    let server = try LocalServer(port: port) { [weak self] request in self?.answer(request) }
    box.withLock { $0 = server }
  }

  var address: String { box.withLock { $0?.address ?? "" } }
  func stop() { box.withLock { $0?.stop() } }
  func run(_ id: String) -> Run? { state.withLock { $0.runs[id] } }
  func setTrouble(_ trouble: Trouble) { state.withLock { $0.trouble = trouble } }

  private func answer(_ request: LocalServer.Request) -> LocalServer.Response? {
    if request.path.hasPrefix("/storage/") { return store(request) }
    guard
      request.headers["authorization"] == "Basic "
        + Data("api:\(Self.key)".utf8).base64EncodedString()
    else {
      return .json(#"{"errors": [{"message": "user is not logged in"}]}"#, status: 401)
    }
    guard let body = try? JSON(parsing: request.body) else { return .json("{}") }
    if request.path == "/graphql" { return graphQL(body) }
    let parts = request.path.split(separator: "/")
    guard parts.count == 5, parts[0] == "files", parts[4] == "file_stream" else {
      return .json("{}", status: 404)
    }
    return stream(String(parts[3]), body)
  }

  private func graphQL(_ body: JSON) -> LocalServer.Response {
    let query = body["query"]?.string ?? ""
    let variables = body["variables"] ?? [:]
    let id = variables["name"]?.string ?? ""
    if query.contains("upsertBucket") {
      guard variables["project"]?.string != "forbidden" else {
        return .json(
          #"{"data": {"upsertBucket": null}, "errors": [{"message": "permission denied"}]}"#)
      }
      state.withLock { state in
        var run = state.runs[id] ?? Run()
        run.displayName = variables["displayName"]?.string ?? run.displayName
        run.config = variables["config"]?.string ?? run.config
        run.tags = variables["tags"]?.array?.compactMap(\.string) ?? run.tags
        state.runs[id] = run
      }
      let project: JSON = [
        "id": "p", "name": variables["project"] ?? "uncategorized",
        "entity": ["id": "e", "name": .string(variables["entity"]?.string ?? "somebody")],
      ]
      return respond([
        "upsertBucket": [
          "bucket": [
            "id": "UnVuOjE=", "name": .string(id), "displayName": variables["displayName"] ?? .null,
            "config": "{}",
            "historyLineCount": JSON(run(id)?.rows.count ?? 0), "project": project,
          ], "inserted": true,
        ]
      ])
    }
    if query.contains("createRunFiles") {
      let run = variables["run"]?.string ?? ""
      let files = (variables["files"]?.array ?? []).compactMap(\.string).map { name -> JSON in
        [
          "name": .string(name),
          "uploadUrl": .string("\(address)/storage/\(run)/\(name)?signature=abc"),
        ]
      }
      return respond([
        "createRunFiles": [
          "runID": "UnVuOjE=", "uploadHeaders": ["X-Stored: yes"], "files": .array(files),
        ]
      ])
    }
    if query.contains("bucket(name") {
      guard let run = run(id) else { return respond(["model": ["bucket": nil]]) }
      let tail =
        run.rows.keys.max().flatMap { run.rows[$0] }.map { JSON.array([.string($0)]) } ?? []
      let text = tail.text()
      return respond([
        "model": [
          "id": "p", "name": "p", "entity": ["id": "e", "name": "somebody"],
          "bucket": [
            "id": "UnVuOjE=", "name": .string(id),
            "historyLineCount": JSON(run.rows.count),
            "historyTail": .string(text), "eventsLineCount": 0, "logLineCount": 0,
            "eventsTail": "[]",
            "summaryMetrics": .string(run.summary.isEmpty ? "{}" : run.summary),
            "config": .string(run.config),
            "displayName": JSON(run.displayName), "tags": .array(run.tags.map(JSON.string)),
            "wandbConfig": "{\"t\": 1}",
          ],
        ]
      ])
    }
    if query.contains("viewer") {
      return respond([
        "viewer": [
          "id": "v", "entity": "somebody", "username": "somebody", "flags": "{}", "email": "a@b.c",
          "teams": ["edges": []],
        ]
      ])
    }
    return respond([:])
  }

  private func stream(_ id: String, _ body: JSON) -> LocalServer.Response? {
    let (status, delay) = state.withLock { state in
      (state.trouble.stream.isEmpty ? 200 : state.trouble.stream.removeFirst(), state.trouble.delay)
    }
    if delay > 0 { Thread.sleep(forTimeInterval: delay) }
    guard status != 0 else { return nil }
    guard status == 200 else { return .json(#"{"error": "on purpose"}"#, status: status) }
    state.withLock { state in
      var run = state.runs[id] ?? Run()
      run.messages += 1
      if let history = body["files"]?["wandb-history.jsonl"] {
        let offset = history["offset"]?.int ?? 0
        for (index, line) in (history["content"]?.array ?? []).enumerated() {
          run.rows[offset + index] = line.string ?? ""
        }
      }
      if let summary = body["files"]?["wandb-summary.json"]?["content"]?.array?.last?.string {
        run.summary = summary
      }
      run.uploaded.formUnion((body["uploaded"]?.array ?? []).compactMap(\.string))
      if body["complete"]?.bool == true { run.exitCode = body["exitcode"]?.int }
      state.runs[id] = run
    }
    return .json(#"{"exitcode": null, "limits": {}}"#)
  }

  private func store(_ request: LocalServer.Request) -> LocalServer.Response {
    if let status = state.withLock({ $0.trouble.upload }) { return .json("{}", status: status) }
    // A signed address needs no key, and must not receive one.
    guard request.method == "PUT", request.headers["authorization"] == nil,
      request.target.hasSuffix("?signature=abc")
    else { return .json("{}", status: 400) }
    let parts = request.path.split(separator: "/", maxSplits: 2).map(String.init)
    state.withLock {
      $0.runs[parts[1], default: Run()].files[parts[2].removingPercentEncoding ?? parts[2]] =
        request.body
    }
    return .json("{}")
  }

  private func respond(_ data: JSON) -> LocalServer.Response {
    .json(JSON.object(["data": data]).text())
  }
}
