import Foundation
import HTTP
import Support

/// The requests that a run makes of the server: GraphQL, its stream of rows, uploads. Calls block.
///
/// The requests are those of PyPI's `wandb` package (versions 0.18 and 0.31).
struct WandBAPI: Sendable {
  let client: HTTPClient
  let baseURL: String
  private let authorization: String

  /// - Throws: `HTTPFailure` if libcurl is missing.
  init(_ settings: WandBSettings, environment: [String: String]) throws {
    client = try HTTPClient(environment: environment)
    baseURL = settings.baseURL
    authorization = "Basic " + Data("api:\(settings.key ?? "")".utf8).base64EncodedString()
  }

  private func post(_ path: String, _ body: JSON) throws -> HTTPRequest {
    try .post(baseURL + path, json: body, headers: [("Authorization", authorization)])
  }

  // MARK: GraphQL

  func graphQL(_ query: String, _ variables: [String: JSON], retries: RetryPolicy) throws -> JSON {
    let request = try post("/graphql", ["query": .string(query), "variables": .object(variables)])
    let response = try retries.send(request, with: client)
    try Self.check(response, at: request.url)
    let answer = try response.json(from: request.url)
    if let errors = answer["errors"]?.array, !errors.isEmpty {
      let messages = errors.map { $0["message"]?.string ?? "unknown error" }
      throw Issue([.file(request.url)], "says: " + messages.joined(separator: "; "))
    }
    return answer["data"] ?? .null
  }

  /// The server's state of a resumed run; nil if it has no run with that id.
  struct EarlierRun: Equatable {
    var rows = 0
    /// The step of the last row; nil without rows.
    var lastStep: Int?
    /// The run time at the last row, in seconds.
    var runtime = 0.0
  }

  func earlier(_ run: WandBRun, retries: RetryPolicy) throws -> EarlierRun? {
    let data = try graphQL(
      """
      query RunResumeStatus($project: String, $entity: String, $name: String!) {
        model(name: $project, entityName: $entity) {
          bucket(name: $name, missingOk: true) { name historyLineCount historyTail }
        }
      }
      """,
      ["project": .string(run.project), "entity": JSON(run.entity), "name": .string(run.id)],
      retries: retries
    )
    guard let bucket = data["model"]?["bucket"], bucket["name"]?.string != nil else { return nil }
    var earlier = EarlierRun(rows: bucket["historyLineCount"]?.int ?? 0)
    // The last rows, as the text of a JSON list whose elements are again JSON as text.
    if let tail = bucket["historyTail"]?.string, case .array(let lines) = try JSON(parsing: tail),
      let last = lines.last?.string
    {
      let row = try JSON(parsing: last)
      earlier.lastStep = row["_step"]?.int
      earlier.runtime = row["_runtime"]?.double ?? 0
    }
    return earlier
  }

  /// Creates the run, or opens an existing one.
  ///
  /// - Returns: the entity and the project of the run; the entity may be the key's default.
  func upsert(_ run: WandBRun, retries: RetryPolicy) throws -> (entity: String, project: String) {
    let data = try graphQL(
      """
      mutation UpsertBucket(
        $name: String, $project: String, $entity: String, $displayName: String, $config: JSONString, $host: String,
        $program: String, $tags: [String!]
      ) {
        upsertBucket(input: {
          name: $name, modelName: $project, entityName: $entity, displayName: $displayName, config: $config, host: $host,
          jobProgram: $program, tags: $tags
        }) {
          bucket { id name displayName project { name entity { name } } }
          inserted
        }
      }
      """,
      [
        "name": .string(run.id), "project": .string(run.project), "entity": JSON(run.entity),
        "displayName": JSON(run.name), "config": .string(run.configurationJSON),
        "host": .string(ProcessInfo.processInfo.hostName), "program": "ltx",
        "tags": .array(run.tags.map(JSON.string)),
      ], retries: retries)
    let project = data["upsertBucket"]?["bucket"]?["project"]
    guard let entity = project?["entity"]?["name"]?.string ?? run.entity else {
      throw Issue([.file(baseURL)], "does not say whose run it is", suggestion: "Set the entity.")
    }
    return (entity, project?["name"]?.string ?? run.project)
  }

  // MARK: Rows and files

  /// Returns the request for one message of the run's stream.
  func stream(_ message: JSON, entity: String, project: String, run: String) throws -> HTTPRequest {
    let path = [entity, project, run].map(Self.escaped).joined(separator: "/")
    return try post("/files/\(path)/file_stream", message)
  }

  /// Asks the server for the signed address of a file.
  func upload(
    of name: String, from path: String, entity: String, project: String, run: String,
    retries: RetryPolicy
  ) throws -> HTTPRequest {
    let data = try graphQL(
      """
      mutation CreateRunFiles($entity: String!, $project: String!, $run: String!, $files: [String!]!) {
        createRunFiles(input: {entityName: $entity, projectName: $project, runName: $run, files: $files}) {
          runID
          uploadHeaders
          files { name uploadUrl }
        }
      }
      """,
      [
        "entity": .string(entity), "project": .string(project), "run": .string(run),
        "files": [.string(name)],
      ], retries: retries)
    let answer = data["createRunFiles"]
    guard let file = answer?["files"]?.array?.first(where: { $0["name"]?.string == name }),
      var url = file["uploadUrl"]?.string
    else { throw Issue([.file(baseURL)], "gives no address to upload \(name) to") }
    if url.hasPrefix("/") { url = baseURL + url }
    let headers = (answer?["uploadHeaders"]?.array ?? []).compactMap { header in
      header.string.flatMap { text in
        text.firstIndex(of: ":").map {
          (String(text[..<$0]), text[text.index(after: $0)...].trimmingCharacters(in: .whitespaces))
        }
      }
    }
    let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? NSNumber
    return HTTPRequest(
      method: "PUT", url: url, headers: headers,
      body: .file(path: path, range: 0..<(size?.intValue ?? 0)),
      timeLimit: nil)
  }

  /// - Throws: `Issue` if the status is not one of success.
  static func check(_ response: HTTPResponse, at url: String) throws {
    switch response.status {
    case 200..<300: return
    case 401:
      throw Issue(
        [.file(url)], "refuses the key (status 401)", suggestion: "Check WANDB_API_KEY or ~/.netrc."
      )
    case 403:
      throw Issue(
        [.file(url)], "does not let this key write there (status 403)",
        suggestion: "Check the entity and the project.")
    default:
      throw Issue([.file(url)], "answers with status \(response.status): \(response.excerpt)")
    }
  }

  private static func escaped(_ part: String) -> String {
    part.addingPercentEncoding(
      withAllowedCharacters: .alphanumerics.union(CharacterSet(charactersIn: "-._~"))) ?? part
  }
}
