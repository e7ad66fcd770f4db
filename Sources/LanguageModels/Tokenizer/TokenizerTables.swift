import Foundation
import Support

extension TokenizerFile {
  private static let vocabularyName = "vocab.json"
  private static let mergesName = "merges.txt"
  private static let configurationName = "tokenizer_config.json"

  /// Reads Qwen's tokenizer from separate tables, for model folders without a `tokenizer.json`:
  /// `vocab.json`, `merges.txt`, and the added tokens in `tokenizer_config.json`. The other parts of
  /// the tokenizer are those of `Qwen2Tokenizer` in `transformers`.
  ///
  /// - Throws: `Issue` that names the missing or malformed file.
  init(tablesIn folder: String) throws(Issue) {
    let ids = try Self.vocabulary("\(folder)/\(Self.vocabularyName)")
    let merges = try Self.merges("\(folder)/\(Self.mergesName)", ids: ids)
    let normalizer = Normalizer(steps: [.compose])
    let file = "\(folder)/\(Self.configurationName)"
    let added = try Self.addedTokens(file)
    let addedTokens: AddedTokens
    do {
      addedTokens = try AddedTokens(
        added.map(\.token), vocabulary: ids, normalizer: normalizer)
    } catch {
      throw Issue(tokenizer: file, "added_tokens_decoder", error.problem)
    }
    for (id, token) in added where addedTokens.ids[token.content] != id {
      let content = String(decoding: token.content, as: UTF8.self)
      throw Issue(
        tokenizer: file, "added_tokens_decoder.\(id)",
        "\"\(content)\" does not follow the vocabulary of \(ids.count) tokens",
        suggestion: "Take both files from the same model.")
    }
    self.init(
      model: BytePairEncoding(
        ids: ids, merges: merges, unknownID: nil, byteFallback: false, fusesUnknown: false,
        ignoresMerges: false),
      addedTokens: addedTokens, normalizer: normalizer, preTokenizer: [.words, .byteLevel],
      decoding: [.byteLevel])
  }

  private static func read(_ file: String) throws(Issue) -> [UInt8] {
    guard let data = FileManager.default.contents(atPath: file) else {
      throw Issue(
        [.file(file)], "can't be read, but is part of the tokenizer",
        suggestion: "Download the model folder with all of its files.")
    }
    return Array(data)
  }

  private static func vocabulary(_ file: String) throws(Issue) -> [[UInt8]: UInt32] {
    let bytes = try read(file)
    let result = bytes.withUnsafeBytes { bytes in
      Result { () throws(Issue) in
        var reader = JSONReader(bytes, file: file)
        let ids = try TokenizerModelReader.vocabulary(&reader, key: "")
        try reader.end()
        return ids
      }
    }
    return try result.get()
  }

  /// Reads lines of two tokens each, in the order of their ranks.
  private static func merges(
    _ file: String, ids: [[UInt8]: UInt32]
  ) throws(Issue) -> BytePairEncoding.Merges {
    var merges = BytePairEncoding.Merges()
    let lines = try read(file).split(separator: 0x0A, omittingEmptySubsequences: false)
    for (index, line) in lines.enumerated() {
      let line = line.last == 0x0D ? line.dropLast() : line
      if line.isEmpty || (index == 0 && line.starts(with: "#version".utf8)) { continue }
      let pair = line.split(separator: 0x20, omittingEmptySubsequences: false).map(Array.init)
      guard pair.count == 2, let left = ids[pair[0]], let right = ids[pair[1]],
        let result = ids[pair[0] + pair[1]]
      else {
        throw Issue(
          [.file(file), .line(index + 1)],
          "is not a merge of two tokens of the vocabulary into a third",
          suggestion: "The file may be damaged, or belong to another model.")
      }
      merges.append(left, right, makes: result)
    }
    return merges
  }

  private static func addedTokens(
    _ file: String
  ) throws(Issue) -> [(id: UInt32, token: AddedTokens.Token)] {
    let bytes = try read(file)
    let result = bytes.withUnsafeBytes { bytes in
      Result { () throws(Issue) in
        var reader = JSONReader(bytes, file: file)
        let value = try reader.value()
        try reader.end()
        return value
      }
    }
    let list = JSONField(value: try result.get(), file: file, key: "")["added_tokens_decoder"]
    guard case .object(let members) = list.value else { throw list.expected("an object") }
    var tokens: [(id: UInt32, token: AddedTokens.Token)] = []
    for name in members.keys {
      let field = list[name]
      try field.requireObject()
      guard let id = UInt32(name) else { throw field.invalid("the name is not a token id") }
      tokens.append((id, try AddedTokens.Token(field)))
    }
    return tokens.sorted { $0.id < $1.id }
  }
}
