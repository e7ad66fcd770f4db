import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import Support

/// The resources of the page, below its token.
struct ReviewRoutes: Sendable {
  /// The max bytes of a request's body: all captions of a very large dataset.
  static let maximumBody = 32 << 20

  let session: ReviewSession

  /// Returns the reason why a request can't be answered, which shows before its body arrives.
  ///
  /// - Parameter path: The path below the token, with its query.
  func refusal(of head: HTTPRequestHead, path: Substring) -> ReviewResponse? {
    let isSaving = path == "save"
    guard isSaving ? head.method == .POST : [.GET, .HEAD].contains(head.method) else {
      var response = ReviewResponse.text(
        "This method is not supported here.", status: .methodNotAllowed)
      response.headers.add(name: "Allow", value: isSaving ? "POST" : "GET, HEAD")
      return response
    }
    let type = head.headers["Content-Type"].first?.prefix { $0 != ";" }.lowercased()
    guard !isSaving || type == "application/json" else {
      return .text("The body must be application/json.", status: .unsupportedMediaType)
    }
    let size = head.headers["Content-Length"].first.flatMap { Int($0) } ?? 0
    return size > Self.maximumBody ? Self.tooLarge : nil
  }

  static let tooLarge = ReviewResponse.text(
    "A request may have at most \(maximumBody >> 20) MiB. Save fewer changes at once.",
    status: .payloadTooLarge)

  /// Answers a request that was not refused.
  func response(to head: HTTPRequestHead, path: Substring, body: ByteBuffer) async
    -> ReviewResponse
  {
    let parts = path.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    do {
      switch parts[0] {
      case "": return .content(ReviewPage.html, type: "text/html; charset=utf-8")
      case "page.css": return .content(ReviewPage.style, type: "text/css; charset=utf-8")
      case "page.js":
        return .content(ReviewPage.script, type: "text/javascript; charset=utf-8")
      case "rows": return .json(try await rows())
      case "version":
        let version = try await waiting { try session.refreshed().version }
        return .json(["version": .string(version)])
      case "media":
        return try await media(query: parts.count > 1 ? parts[1] : "", headers: head.headers)
      case "save": return try await save(body)
      default: return .text("This page does not exist.", status: .notFound)
      }
    } catch {
      return .text(Issue(describing: error).description, status: .internalServerError)
    }
  }

  /// Runs work that may wait for the disk, on a thread for such work.
  private func waiting<R: Sendable>(_ work: @escaping @Sendable () throws -> R) async throws -> R {
    try await NIOThreadPool.singleton.runIfActive(work)
  }

  private func rows() async throws -> JSON {
    let listing = try await waiting { try session.refreshed().json }
    guard case .object(var object) = listing else { return .null }
    object["path"] = .string(session.store.path)
    object["keepsMarks"] = .bool(session.store.keepsMarks)
    return .object(object)
  }

  /// - Parameter query: `file=` and the percent-encoded path in the dataset.
  private func media(query: Substring, headers: HTTPHeaders) async throws -> ReviewResponse {
    let missing = ReviewResponse.text("The dataset has no such file.", status: .notFound)
    guard query.hasPrefix("file="),
      let name = String(query.dropFirst("file=".count)).removingPercentEncoding
    else { return missing }
    let file = try await waiting { session.path(ofMedia: name).flatMap(ServedFile.init(path:)) }
    return file.map { .file($0, for: headers) } ?? missing
  }

  private func save(_ body: ByteBuffer) async throws -> ReviewResponse {
    let request: ReviewSession.SaveRequest
    do {
      request = try JSON.decode(from: Data(body.readableBytesView))
    } catch {
      return .text("The request can't be read: \(reason(of: error)).", status: .badRequest)
    }
    switch try await waiting({ try session.save(request) }) {
    case .saved(let content, let rows):
      let saved = rows.map { row -> JSON in
        [
          "row": JSON(row), "caption": .string(content.rows[row].caption),
          "mark": .string(content.rows[row].mark?.rawValue ?? ""),
        ]
      }
      return .json(["version": .string(content.version), "rows": .array(saved)])
    case .changed(let content): return .json(content.json, status: .conflict)
    case .invalid(let issue): return .text("\(issue).", status: .badRequest)
    }
  }
}
