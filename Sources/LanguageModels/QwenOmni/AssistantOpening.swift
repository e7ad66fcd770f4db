import Foundation
import Support

/// The text that a model's chat template puts at the end of a prompt, behind the line of the
/// assistant.
///
/// Templates of Qwen3 differ: those of models that can answer at once put an empty thought there if
/// `enable_thinking` is false; those of models that always think begin a thought.
enum AssistantOpening: Sendable, Equatable {
  case nothing
  /// An empty thought if thinking is turned off.
  case optionalThought
  /// The beginning of a thought.
  case thought

  /// Reads the chat template of a model folder. Without one, thinking can be turned off in
  /// Qwen3-Omni.
  ///
  /// - Throws: `Issue` for a file that can't be read.
  init(folder: String, family: QwenOmniFamily) throws {
    guard family == .qwen3 else {
      self = .nothing
      return
    }
    self = try Self.template(in: folder).map { AssistantOpening(template: $0) } ?? .optionalThought
  }

  /// - Parameter template: The text of a Jinja template. Only the part for the end of a prompt is
  ///   looked at, and only for the texts that it contains.
  init(template: String) {
    let end =
      template.range(of: "add_generation_prompt", options: .backwards)
      .map { template[$0.upperBound...] } ?? ""
    self =
      end.contains("</think>") ? .optionalThought : end.contains("<think>") ? .thought : .nothing
  }

  /// - Parameter thinking: False turns thinking off, where that is possible.
  func text(thinking: Bool?) -> String {
    switch self {
    case .nothing: ""
    case .optionalThought: thinking == false ? "<think>\n\n</think>\n\n" : ""
    case .thought: "<think>\n"
    }
  }

  /// The template in `chat_template.jinja`, or under the key `chat_template` of the JSON files that
  /// `transformers` looks at.
  private static func template(in folder: String) throws -> String? {
    func contents(_ name: String) throws -> Data? {
      let path = "\(folder)/\(name)"
      guard isFile(path) else { return nil }
      guard let data = FileManager.default.contents(atPath: path) else {
        throw Issue(["captionerModel", .file(path)], "can't be read")
      }
      return data
    }
    if let data = try contents("chat_template.jinja") {
      return String(decoding: data, as: UTF8.self)
    }
    for name in ["chat_template.json", "tokenizer_config.json"] {
      guard let data = try contents(name) else { continue }
      do {
        if let template = try JSON(parsing: data)["chat_template"]?.string { return template }
      } catch {
        throw Issue(
          ["captionerModel", .file("\(folder)/\(name)")], "is not JSON: \(describe(error))")
      }
    }
    return nil
  }
}
