import Foundation
import Support

/// Puts a run's files into a repository of the Hugging Face Hub, all in one commit. Calls block.
///
/// Source of the requests: what `huggingface_hub` of PyPI sends where Xet is not installed (version
/// 2.4).
public final class HubUploader: Sendable {
  /// Something that becomes a file of the repository.
  public struct Item: Sendable {
    public enum Content: Sendable {
      /// The path of a local file, of any size: it is read in pieces.
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
    /// Paths that the repository's `.gitignore` leaves out.
    public let ignored: [String]
  }

  private let api: HubAPI
  private let repository: HubRepository
  private let isPrivate: Bool?
  private let progress: @Sendable (String) -> Void

  /// - Parameters:
  ///   - repository: `owner/name`, or `name`.
  ///   - isPrivate: of a repository that is new; nil for the owner's default.
  ///   - progress: called with messages about what is being sent.
  /// - Throws: `Issue` for a name that can't be one, and without a token.
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

  /// Finds out whether `upload` will be allowed to, for before training. Where the repository
  /// belongs to the token's owner, nothing is changed; in a name space of others, only making the
  /// repository tells, so it is made.
  ///
  /// - Throws: `Issue` for a token that is unknown or may only read, and for a name space
  ///   of others.
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
    // Equal files are one object.
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
