import Support
import Synchronization

/// The dataset under review: hands out its captions, and saves changes one request after another.
///
/// All functions may wait for the disk and for other writers, so they belong on threads that may.
final class ReviewSession: Sendable {
  /// A request to save.
  struct SaveRequest: Decodable, Sendable {
    /// The version that the edits were made on.
    let version: String
    let edits: [ReviewEdit]
  }

  enum Outcome: Sendable {
    /// The new version, and the rows that were edited as they are now in the file.
    case saved(ReviewContent, rows: [Int])
    /// The files have another version, and nothing was written.
    case changed(ReviewContent)
    /// An edit doesn't fit the dataset. Nothing was written.
    case invalid(Issue)
  }

  let store: any CaptionStore
  /// The number of rows when the dataset was opened.
  let rowCount: Int
  /// The content that was read last. It is locked while files are read and written.
  private let content: Mutex<ReviewContent>

  /// - Throws: `Issue` for a dataset that can't be used.
  init(_ store: any CaptionStore) throws {
    self.store = store
    let content = try store.read()
    rowCount = content.rows.count
    self.content = Mutex(content)
  }

  /// Reads the captions again.
  ///
  /// - Throws: `Issue` for a dataset that can't be used any more.
  func refreshed() throws -> ReviewContent {
    try content.withLock { content in
      content = try store.read()
      return content
    }
  }

  /// Returns the absolute path of a media file; nil for a file that the dataset does not name.
  func path(ofMedia name: String) -> String? { content.withLock { $0.paths[name] } }

  /// Writes the edits if the files still have the version that they were made on.
  ///
  /// - Throws: `Issue` if another program is writing or the files can't be read, `WritingError`.
  func save(_ request: SaveRequest) throws -> Outcome {
    try content.withLock { content in
      let lock = try store.lock()
      defer { lock.release() }
      content = try store.read()
      guard content.version == request.version else { return .changed(content) }
      do {
        for edit in request.edits { try check(edit, rows: content.rows) }
      } catch let issue as Issue {
        return .invalid(issue)
      }
      try store.write(request.edits, over: content)
      content = try store.read()
      return .saved(content, rows: request.edits.map(\.row))
    }
  }

  private func check(_ edit: ReviewEdit, rows: [ReviewContent.Row]) throws(Issue) {
    guard rows.indices.contains(edit.row), rows[edit.row].media == edit.media else {
      throw Issue(
        [.name("edits"), .name("row")],
        "is not the row of its media file (got \(edit.row) for \"\(edit.media)\")")
    }
    guard edit.mark == nil || store.keepsMarks else {
      throw Issue([.name("edits"), .name("mark")], "can't be stored in text files")
    }
    _ = try edit.newMark()
  }
}
