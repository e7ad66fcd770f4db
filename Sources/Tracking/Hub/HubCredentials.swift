import Foundation
import Support

/// The address of the Hugging Face Hub and the token for it, found in the same way as by its own
/// client.
public struct HubCredentials: Sendable, Equatable {
  /// Without a slash at the end.
  public let endpoint: String
  let token: String

  /// From `HF_ENDPOINT` and `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, or the file that `hf auth login`
  /// writes.
  ///
  /// - Throws: `Issue` if there is no token.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    func value(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
    var endpoint = value("HF_ENDPOINT") ?? "https://huggingface.co"
    while endpoint.hasSuffix("/") { endpoint.removeLast() }
    guard endpoint.hasPrefix("https://") || endpoint.hasPrefix("http://"),
      URLComponents(string: endpoint)?.host != nil
    else {
      throw Issue(
        "HF_ENDPOINT is '\(endpoint)'",
        suggestion: "Give an address such as https://huggingface.co.")
    }
    self.endpoint = endpoint
    let path = Self.tokenPath(value)
    let found =
      try value("HF_TOKEN") ?? value("HUGGING_FACE_HUB_TOKEN") ?? path.flatMap(Self.token(inFile:))
    guard let token = found?.trimmingCharacters(in: .whitespacesAndNewlines), !token.isEmpty else {
      throw Issue(
        "the token of the Hugging Face Hub is missing",
        suggestion:
          "Make one that may write at \(endpoint)/settings/tokens and put it into HF_TOKEN\(path.map { " or \($0)" } ?? ""); "
          + "or turn the upload off.")
    }
    guard token.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
      throw Issue(
        "the token of the Hugging Face Hub holds characters that no token has",
        suggestion: "Copy it once more.")
    }
    self.token = token
  }

  private static func tokenPath(_ value: (String) -> String?) -> String? {
    func expanded(_ path: String) -> String { (path as NSString).expandingTildeInPath }
    if let path = value("HF_TOKEN_PATH") { return expanded(path) }
    if let home = value("HF_HOME") { return expanded(home) + "/token" }
    if let cache = value("XDG_CACHE_HOME") { return expanded(cache) + "/huggingface/token" }
    return value("HOME").map { $0 + "/.cache/huggingface/token" }
  }

  private static func token(inFile path: String) throws -> String? {
    guard FileManager.default.fileExists(atPath: path) else { return nil }
    // The usual reason is missing permissions.
    guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
      throw Issue([.file(path)], "can't be read", suggestion: "Check its rights, or set HF_TOKEN.")
    }
    return text
  }
}
