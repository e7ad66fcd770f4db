import Foundation
import HTTPTestSupport
import Media
import Support
import Synchronization

@testable import Tracking

/// The Hub's endpoints for uploads, in memory. `HubUploaderTests` also connects the real client to
/// it.
final class HubStandIn: Sendable {
  struct Commit: Sendable {
    let summary: String
    let paths: [String]
  }

  struct Repository: Sendable {
    var isPrivate = false
    /// The files by their paths in the repository.
    var files: [String: Data] = [:]
    var commits: [Commit] = []
  }

  struct Behavior: Sendable {
    /// Larger files are uploaded in parts of this size.
    var partSize: Int?
    /// `whoami-v2`'s `auth.accessToken`.
    var accessToken: JSON = ["role": "write", "displayName": "t"]
    /// The statuses of the next responses, regardless of the requests.
    var statuses: [Int] = []
    var ignored: Set<String> = []
    var refusesObjects = false
    var refusesCommit = false
    var namesNoETag = false
    /// The namespace, besides its own, in which the token may create repositories.
    var organization = "films"
  }

  static let token = "hf_AbCdEfGh"
  static let owner = "somebody"

  private struct State {
    var repositories: [String: Repository] = [:]
    var behavior: Behavior
    /// Uploaded objects by SHA-256.
    var objects: [String: Data] = [:]
    var parts: [String: [Int: Data]] = [:]
    var verified: Set<String> = []
    var requests: [String] = []
    var leakedToken = false
  }

  private let state: Mutex<State>
  private let box: Mutex<(hub: LocalServer?, storage: LocalServer?)> = Mutex((nil, nil))

  init(_ behavior: Behavior = Behavior()) throws {
    state = Mutex(State(behavior: behavior))
    let hub = try LocalServer { [weak self] request in self?.answer(request) }
    let storage = try LocalServer { [weak self] request in self?.store(request) }
    box.withLock { $0 = (hub, storage) }
  }

  var address: String { box.withLock { $0.hub?.address ?? "" } }
  private var storage: String { box.withLock { $0.storage?.address ?? "" } }
  func stop() { box.withLock { $0.hub?.stop() } }
  func repository(_ name: String) -> Repository? { state.withLock { $0.repositories[name] } }
  func add(_ name: String) { state.withLock { $0.repositories[name] = Repository() } }
  /// The requests in order, as `METHOD path`.
  var requests: [String] { state.withLock { $0.requests } }
  /// Whether the token was sent to the storage, which belongs to others.
  var hasLeakedToken: Bool { state.withLock { $0.leakedToken } }

  private func answer(_ request: LocalServer.Request) -> LocalServer.Response? {
    let status = state.withLock { state in
      state.requests.append("\(request.method) \(request.path)")
      return state.behavior.statuses.isEmpty ? 200 : state.behavior.statuses.removeFirst()
    }
    guard status == 200 else { return .json("{}", status: status) }
    let parts = request.path.split(separator: "/").map(String.init)
    // The Hub also signs the address that completes a multipart upload.
    if request.method == "POST", parts.first == "complete", parts.count == 2 {
      return complete(parts[1], request)
    }
    guard request.headers["authorization"] == "Bearer \(Self.token)" else {
      return .json(#"{"error": "Invalid username or password."}"#, status: 401)
    }
    let behavior = state.withLock { $0.behavior }
    switch (request.method, parts.first, parts.dropFirst().first) {
    case ("POST", "api", "validate-yaml"):
      guard let card = try? JSON(parsing: request.body), let text = card["content"]?.string,
        card["repoType"] == "model"
      else {
        return .json("{}", status: 400)
      }
      guard !text.contains("refuse me") else {
        return .json(
          #"{"errors": [{"message": "\"base_model\" is not a model"}], "warnings": []}"#,
          status: 400)
      }
      return respond(["errors": [], "warnings": []])
    case ("GET", "api", "whoami-v2"):
      return respond([
        "type": "user", "name": .string(Self.owner),
        "orgs": [["name": .string(behavior.organization)]],
        "auth": ["type": "access_token", "accessToken": behavior.accessToken],
      ])
    case ("POST", "api", "repos"): return make(request, behavior)
    case (_, "api", "models") where parts.count >= 4: return model(request, parts, behavior)
    case ("POST", _, _) where parts.suffix(3) == ["lfs", "objects", "batch"]:
      return batch(request, behavior)
    case ("POST", "verify", let object?):
      let isThere = state.withLock { state in
        state.verified.insert(object)
        return state.objects[object].map { $0.count }
          == (try? JSON(parsing: request.body))?["size"]?.int
      }
      return .json("{}", status: isThere ? 200 : 404)
    default: return .json("{}", status: 404)
    }
  }

  private func make(_ request: LocalServer.Request, _ behavior: Behavior) -> LocalServer.Response? {
    guard let body = try? JSON(parsing: request.body), let name = body["name"]?.string else {
      return .json("{}", status: 400)
    }
    let owner = body["organization"]?.string ?? Self.owner
    let full = "\(owner)/\(name)"
    guard owner == Self.owner || owner == behavior.organization else {
      return .json(
        #"{"error": "You don't have the rights to create a model under the namespace"}"#,
        status: 403)
    }
    let isNew = state.withLock { state in
      guard state.repositories[full] == nil else { return false }
      state.repositories[full] = Repository(isPrivate: body["visibility"] == "private")
      return true
    }
    guard isNew else {
      return .json(
        #"{"error": "You already created this model repo", "url": "\#(address)/\#(full)"}"#,
        status: 409)
    }
    return respond(["url": .string("\(address)/\(full)"), "name": .string(full)])
  }

  private func model(_ request: LocalServer.Request, _ parts: [String], _ behavior: Behavior)
    -> LocalServer
    .Response?
  {
    let name = "\(parts[2])/\(parts[3])"
    guard repository(name) != nil else {
      return .json(#"{"error": "Repository not found"}"#, status: 404)
    }
    switch parts.dropFirst(4).first {
    case "preupload":
      let files = ((try? JSON(parsing: request.body))?["files"]?.array ?? []).map { file -> JSON in
        let path = file["path"]?.string ?? ""
        let isLarge =
          [".safetensors", ".mp4"].contains { path.hasSuffix($0) }
          || file["size"]?.int ?? 0 > 10_000_000
        return [
          "path": .string(path), "uploadMode": isLarge ? "lfs" : "regular",
          "shouldIgnore": .bool(behavior.ignored.contains(path)), "oid": nil,
        ]
      }
      return respond(["files": .array(files)])
    case "commit":
      guard !behavior.refusesCommit else {
        return LocalServer.Response(
          status: 400, headers: ["X-Error-Message": "Invalid metadata in README.md."],
          body: Data("{}".utf8))
      }
      return commit(request, name)
    case nil: return respond(["id": .string(name), "modelId": .string(name), "siblings": []])
    default: return .json("{}", status: 404)
    }
  }

  private func commit(_ request: LocalServer.Request, _ name: String) -> LocalServer.Response? {
    let lines = request.body.split(separator: 0x0A).compactMap { try? JSON(parsing: Data($0)) }
    guard request.headers["content-type"] == "application/x-ndjson",
      lines.first?["key"] == "header",
      let summary = lines.first?["value"]?["summary"]?.string
    else { return .json("{}", status: 400) }
    let isDone = state.withLock { state in
      var files: [String: Data] = [:]
      for line in lines.dropFirst() {
        guard let value = line["value"], let path = value["path"]?.string else { return false }
        switch line["key"]?.string {
        case "file":
          guard value["encoding"] == "base64",
            let data = Data(base64Encoded: value["content"]?.string ?? "?")
          else {
            return false
          }
          files[path] = data
        case "lfsFile":
          guard value["algo"] == "sha256", let data = state.objects[value["oid"]?.string ?? ""],
            value["size"]?.int == data.count
          else { return false }
          files[path] = data
        default: return false
        }
      }
      state.repositories[name]?.files.merge(files) { $1 }
      state.repositories[name]?.commits.append(Commit(summary: summary, paths: files.keys.sorted()))
      return true
    }
    guard isDone else { return .json(#"{"error": "bad commit"}"#, status: 400) }
    return respond([
      "success": true, "commitOid": "0123abcd",
      "commitUrl": .string("\(address)/\(name)/commit/0123abcd"),
    ])
  }

  // MARK: Large files

  private func batch(_ request: LocalServer.Request, _ behavior: Behavior) -> LocalServer.Response?
  {
    guard let body = try? JSON(parsing: request.body), body["hash_algo"] == "sha256",
      request.headers["content-type"] == "application/vnd.git-lfs+json"
    else { return .json("{}", status: 400) }
    let objects = (body["objects"]?.array ?? []).map { object -> JSON in
      let (sha256, size) = (object["oid"]?.string ?? "", Int(object["size"]?.int ?? 0))
      var answer: [String: JSON] = ["oid": .string(sha256), "size": JSON(size)]
      if behavior.refusesObjects {
        answer["error"] = ["code": 413, "message": "your storage is full"]
      } else if state.withLock({ $0.objects[sha256] == nil }) {
        var upload: [String: JSON] = ["href": .string("\(storage)/put/\(sha256)")]
        if let partSize = behavior.partSize, size > partSize {
          var header: [String: JSON] = ["chunk_size": .string(String(partSize))]
          for number in 1...(size + partSize - 1) / partSize {
            header[String(number)] = .string("\(storage)/part/\(sha256)/\(number)")
          }
          upload = ["href": .string("\(address)/complete/\(sha256)"), "header": .object(header)]
        }
        answer["actions"] = [
          "upload": .object(upload), "verify": ["href": .string("\(address)/verify/\(sha256)")],
        ]
      }
      return .object(answer)
    }
    return respond([
      "transfer": behavior.partSize == nil ? "basic" : "multipart", "objects": .array(objects),
    ])
  }

  private func complete(_ object: String, _ request: LocalServer.Request) -> LocalServer.Response? {
    let listed = ((try? JSON(parsing: request.body))?["parts"]?.array ?? []).compactMap { part in
      part["partNumber"]?.int.map { (number: Int($0), tag: part["etag"]?.string) }
    }
    let isWhole = state.withLock { state in
      let parts = state.parts[object] ?? [:]
      let data = parts.sorted { $0.key < $1.key }.reduce(Data()) { $0 + $1.value }
      guard listed.map(\.number) == parts.keys.sorted(),
        listed.allSatisfy({ $0.tag == "\"tag\($0.number)\"" }),
        SHA256.hex(of: data) == object
      else { return false }
      state.objects[object] = data
      return true
    }
    return .json("{}", status: isWhole ? 200 : 400)
  }

  private func store(_ request: LocalServer.Request) -> LocalServer.Response? {
    let parts = request.path.split(separator: "/").map(String.init)
    if request.headers["authorization"] != nil { state.withLock { $0.leakedToken = true } }
    guard request.method == "PUT", request.headers["content-length"] != nil else {
      return .json("{}", status: 411)
    }
    if parts.count == 3, parts[0] == "part", let number = Int(parts[2]) {
      state.withLock { $0.parts[parts[1], default: [:]][number] = request.body }
      let hasTag = state.withLock { !$0.behavior.namesNoETag }
      return LocalServer.Response(headers: hasTag ? ["ETag": "\"tag\(number)\""] : [:])
    }
    guard parts.count == 2, parts[0] == "put",
      SHA256.hex(of: request.body) == parts[1]
    else {
      return .json("{}", status: 400)
    }
    state.withLock { $0.objects[parts[1]] = request.body }
    return LocalServer.Response()
  }

  private func respond(_ body: JSON) -> LocalServer.Response {
    .json(body.text())
  }
}
