import Foundation
import Support

/// The server of Weights & Biases and the account, from the environment and `~/.netrc`, read as its
/// own client does.
public struct WandBSettings: Sendable, Equatable {
  public enum Mode: String, Sendable, CaseIterable {
    case online
    /// Only writes a folder, for `wandb sync`.
    case offline
    case disabled
  }

  public let mode: Mode
  /// `https://api.wandb.ai`, without a slash at the end.
  public let baseURL: String
  /// The API key; nil offline.
  let key: String?
  /// `WANDB_ENTITY`.
  let entity: String?
  /// `WANDB_DIR`: the parent of the folder `wandb`, instead of the run's own folder.
  let folder: String?

  /// - Throws: `Issue` for an unknown `WANDB_MODE`, and for online mode without a key.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    func value(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
    mode = try Self.mode(value("WANDB_MODE"), isDisabled: value("WANDB_DISABLED"))
    var base = value("WANDB_BASE_URL") ?? "https://api.wandb.ai"
    while base.hasSuffix("/") { base.removeLast() }
    guard let host = URLComponents(string: base)?.host,
      base.hasPrefix("https://") || base.hasPrefix("http://")
    else {
      throw Issue(
        "WANDB_BASE_URL is '\(base)'", suggestion: "Give an address such as https://api.wandb.ai.")
    }
    baseURL = base
    entity = value("WANDB_ENTITY")
    folder = value("WANDB_DIR")
    guard mode == .online else {
      key = nil
      return
    }
    let netrc = Netrc.path(environment)
    key =
      try value("WANDB_API_KEY") ?? netrc.flatMap { try Netrc(contentsOf: $0)?.password(of: host) }
    guard let key else {
      throw Issue(
        "Weights & Biases has no key for \(host)",
        suggestion:
          "Put the one from \(Self.page(of: base))/authorize into WANDB_API_KEY or ~/.netrc; "
          + "or set WANDB_MODE=offline and send the run later by 'wandb sync'; or turn Weights & Biases off."
      )
    }
    guard key.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
      throw Issue(
        "the key for \(host) holds characters that no key has", suggestion: "Copy it once more.")
    }
  }

  private static func mode(_ text: String?, isDisabled: String?) throws -> Mode {
    if let isDisabled, ["1", "true", "yes", "on"].contains(isDisabled.lowercased()) {
      return .disabled
    }
    switch text?.lowercased() {
    case nil, "online", "run", "shared": return .online
    case "offline", "dryrun": return .offline
    case "disabled": return .disabled
    case .some(let other):
      throw Issue(["WANDB_MODE"], "must be online, offline or disabled (got \(other))")
    }
  }

  /// Returns the server's web site.
  static func page(of baseURL: String) -> String {
    baseURL == "https://api.wandb.ai" ? "https://wandb.ai" : baseURL
  }
}
