import Foundation
import HTTP
import Support

/// Uploads a run's files to a repository of the Hugging Face Hub, all in one commit. Calls block.
///
/// The requests are those of PyPI's `huggingface_hub` without Xet (version 2.4).
public final class HubUploader: Sendable {
  /// The source of a file of the repository.
  public struct Item: Sendable {
    public enum Content: Sendable {
      /// The path of a local file of any size, which is read in pieces.
      case file(String)
      case bytes(Data)
    }

    /// In the repository: `samples/sample_1.mp4`.
    public let path: String
    public let content: Content

    public init(path: String, content: Content) {
      self.path = path
      self.content = content
    }
  }

  public struct Commit: Sendable, Equatable {
    /// The web page of the commit.
    public let page: String
    /// The web page of the repository.
    public let repository: String
    /// The paths that the repository's `.gitignore` excludes.
    public let ignored: [String]
  }

  private let api: HubAPI
  private let repository: HubRepository
  private let isPrivate: Bool?
  private let progress: @Sendable (String) -> Void

  /// - Parameters:
  ///   - repository: `owner/name`, or `name`.
  ///   - isPrivate: whether a new repository is private; nil for the owner's default.
  ///   - progress: called with messages about what is being sent.
  /// - Throws: `Issue` for an invalid name, or without a token.
  public convenience init(
    repository: String, isPrivate: Bool? = nil,
    environment: [String: String] = ProcessInfo.processInfo.environment,
    progress: @escaping @Sendable (String) -> Void = { _ in }
  ) throws {
    try self.init(
      repository: repository, isPrivate: isPrivate, environment: environment, retries: .patient,
      progress: progress)
  }

  init(
    repository: String, isPrivate: Bool?, environment: [String: String], retries: RetryPolicy,
    progress: @escaping @Sendable (String) -> Void
  ) throws {
    self.repository = try HubRepository(repository)
    self.isPrivate = isPrivate
    self.progress = progress
    api = try HubAPI(
      HubCredentials(environment: environment), environment: environment, retries: retries)
  }

  /// Checks before training whether `upload` will be allowed. If the repository belongs to the
  /// token's owner, nothing is changed. In another namespace, only creating the repository can
  /// tell, so it is created.
  ///
  /// - Throws: `Issue` for a token that is unknown or may only read, or for a namespace that the
  ///   token can't write to.
  public func checkAccess() throws {
    let owner = try api.owner()
    guard repository.owner ?? owner.name != owner.name else { return }
    _ = try api.makeRepository(repository, owner: owner, isPrivate: isPrivate)
  }

  /// Creates the repository if it does not exist, and commits the files.
  ///
  /// - Throws: `Issue`; then nothing has been committed.
  public func upload(_ items: [Item], message: String) throws -> Commit {
    let files = try items.map(HubFile.init)
    let paths = Set(files.map(\.path))
    guard paths.count == files.count else {
      throw Issue("two files of the upload have the same path")
    }
    let repository = try api.makeRepository(
      self.repository, owner: api.owner(), isPrivate: isPrivate)
    if let card = files.first(where: { $0.path == "README.md" }) { try api.validate(card: card) }
    let modes = try api.modes(of: files, in: repository)
    let sent = files.filter { modes[$0.path]?.isIgnored != true }
    let large = try sent.filter { modes[$0.path]?.isLarge == true && $0.size > 0 }.map { file in
      (file: file, sha256: try file.sha256())
    }
    // Equal files share one object.
    let objects = Dictionary(large.map { ($0.sha256, $0) }, uniquingKeysWith: { first, _ in first })
    try LFSUpload(api: api, repository: repository, progress: progress).send(
      objects.values.sorted { $0.file.path < $1.file.path })
    let page = try api.commit(
      message, in: repository,
      small: sent.filter { file in !large.contains { $0.file.path == file.path } },
      large: large)
    return Commit(
      page: page, repository: "\(api.endpoint)/\(repository)",
      ignored: files.map(\.path).filter { modes[$0]?.isIgnored == true })
  }
}
