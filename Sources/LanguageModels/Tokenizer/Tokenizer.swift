import Foundation
import Support

/// A text tokenizer from a Hugging Face `tokenizer.json`, with the ids of the `tokenizers` library.
///
/// Supports the features that Gemma's and Qwen's tokenizers use: byte-pair encoding over scalars with
/// byte fallback, or over bytes; literal replacements and splits, NFC, Qwen2's words; added tokens,
/// and a template of special tokens. Text is compared scalar by scalar and normalized only as the
/// file says. A tokenizer is immutable and may be used from any thread.
public struct Tokenizer: Sendable {
  let file: String
  private let parts: TokenizerFile

  /// Reads a `tokenizer.json`.
  ///
  /// - Throws: `Issue` if the file can't be read, is malformed, or needs a feature that isn't
  ///   supported.
  public init(contentsOf url: URL) throws(Issue) {
    let data: Data
    do {
      data = try Data(contentsOf: url)
    } catch {
      throw Issue([.file(url.path)], "can't read the tokenizer: \(reason(of: error))")
    }
    try self.init(json: Array(data), file: url.path)
  }

  /// Reads the tokenizer of a model folder: `tokenizer.json`, or else Qwen's `vocab.json`,
  /// `merges.txt` and `tokenizer_config.json`.
  ///
  /// - Throws: `Issue` as above, or if the folder has neither.
  public init(folder: String) throws(Issue) {
    let file = "\(folder)/tokenizer.json"
    if FileManager.default.fileExists(atPath: file) {
      try self.init(contentsOf: URL(fileURLWithPath: file))
    } else {
      self.init(file: "\(folder)/vocab.json", parts: try TokenizerFile(tablesIn: folder))
    }
  }

  private init(file: String, parts: TokenizerFile) {
    self.file = file
    self.parts = parts
  }

  /// Reads the text of a `tokenizer.json` from elsewhere, such as a tensor of a packed text
  /// encoder.
  ///
  /// - Parameter file: The source of the text, for error messages.
  public init(json: [UInt8], file: String) throws(Issue) {
    self.file = file
    parts = try TokenizerFile(json, file: file)
  }

  /// The number of tokens, including added ones.
  public var vocabularySize: Int {
    parts.model.ids.count + parts.addedTokens.ids.keys.count { parts.model.ids[$0] == nil }
  }

  /// The id of the token with exactly these scalars, or nil.
  public func id(of token: String) -> Int? {
    let bytes = Array(token.utf8)
    return (parts.addedTokens.ids[bytes] ?? parts.model.ids[bytes]).map(Int.init)
  }

  /// Encodes a text. Added tokens in the text, including `<bos>`, become their ids.
  ///
  /// - Parameter addBOS: Adds the file's template of special tokens around the text, and `<bos>` in
  ///   front if neither template nor text begins with it. Chat prompts that contain `<bos>`
  ///   themselves need false.
  /// - Throws: `Issue` if `<bos>` is needed and the vocabulary lacks it.
  public func encode(_ text: String, addBOS: Bool) throws(Issue) -> [Int] {
    try (addBOS ? framed(text, maxLength: nil) : content(text)).map(Int.init)
  }

  /// Decodes ids to text. Ids that are not tokens are skipped.
  public func decode(_ ids: [Int], skipSpecialTokens: Bool) -> String {
    var tokens: [[UInt8]] = []
    for id in ids {
      guard let id = UInt32(exactly: id),
        let token = parts.addedTokens.text(of: id) ?? parts.model.tokens[id]
      else { continue }
      if skipSpecialTokens, parts.addedTokens.isSpecial(token) { continue }
      tokens.append(token)
    }
    guard let steps = parts.decoding else {
      return String(decoding: Array(tokens.joined(separator: [0x20])), as: UTF8.self)
    }
    for step in steps { tokens = step.apply(to: tokens) }
    return String(decoding: tokens.joined(), as: UTF8.self)
  }

  /// The ids with the template around them and `<bos>` in front, truncated on the right to
  /// `maxLength`.
  func framed(_ text: String, maxLength: Int?) throws(Issue) -> [UInt32] {
    let template = parts.template
    var ids = content(text)
    if let maxLength {
      let added = template.prefix.count + template.suffix.count
      guard maxLength >= max(added, 1) else {
        throw Issue(
          "a prompt of \(maxLength) tokens has no room for the \(max(added, 1)) that are always added"
        )
      }
      ids = Array(ids.prefix(maxLength - added))
    }
    ids = template.prefix + ids + template.suffix
    let bos = try requiredID("<bos>")
    if ids.first != bos { ids.insert(bos, at: 0) }
    return maxLength.map { Array(ids.prefix($0)) } ?? ids
  }

  func requiredID(_ token: String) throws(Issue) -> UInt32 {
    guard let id = id(of: token) else {
      throw Issue(
        [.file(file)], "the vocabulary has no token \(token)",
        suggestion: "Use the tokenizer of a Gemma text encoder.")
    }
    return UInt32(id)
  }

  private func content(_ text: String) -> [UInt32] {
    var ids: [UInt32] = []
    let raw = Array(text.utf8)
    for (range, id) in parts.addedTokens.split(raw[...], stage: .raw) {
      if let id {
        ids.append(id)
        continue
      }
      let normalized = parts.normalizer.normalize(raw[range])
      for (range, id) in parts.addedTokens.split(normalized[...], stage: .normalized) {
        if let id {
          ids.append(id)
          continue
        }
        var pieces = [normalized[range]]
        for step in parts.preTokenizer { pieces = pieces.flatMap(step.apply) }
        for piece in pieces { parts.model.encode(piece, into: &ids) }
      }
    }
    return ids
  }
}
