import Foundation
import HTTP
import Support

/// Sends large files to the Hub's storage. They don't belong to a commit yet.
///
/// Sources: git-lfs, "Batch API" and "Basic transfers"; the Hub's multipart transfer in
/// `huggingface_hub.lfs`.
struct LFSUpload {
  let api: HubAPI
  let repository: HubRepository
  let progress: (String) -> Void

  private static let mediaType = "application/vnd.git-lfs+json"

  func send(_ files: [(file: HubFile, sha256: String)]) throws {
    for start in stride(from: 0, to: files.count, by: 256) {
      let part = Array(files[start..<min(start + 256, files.count)])
      for (object, answer) in try batch(part) {
        // The Hub already has these bytes.
        guard let upload = answer["actions"]?["upload"] else { continue }
        progress("\(object.file.path) (\(object.file.size / 1_000_000) MB)")
        try send(object.file, object.sha256, upload)
        if let verify = answer["actions"]?["verify"] {
          try self.verify(object.file, object.sha256, verify)
        }
      }
    }
  }

  /// Asks for the addresses to send the files to.
  private func batch(
    _ files: [(file: HubFile, sha256: String)]
  ) throws -> [(object: (file: HubFile, sha256: String), answer: JSON)] {
    let url = "\(api.endpoint)/\(repository).git/info/lfs/objects/batch"
    let wanted: JSON = [
      "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256",
      "ref": ["name": "main"],
      "objects": .array(
        files.map { ["oid": .string($0.sha256), "size": JSON($0.file.size)] }),
    ]
    let response = try post(url, wanted, headers: api.credentials(for: url))
    let answers = try response.json(from: url)["objects"]?.array ?? []
    return try files.map { object in
      guard let answer = answers.first(where: { $0["oid"]?.string == object.sha256 }) else {
        throw Issue([.file(url)], "does not say where to send \(object.file.path)")
      }
      if let error = answer["error"] {
        throw Issue(
          [.file(url)],
          "does not take \(object.file.path): \(error["message"]?.string ?? "unknown error") "
            + "(code \(error["code"]?.int ?? 0))")
      }
      return (object, answer)
    }
  }

  private func send(_ file: HubFile, _ sha256: String, _ upload: JSON) throws {
    let url = try address(upload)
    let header = upload["header"]?.object ?? [:]
    guard
      let chunk = header["chunk_size"].flatMap({
        $0.string.flatMap(Int.init) ?? $0.int
      })
    else {
      let headers = header.compactMap { name, value in value.string.map { (name, $0) } }
      try put(file, 0..<file.size, to: url, headers: headers)
      return
    }
    let parts = header.compactMap { name, value in
      Int(name).map { (number: $0, url: value.string ?? "") }
    }
    .sorted { $0.number < $1.number }
    guard chunk > 0, parts.count == (file.size + chunk - 1) / chunk else {
      throw Issue(
        [.file(url)],
        "wants \(file.path) in \(parts.count) parts of \(chunk) bytes, which are not its \(file.size) bytes"
      )
    }
    var done: [JSON] = []
    for (index, part) in parts.enumerated() {
      let range = index * chunk..<min((index + 1) * chunk, file.size)
      let response = try put(file, range, to: part.url, headers: [])
      guard let tag = response.headers["etag"], !tag.isEmpty else {
        throw Issue([.file(part.url)], "gives no ETag for part \(part.number) of \(file.path)")
      }
      done.append(["partNumber": JSON(part.number), "etag": .string(tag)])
    }
    // The address is signed, so no token is needed.
    _ = try post(url, ["oid": .string(sha256), "parts": .array(done)], headers: [])
  }

  private func verify(_ file: HubFile, _ sha256: String, _ action: JSON) throws {
    let url = try address(action)
    let own = (action["header"]?.object ?? [:]).compactMap { name, value in
      value.string.map { (name: name, value: $0) }
    }
    let isAuthorised = own.contains { $0.name.lowercased() == "authorization" }
    _ = try post(
      url, ["oid": .string(sha256), "size": JSON(file.size)],
      headers: own + (isAuthorised ? [] : api.credentials(for: url)))
  }

  private func address(_ action: JSON) throws -> String {
    guard let url = action["href"]?.string else {
      throw Issue([.file(api.endpoint)], "gives no address for an upload")
    }
    return url
  }

  @discardableResult
  private func put(
    _ file: HubFile, _ range: Range<Int>, to url: String, headers: [(name: String, value: String)]
  ) throws -> HTTPResponse {
    let response = try api.send(
      HTTPRequest(method: "PUT", url: url, headers: headers, body: file.body(range), timeLimit: nil)
    )
    try api.check(response, at: url)
    return response
  }

  private func post(_ url: String, _ body: JSON, headers: [(name: String, value: String)]) throws
    -> HTTPResponse
  {
    let response = try api.send(
      HTTPRequest(
        method: "POST", url: url,
        headers: headers + [("Accept", Self.mediaType), ("Content-Type", Self.mediaType)],
        body: .bytes(body.data())))
    try api.check(response, at: url)
    return response
  }
}
