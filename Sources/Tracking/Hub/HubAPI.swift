import Foundation
import HTTP
import Support

/// Requests to the Hub itself.
struct HubAPI: Sendable {
  let endpoint: String
  let client: HTTPClient
  let retries: RetryPolicy
  private let authorization: (name: String, value: String)

  init(_ credentials: HubCredentials, environment: [String: String], retries: RetryPolicy) throws {
    endpoint = credentials.endpoint
    client = try HTTPClient(environment: environment)
    authorization = ("Authorization", "Bearer \(credentials.token)")
    self.retries = retries
  }

  /// The owner of the token.
  struct Owner {
    let name: String
    let organizations: Set<String>
  }

  /// - Throws: `Issue` for a token that is unknown or may only read.
  func owner() throws -> Owner {
    let url = endpoint + "/api/whoami-v2"
    let response = try send(HTTPRequest(url: url, headers: [authorization]))
    if response.status == 401 {
      throw Issue(
        [.file(endpoint)], "does not know the token",
        suggestion: "Make a new one at \(endpoint)/settings/tokens.")
    }
    try check(response, at: url)
    let answer = try response.json(from: url)
    guard let name = answer["name"]?.string else {
      throw Issue([.file(url)], "does not say whose the token is: \(response.excerpt)")
    }
    let token = answer["auth"]?["accessToken"]
    var mayWrite = token?["role"]?.string != "read"
    if token?["role"]?.string == "fineGrained", let scopes = token?["fineGrained"]?["scoped"]?.array
    {
      mayWrite = scopes.contains { $0["permissions"]?.array?.contains("repo.write") == true }
    }
    guard mayWrite else {
      throw Issue(
        [.file(endpoint)], "the token of \(name) may only read",
        suggestion: "Make one that may write at \(endpoint)/settings/tokens.")
    }
    return Owner(
      name: name,
      organizations: Set((answer["orgs"]?.array ?? []).compactMap { $0["name"]?.string }))
  }

  /// - Returns: the repository with its owner, whether it is new or existed before.
  func makeRepository(_ repository: HubRepository, owner: Owner, isPrivate: Bool?) throws
    -> HubRepository
  {
    let full = HubRepository(owner: repository.owner ?? owner.name, name: repository.name)
    var wanted: [String: JSON] = [
      "name": .string(full.name), "type": "model",
      "organization": full.owner == owner.name ? .null : JSON(full.owner),
    ]
    if let isPrivate { wanted["visibility"] = isPrivate ? "private" : "public" }
    let url = endpoint + "/api/repos/create"
    let response = try send(.post(url, json: .object(wanted), headers: [authorization]))
    if response.status == 409 { return full }
    if response.status == 403 {
      // A token may be allowed to write to an existing repository but not to create one.
      let page = try send(
        HTTPRequest(url: "\(endpoint)/api/models/\(full)", headers: [authorization]))
      if page.isSuccess { return full }
      throw Issue(
        [.file(endpoint)], "does not let \(owner.name) make the repository \(full) (status 403)",
        suggestion: owner.organizations.isEmpty
          ? "Check the name of the repository and the token's rights."
          : "Check the name of the repository and the token's rights; \(owner.name) is a member of "
            + owner.organizations.sorted().joined(separator: ", ") + ".")
    }
    try check(response, at: url)
    return full
  }

  struct Mode {
    let isLarge: Bool
    let isIgnored: Bool
  }

  /// Returns the upload mode of each file: in the commit, or before it.
  func modes(of files: [HubFile], in repository: HubRepository) throws -> [String: Mode] {
    var modes: [String: Mode] = [:]
    let url = "\(endpoint)/api/models/\(repository)/preupload/main"
    for start in stride(from: 0, to: files.count, by: 256) {
      let part = files[start..<min(start + 256, files.count)]
      let listed = try part.map { file -> JSON in
        [
          "path": .string(file.path), "size": JSON(file.size),
          "sample": .string(try file.sample().base64EncodedString()),
        ]
      }
      let response = try send(.post(url, json: ["files": .array(listed)], headers: [authorization]))
      try check(response, at: url)
      for answer in try response.json(from: url)["files"]?.array ?? [] {
        guard let path = answer["path"]?.string else { continue }
        modes[path] = Mode(
          isLarge: answer["uploadMode"]?.string == "lfs",
          isIgnored: answer["shouldIgnore"]?.bool == true)
      }
    }
    if let missing = files.first(where: { modes[$0.path] == nil }) {
      throw Issue([.file(url)], "does not say how to upload \(missing.path)")
    }
    return modes
  }

  /// - Returns: the page of the commit.
  func commit(
    _ message: String, in repository: HubRepository, small: [HubFile],
    large: [(file: HubFile, sha256: String)]
  ) throws -> String {
    var lines: [JSON] = [
      ["key": "header", "value": ["summary": .string(message), "description": ""]]
    ]
    for file in small {
      lines.append([
        "key": "file",
        "value": [
          "path": .string(file.path), "encoding": "base64",
          "content": .string(try file.bytes().base64EncodedString()),
        ],
      ])
    }
    for (file, sha256) in large {
      lines.append([
        "key": "lfsFile",
        "value": [
          "path": .string(file.path), "algo": "sha256", "oid": .string(sha256),
          "size": JSON(file.size),
        ],
      ])
    }
    var body = Data()
    for line in lines {
      body.append(line.data())
      body.append(0x0A)
    }
    let url = "\(endpoint)/api/models/\(repository)/commit/main"
    let response = try send(
      HTTPRequest(
        method: "POST", url: url,
        headers: [authorization, ("Content-Type", "application/x-ndjson")],
        body: .bytes(body), timeLimit: nil))
    try check(response, at: url)
    guard let page = try response.json(from: url)["commitUrl"]?.string else {
      throw Issue([.file(url)], "does not name the commit: \(response.excerpt)")
    }
    return page
  }

  /// Asks whether the Hub accepts the metadata at the top of a `README.md`. Otherwise it would
  /// refuse the commit after all uploads.
  func validate(card: HubFile) throws {
    let url = endpoint + "/api/validate-yaml"
    let text = String(decoding: try card.bytes(), as: UTF8.self)
    let response = try send(
      .post(url, json: ["content": .string(text), "repoType": "model"], headers: [authorization]))
    // Without such a list, the status tells what is wrong.
    let errors = (try? JSON(parsing: response.body))?["errors"]?.array ?? []
    guard errors.isEmpty else {
      throw Issue(
        "the Hub refuses \(card.path): "
          + errors.compactMap { $0["message"]?.string }.joined(separator: "; "))
    }
    try check(response, at: url)
  }

  // MARK: Also for LFS

  func send(_ request: HTTPRequest) throws -> HTTPResponse {
    do { return try retries.send(request, with: client) } catch let failure as HTTPFailure {
      throw Issue(
        [.file(failure.url)], "the Hub can't be reached (\(failure.problem))",
        suggestion: "Check the network.")
    }
  }

  /// The token is sent only to the Hub, because files are stored on other servers.
  func credentials(for url: String) -> [(name: String, value: String)] {
    url == endpoint || url.hasPrefix(endpoint + "/") ? [authorization] : []
  }

  /// - Throws: `Issue` if the status is not one of success.
  func check(_ response: HTTPResponse, at url: String) throws {
    guard !response.isSuccess else { return }
    // The Hub gives its reason in a header.
    let reason = response.headers["x-error-message"] ?? response.excerpt
    switch response.status {
    case 401:
      throw Issue(
        [.file(url)], "refuses the token: \(reason)",
        suggestion: "Make a new one at \(endpoint)/settings/tokens.")
    case 403:
      throw Issue(
        [.file(url)], "does not allow it: \(reason)", suggestion: "Check the token's rights.")
    default: throw Issue([.file(url)], "answers with status \(response.status): \(reason)")
    }
  }
}

/// The name of a model on the Hub: `user/name`, or `name` for one of the token's owner.
public struct HubRepository: Sendable, Equatable, CustomStringConvertible {
  public let owner: String?
  public let name: String

  /// - Throws: `Issue` for a name that the Hub does not accept.
  public init(_ text: String) throws {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard (1...2).contains(parts.count), parts.allSatisfy(Self.isName), !text.contains("--"),
      !text.contains(".."),
      !text.hasSuffix(".git")
    else {
      throw Issue(
        "'\(text)' is not a name of a repository on the Hub",
        suggestion:
          "Give owner/name, both of at most 96 letters of the alphabet, digits, '-', '_' and '.', "
          + "with neither '-' nor '.' at an end, no '--', no '..' and no '.git'.")
    }
    owner = parts.count == 2 ? parts[0] : nil
    name = parts[parts.count - 1]
  }

  init(owner: String, name: String) {
    self.owner = owner
    self.name = name
  }

  public var description: String { (owner.map { $0 + "/" } ?? "") + name }

  private static func isName(_ part: String) -> Bool {
    guard (1...96).contains(part.utf8.count), let first = part.first, let last = part.last else {
      return false
    }
    return part.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_.".contains($0)) }
      && !"-.".contains(first) && !"-.".contains(last)
  }
}
