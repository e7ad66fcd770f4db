import Foundation
import Support

/// A file of passwords by host, in the format of ftp(1): words `machine`, `login`, `password`,
/// `default`.
struct Netrc {
  private var passwords: [String: String] = [:]
  private var fallback: String?

  /// The path of the file: `$NETRC`, otherwise `~/.netrc`.
  static func path(_ environment: [String: String]) -> String? {
    if let path = environment["NETRC"], !path.isEmpty { return path }
    return environment["HOME"].map { $0 + "/.netrc" }
  }

  /// Nil if the file does not exist.
  ///
  /// - Throws: `Issue` for a file that can't be read.
  init?(contentsOf path: String) throws {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    // The usual reason is missing permissions.
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw Issue([.file(path)], "can't be read", suggestion: "Check its rights.")
    }
    self.init(text)
  }

  init(_ text: String) {
    var host: String?
    var isInMacro = false
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      // A macro ends at the next empty line.
      if isInMacro {
        isInMacro = !line.allSatisfy(\.isWhitespace)
        continue
      }
      var words = line.split(whereSeparator: \.isWhitespace)[...]
      while let word = words.popFirst(), !word.hasPrefix("#") {
        switch word {
        case "machine": host = words.popFirst().map(String.init)
        case "default": host = nil
        case "login", "account": words = words.dropFirst()
        case "password":
          guard let password = words.popFirst().map(String.init) else { break }
          if let host {
            passwords[host] = passwords[host] ?? password
          } else {
            fallback = fallback ?? password
          }
        case "macdef":
          isInMacro = true
          words = []
        default: break
        }
      }
    }
  }

  func password(of host: String) -> String? { passwords[host] ?? fallback }
}
