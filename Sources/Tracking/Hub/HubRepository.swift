/// The name of a model on the Hub: `user/name`, or `name` for one of the token's owner.
public struct HubRepository: Sendable, Equatable, CustomStringConvertible {
  public let owner: String?
  public let name: String

  /// - Throws: `TrackingError` for what the Hub takes for no name.
  public init(_ text: String) throws {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard (1...2).contains(parts.count), parts.allSatisfy(Self.isName), !text.contains("--"),
      !text.contains(".."),
      !text.hasSuffix(".git")
    else {
      throw TrackingError(
        "'\(text)' is no name of a repository on the Hub",
        remedy:
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
