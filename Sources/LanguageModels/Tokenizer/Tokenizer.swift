import Foundation
import Support

/// A text tokenizer read from a Hugging Face `tokenizer.json`, giving the ids that the `tokenizers`
/// library gives.
///
/// Supports what the tokenizers of Gemma are made of: byte-pair encoding with byte fallback,
/// literal replacements and splits, added tokens, and a template of special tokens. Text is
/// compared scalar by scalar and never normalized beyond what the file says. A value is immutable
/// and may be used from any thread.
public struct Tokenizer: Sendable {
  let file: String
  private let parts: TokenizerFile

  /// Reads a `tokenizer.json`.
  ///
  /// - Throws: `Issue` when the file can't be read, is malformed, or needs a part that
  ///   isn't supported.
  public init(contentsOf url: URL) throws(Issue) {
    let data: Data
    do {
      data = try Data(contentsOf: url)
    } catch {
      throw Issue([.file(url.path)], "can't read the tokenizer: \(reason(of: error))")
    }
    try self.init(json: Array(data), file: url.path)
  }

  /// Reads the text of a `tokenizer.json` that came from elsewhere, such as a tensor of a packed
  /// text encoder.
  ///
  /// - Parameter file: Where the text came from, for error messages.
  public init(json: [UInt8], file: String) throws(Issue) {
    self.file = file
    parts = try TokenizerFile(json, file: file)
  }

  /// The number of tokens, added ones included.
  public var vocabularySize: Int {
    parts.model.ids.count + parts.addedTokens.ids.keys.count { parts.model.ids[$0] == nil }
  }

  /// The id of a token of exactly these scalars, or nil.
  public func id(of token: String) -> Int? {
    let bytes = Array(token.utf8)
    return (parts.addedTokens.ids[bytes] ?? parts.model.ids[bytes]).map(Int.init)
  }

  /// The ids of a text. Added tokens that stand in the text, `<bos>` among them, become their ids.
  ///
  /// - Parameter addBOS: Put the file's template of special tokens around the text, and `<bos>` in
  ///   front if neither template nor text begins with it. Chat prompts that write `<bos>`
  ///   themselves want false.
  /// - Throws: `Issue` when `<bos>` is wanted and the vocabulary has none.
  public func encode(_ text: String, addBOS: Bool) throws(Issue) -> [Int] {
    try (addBOS ? framed(text, maxLength: nil) : content(text)).map(Int.init)
  }

  /// The text of some ids. Ids that are not tokens are skipped.
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

  /// The ids with the template around them and `<bos>` in front, cut on the right to at most
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
        for splitter in parts.splitters { pieces = pieces.flatMap(splitter.split) }
        for piece in pieces { parts.model.encode(piece, into: &ids) }
      }
    }
    return ids
  }
}
