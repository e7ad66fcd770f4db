import Foundation
import HTTP
import Support

/// Uploads to Gemini's store of files, which keeps them for two days unless they are deleted.
struct GeminiFiles {
  let base: String
  let headers: [(name: String, value: String)]
  let server: ModelServer
  let failure: (HTTPResponse) -> CaptionFailure

  /// Uploads a file, waits until Gemini has processed it, and deletes it after the body, even if
  /// that fails.
  ///
  /// - Parameters:
  ///   - bytes: The size of the file.
  ///   - limit: The limit on the time that processing may take, in seconds.
  ///   - body: Called with the address of the file for requests.
  func withUpload(
    of path: String, bytes: Int, type: String, pollDelay: Double, limit: Double,
    body: (String) throws -> ModelAnswer
  ) throws -> ModelAnswer {
    let file = try upload(path, bytes, type)
    defer {
      // A file that can't be deleted now is deleted by Gemini after two days.
      _ = try? server.send(
        HTTPRequest(method: "DELETE", url: address(of: file.name), headers: headers))
    }
    return try body(try processed(file, pollDelay: pollDelay, limit: limit))
  }

  private struct File {
    let name: String
    let uri: String
    let state: String
  }

  private func address(of name: String) -> String { "\(base)/v1beta/\(name)" }

  private func upload(_ path: String, _ bytes: Int, _ type: String) throws -> File {
    // The name of the file is nobody's business.
    let start = try HTTPRequest.post(
      "\(base)/upload/v1beta/files", json: ["file": ["display_name": "clip"]],
      headers: headers + [
        ("X-Goog-Upload-Protocol", "resumable"), ("X-Goog-Upload-Command", "start"),
        ("X-Goog-Upload-Header-Content-Length", "\(bytes)"),
        ("X-Goog-Upload-Header-Content-Type", type),
      ])
    let response = try server.send(start)
    guard response.isSuccess else { throw failure(response) }
    guard let target = response.headers["x-goog-upload-url"] else {
      throw server.malformed(response, "gives no address for the upload")
    }
    // The address carries its own permission, and the key goes only to the service itself.
    let sent = try server.send(
      HTTPRequest(
        method: "POST", url: target,
        headers: [
          ("X-Goog-Upload-Offset", "0"), ("X-Goog-Upload-Command", "upload, finalize"),
          ("Content-Type", type),
        ], body: .file(path: path, range: 0..<bytes), timeLimit: nil))
    guard sent.isSuccess else { throw failure(sent) }
    return try file((try? JSON(parsing: sent.body))?["file"], sent)
  }

  private func file(_ json: JSON?, _ response: HTTPResponse) throws -> File {
    guard let name = json?["name"]?.string, name.hasPrefix("files/"),
      !name.contains(".."), let uri = json?["uri"]?.string
    else { throw server.malformed(response, "describes no file after the upload") }
    return File(name: name, uri: uri, state: json?["state"]?.string ?? "ACTIVE")
  }

  /// The address of a file once it can be used.
  private func processed(_ uploaded: File, pollDelay: Double, limit: Double) throws -> String {
    var file = uploaded
    let end = Date().addingTimeInterval(limit)
    while file.state == "PROCESSING" || file.state == "STATE_UNSPECIFIED" {
      guard Date() < end else {
        throw CaptionFailure(
          Issue(
            [.file(server.name)],
            "did not process the file within \(String(format: "%g", limit)) s",
            suggestion: "Raise the limit with `timeout`, or use a shorter clip."), scope: .clip)
      }
      let request = HTTPRequest(url: address(of: file.name), headers: headers)
      try server.pause(pollDelay, before: request)
      let response = try server.send(request)
      guard response.isSuccess else { throw failure(response) }
      file = try self.file(try? JSON(parsing: response.body), response)
    }
    guard file.state == "ACTIVE" else {
      throw CaptionFailure(
        Issue(
          [.file(server.name)], "can't process the file (\(file.state))",
          suggestion: "Convert it to MP4 with H.264 and AAC."), scope: .clip)
    }
    return file.uri
  }
}
