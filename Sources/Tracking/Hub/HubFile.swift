import Foundation
import HTTP
import Media
import Support

/// A file to upload to the Hub.
struct HubFile: Sendable {
  let path: String
  let content: HubUploader.Item.Content
  let size: Int

  /// - Throws: `Issue` for a file that can't be read, or a path that leads out of the repository.
  init(_ item: HubUploader.Item) throws {
    let parts = item.path.split(separator: "/", omittingEmptySubsequences: false)
    guard !parts.contains(where: { ["", ".", "..", ".git"].contains($0) }),
      !item.path.contains("\n")
    else {
      throw Issue("'\(item.path)' is not a path in a repository")
    }
    path = item.path
    content = item.content
    switch item.content {
    case .bytes(let data): size = data.count
    case .file(let source):
      var information = stat()
      guard stat(source, &information) == 0, information.st_mode & S_IFMT == S_IFREG,
        access(source, R_OK) == 0
      else {
        throw Issue(
          [.file(source)], "can't be read, so it can't be uploaded",
          suggestion: "Check the path and the rights.")
      }
      size = information.st_size
    }
  }

  /// Returns the first bytes, by which the Hub recognizes the kind of file.
  func sample() throws -> Data {
    switch content {
    case .bytes(let data): return data.prefix(512)
    case .file(let source): return try reading(source) { try $0.read(upToCount: 512) ?? Data() }
    }
  }

  func bytes() throws -> Data {
    switch content {
    case .bytes(let data): return data
    case .file(let source): return try reading(source) { try $0.readToEnd() ?? Data() }
    }
  }

  func sha256() throws -> String {
    switch content {
    case .bytes(let data): SHA256.hex(of: data)
    case .file(let source): try SHA256.hex(ofFile: source)
    }
  }

  func body(_ range: Range<Int>) -> HTTPRequest.Body {
    switch content {
    case .bytes(let data):
      .bytes(
        data.subdata(in: data.startIndex + range.lowerBound..<data.startIndex + range.upperBound))
    case .file(let source): .file(path: source, range: range)
    }
  }

  private func reading(_ source: String, _ body: (FileHandle) throws -> Data) throws -> Data {
    do {
      let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: source))
      defer { try? file.close() }  // nothing was written
      return try body(file)
    } catch { throw Issue([.file(source)], "can't be read (\(reason(of: error)))") }
  }
}
