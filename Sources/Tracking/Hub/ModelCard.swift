import Foundation
import Support

/// The `README.md` of a repository: metadata for the Hub at its top, and text for people below.
public struct ModelCard: Sendable {
  public enum Method: Sendable {
    case lora(rank: Int, alpha: Double)
    case full
  }

  /// A validation sample that is also in the repository.
  public struct Sample: Sendable {
    /// In the repository: `samples/sample_1.mp4`.
    public let path: String
    public let prompt: String

    public init(path: String, prompt: String) {
      self.path = path
      self.prompt = prompt
    }
  }

  /// The model's name, as a heading.
  public var title: String
  /// The base model: a name on the Hub (`Lightricks/LTX-2`), an address or the name of a file. Of
  /// these, the Hub links only the first.
  public var baseModel: String
  public var method: Method
  /// The repository's file that holds the weights.
  public var weights: String
  /// The tags by which the Hub lists the model.
  public var task = "text-to-video"
  /// The words in a prompt that trigger what was trained.
  public var triggerWords: String?
  /// Shown as a table, in this order: steps, learning rate, …
  public var facts: [(name: String, value: String)] = []
  public var samples: [Sample] = []
  public var tags = ["ltx-2", "ltx-video", "text-to-video", "audio-video"]

  public init(title: String, baseModel: String, method: Method, weights: String) {
    self.title = title
    self.baseModel = baseModel
    self.method = method
    self.weights = weights
  }

  /// The file's content.
  public var text: String { frontMatter + "\n" + body }

  private var hubModel: String? {
    // Anything else is not a name on the Hub.
    guard let repository = try? HubRepository(baseModel), repository.owner != nil,
      !baseModel.lowercased().hasSuffix(".safetensors")
    else { return nil }
    return baseModel
  }

  private var frontMatter: String {
    var lines = ["---"]
    if let hubModel {
      lines.append("base_model: \(JSON.quoted(hubModel, escapes: .invisible))")
      lines.append("base_model_relation: \(isLoRA ? "adapter" : "finetune")")
    }
    lines += [
      "library_name: diffusers", "license: other",
      "pipeline_tag: \(JSON.quoted(task, escapes: .invisible))",
    ]
    if let triggerWords {
      lines.append("instance_prompt: \(JSON.quoted(triggerWords, escapes: .invisible))")
    }
    lines.append("tags:")
    lines += (tags + (isLoRA ? ["lora"] : [])).map { "  - \(JSON.quoted($0, escapes: .invisible))" }
    if !samples.isEmpty {
      lines.append("widget:")
      for sample in samples {
        lines += [
          "  - text: \(JSON.quoted(sample.prompt, escapes: .invisible))", "    output:",
          "      url: \(JSON.quoted(sample.path, escapes: .invisible))",
        ]
      }
    }
    return (lines + ["---", ""]).joined(separator: "\n")
  }

  private var body: String {
    let kind = isLoRA ? "A LoRA for" : "A fine-tuned version of"
    var parts = ["# \(Self.escaped(title))", "\(kind) \(baseLink), trained with swift-ltx."]
    if !samples.isEmpty { parts.append("<Gallery />") }
    if let triggerWords {
      parts += ["## Trigger words", "Put \(Self.code(triggerWords)) into the prompt."]
    }
    if !samples.isEmpty {
      parts += [
        "## Prompts of the samples",
        samples.map { "- \(Self.code($0.prompt))" }.joined(separator: "\n"),
      ]
    }
    var rows = [("Base model", baseLink), ("Method", methodText)]
    rows += facts.map { (Self.escaped($0.name), Self.escaped($0.value)) }
    parts += [
      "## Training",
      (["| | |", "|---|---|"] + rows.map { "| \($0.0) | \($0.1) |" }).joined(separator: "\n"),
    ]
    parts += ["## Use", usage]
    parts += [
      "## License", "The license of the base model, \(baseLink), holds for this model too.",
    ]
    return parts.joined(separator: "\n\n") + "\n"
  }

  private var usage: String {
    let file = Self.code(weights)
    return isLoRA
      ? """
      - **swift-ltx**: `ltx generate --lora \(weights):1.0 …`
      - **ComfyUI**: put \(file) into `models/loras`, and pass the model through a *Load LoRA* node.
      """
      : """
      - **swift-ltx**: give \(file) as the model's checkpoint to `ltx generate`.
      - **ComfyUI**: put \(file) into `models/checkpoints`.
      """
  }

  private var isLoRA: Bool { if case .lora = method { true } else { false } }

  private var methodText: String {
    switch method {
    case .lora(let rank, let alpha):
      "LoRA, rank \(rank), alpha \(alpha.formatted(.number.grouping(.never).locale(.init(identifier: "en_US_POSIX"))))"
    case .full: "full fine-tuning"
    }
  }

  private var baseLink: String {
    if let hubModel { return "[\(hubModel)](https://huggingface.co/\(hubModel))" }
    if baseModel.hasPrefix("https://") || baseModel.hasPrefix("http://") {
      let address = baseModel.replacing(" ", with: "%20").replacing(")", with: "%29")
      return "[\(Self.escaped((baseModel as NSString).lastPathComponent))](\(address))"
    }
    // Of a local path, only the file's name is published.
    return Self.code((baseModel as NSString).lastPathComponent)
  }

  /// Returns the text on one line, with Markdown's special characters escaped.
  private static func escaped(_ text: String) -> String {
    oneLine(text).map { "\\`*_[]<>|#".contains($0) ? "\\\($0)" : String($0) }.joined()
  }

  /// Returns the text as code in Markdown, between more backticks than the text has in a row.
  private static func code(_ text: String) -> String {
    let line = oneLine(text)
    let longest = line.split(whereSeparator: { $0 != "`" }).map(\.count).max() ?? 0
    let fence = String(repeating: "`", count: longest + 1)
    return longest > 0 ? "\(fence) \(line) \(fence)" : "\(fence)\(line)\(fence)"
  }

  private static func oneLine(_ text: String) -> String {
    text.split(whereSeparator: \.isNewline).joined(separator: " ")
  }
}
