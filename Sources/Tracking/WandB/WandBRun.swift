import Foundation
import Support

/// A run of Weights & Biases, as recorded in the folder and on the server.
struct WandBRun: Sendable {
  let id: String
  let project: String
  let entity: String?
  let name: String?
  let tags: [String]
  /// The values as JSON, by key.
  let configuration: [(key: String, json: JSONText)]
  let start: Date
  /// Whether the run resumes an earlier start.
  let isResumed: Bool

  typealias JSONText = String

  /// - Throws: `Issue` for a project, run name or configuration that the server would not accept.
  init(
    _ options: WandBTracker.Options, settings: WandBSettings, id: String = newID(),
    start: Date = Date()
  ) throws {
    for (what, text) in [("project", options.project), ("run id", options.resumeID ?? "0")] {
      guard !text.isEmpty, text.count <= 128, !text.contains(where: { "/\\#?%:".contains($0) })
      else {
        throw Issue(
          "the Weights & Biases \(what) '\(text)' is not a name",
          suggestion: "Give 1 to 128 characters, none of them / \\ # ? % :")
      }
    }
    for tag in options.tags where tag.isEmpty || tag.count > 64 {
      throw Issue(
        "the Weights & Biases tag '\(tag)' has \(tag.count) characters", suggestion: "Give 1 to 64."
      )
    }
    // Text that is not JSON gets the same message.
    guard case .object(let members)? = try? JSON(parsing: options.configuration) else {
      throw Issue("the configuration for Weights & Biases is no JSON object")
    }
    self.id = options.resumeID ?? id
    isResumed = options.resumeID != nil
    project = options.project
    entity = options.entity ?? settings.entity
    name = options.name
    tags = options.tags
    configuration = members.sorted { $0.key < $1.key }.map { ($0.key, $0.value.text()) }
    self.start = start
  }

  private static func newID() -> String {
    let letters = Array("abcdefghijklmnopqrstuvwxyz0123456789")
    return String((0..<8).map { _ in letters[Int.random(in: 0..<letters.count)] })
  }

  /// `{"key": {"value": …}}`, the server's form of a configuration.
  var configurationJSON: String {
    "{"
      + configuration.map { "\(JSON.quoted($0.key, escapes: .invisible)):{\"value\":\($0.json)}" }
      .joined(separator: ",")
      + "}"
  }

  /// The same as `config.yaml`; JSON is YAML.
  var configurationYAML: String {
    "wandb_version: 1\n\n"
      + configuration.map { "\(JSON.quoted($0.key, escapes: .invisible)):\n  value: \($0.json)\n" }
      .joined()
  }
}
