import Support

/// A Hugging Face `tokenizer.json`, parsed into the parts of a `Tokenizer`.
///
/// Accepts the same values as the `tokenizers` library for the components that Gemma's and Qwen's
/// files use; anything else is an error that names it. `truncation` and `padding` are ignored: the caller sets
/// the length of a prompt.
struct TokenizerFile {
  let model: BytePairEncoding
  let addedTokens: AddedTokens
  let normalizer: Normalizer
  let preTokenizer: [PreTokenizingStep]
  let template: Template
  let decoding: [DecodingStep]?

  /// The parts of a tokenizer whose tables come from other files.
  init(
    model: BytePairEncoding, addedTokens: AddedTokens, normalizer: Normalizer,
    preTokenizer: [PreTokenizingStep], decoding: [DecodingStep]
  ) {
    self.model = model
    self.addedTokens = addedTokens
    self.normalizer = normalizer
    self.preTokenizer = preTokenizer
    self.decoding = decoding
    template = Template()
  }

  init(_ bytes: [UInt8], file: String) throws(Issue) {
    let read = bytes.withUnsafeBytes { bytes in
      Result { () throws(Issue) in try TokenizerFile(bytes, file: file) }
    }
    self = try read.get()
  }

  private init(_ bytes: UnsafeRawBufferPointer, file: String) throws(Issue) {
    var reader = JSONReader(bytes, file: file)
    var parts = JSONObject()
    var model: BytePairEncoding?
    try reader.forEachMember { (key, reader) throws(Issue) in
      if key.elementsEqual("model".utf8) {
        model = try TokenizerModelReader(&reader).model
      } else {
        let key = String(decoding: key, as: UTF8.self)
        guard parts.insert(key, try reader.value()) else { throw reader.duplicate(key) }
      }
    }
    try reader.end()
    let root = JSONField(value: .object(parts), file: file, key: "")
    guard let model else { throw root["model"].expected("an object") }
    if !root["version"].isNull, try root["version"].string() != "1.0" {
      throw root["version"].unsupported("version \(try root["version"].string())")
    }
    self.model = model
    normalizer = Normalizer(steps: try Self.normalizer(root["normalizer"]))
    preTokenizer = try Self.preTokenizer(root["pre_tokenizer"])
    template = try Self.postProcessor(root["post_processor"])
    decoding = root["decoder"].isNull ? nil : try Self.decoder(root["decoder"])
    let list = try Self.addedTokens(root["added_tokens"])
    do {
      addedTokens = try AddedTokens(list, vocabulary: model.ids, normalizer: normalizer)
    } catch {
      throw root["added_tokens"].invalid(error.problem)
    }
  }

  private static func addedTokens(_ field: JSONField) throws(Issue) -> [AddedTokens.Token] {
    guard !field.isNull else { return [] }
    var tokens: [AddedTokens.Token] = []
    for element in try field.elements() {
      try element.requireObject()
      // The id must be valid, but isn't used: like `tokenizers`, AddedTokens uses the vocabulary's.
      _ = try element["id"].id()
      tokens.append(try AddedTokens.Token(element))
    }
    return tokens
  }

  private static func normalizer(_ field: JSONField) throws(Issue) -> [Normalizer.Step] {
    guard !field.isNull else { return [] }
    switch try field["type"].string() {
    case "Replace": return [.replace(try replacement(field))]
    case "NFC": return [.compose]
    case "Sequence":
      var steps: [Normalizer.Step] = []
      for element in try field["normalizers"].elements() { steps += try normalizer(element) }
      return steps
    case let kind: throw field.unsupported("normalizer \(kind)")
    }
  }

  private static func preTokenizer(_ field: JSONField) throws(Issue) -> [PreTokenizingStep] {
    guard !field.isNull else { return [] }
    switch try field["type"].string() {
    case "Split" where !field["pattern"]["Regex"].isNull:
      return [try words(field)]
    case "ByteLevel":
      // The first would put a space before the text, the second would split it once more.
      for option in ["add_prefix_space", "use_regex"] where try field[option].bool(default: true) {
        throw field[option].unsupported("true")
      }
      return [.byteLevel]
    case "Split":
      let name = try field["behavior"].string()
      guard let behavior = Splitter.Behavior(rawValue: name) else {
        throw field["behavior"].unsupported("split behavior \(name)")
      }
      return [
        .split(
          Splitter(
            pattern: try pattern(field["pattern"]), behavior: behavior,
            inverted: try field["invert"].bool()))
      ]
    case "Sequence":
      var steps: [PreTokenizingStep] = []
      for element in try field["pretokenizers"].elements() { steps += try preTokenizer(element) }
      return steps
    case let kind: throw field.unsupported("pre-tokenizer \(kind)")
    }
  }

  /// A split by Qwen2's regular expression, the only one that is supported. The expression matches
  /// all of the text, so that its matches are the pieces.
  private static func words(_ field: JSONField) throws(Issue) -> PreTokenizingStep {
    let regex = field["pattern"]["Regex"]
    guard try regex.string() == WordSplitter.pattern else {
      throw regex.unsupported("a regular expression other than Qwen2's")
    }
    let behavior = field["behavior"]
    guard try behavior.string() == Splitter.Behavior.isolated.rawValue else {
      throw behavior.unsupported("split behavior \(try behavior.string()) of a regular expression")
    }
    guard try !field["invert"].bool() else {
      throw field["invert"].unsupported("an inverted regular expression")
    }
    return .words
  }

  private static func postProcessor(_ field: JSONField) throws(Issue) -> Template {
    guard !field.isNull else { return Template() }
    let kind = try field["type"].string()
    // It changes only the offsets of tokens, which are not used.
    if kind == "ByteLevel" { return Template() }
    guard kind == "TemplateProcessing" else { throw field.unsupported("post-processor \(kind)") }
    var template = Template()
    var sequences = 0
    for piece in try field["single"].elements() {
      try piece.requireObject()
      if !piece["SpecialToken"].isNull {
        let name = try piece["SpecialToken"]["id"].string()
        let special = field["special_tokens"][name]
        for element in try special["ids"].elements() {
          let id = try element.id()
          if sequences == 0 { template.prefix.append(id) } else { template.suffix.append(id) }
        }
      } else {
        let name = try piece["Sequence"]["id"].string()
        guard name == "A" else { throw piece.invalid("a single text has no sequence \(name)") }
        sequences += 1
      }
    }
    guard sequences == 1 else {
      throw field["single"].invalid("the text must stand in it once, and does \(sequences) times")
    }
    return template
  }

  private static func decoder(_ field: JSONField) throws(Issue) -> [DecodingStep] {
    switch try field["type"].string() {
    case "Replace": return [.replace(try replacement(field))]
    case "ByteFallback": return [.byteFallback]
    case "ByteLevel": return [.byteLevel]
    case "Fuse": return [.fuse]
    case "Sequence":
      var steps: [DecodingStep] = []
      for element in try field["decoders"].elements() { steps += try decoder(element) }
      return steps
    case let kind: throw field.unsupported("decoder \(kind)")
    }
  }

  private static func replacement(_ field: JSONField) throws(Issue) -> Replacement {
    Replacement(
      pattern: try pattern(field["pattern"]), content: Array(try field["content"].string().utf8))
  }

  /// A literal pattern, `{"String": "..."}`.
  private static func pattern(_ field: JSONField) throws(Issue) -> [UInt8] {
    guard field["Regex"].isNull else { throw field.unsupported("a regular expression") }
    let pattern = Array(try field["String"].string().utf8)
    guard !pattern.isEmpty else { throw field["String"].unsupported("an empty pattern") }
    return pattern
  }
}

extension AddedTokens.Token {
  /// Reads a token's text and options.
  init(_ field: JSONField) throws(Issue) {
    self.init(
      content: Array(try field["content"].string().utf8),
      singleWord: try field["single_word"].bool(), leftStrip: try field["lstrip"].bool(),
      rightStrip: try field["rstrip"].bool(), normalized: try field["normalized"].bool(),
      special: try field["special"].bool())
  }
}

/// Reads the `model` of a tokenizer file entry by entry, because its tables are large.
struct TokenizerModelReader {
  let model: BytePairEncoding

  init(_ reader: inout JSONReader) throws(Issue) {
    let file = reader.file
    var options = JSONObject()
    var ids: [[UInt8]: UInt32]?
    var merges: BytePairEncoding.Merges?
    var earlyMerges: JSONField?
    guard reader.isNext("{") else {
      throw JSONField(value: try reader.value(), file: file, key: "model").expected("an object")
    }
    try reader.forEachMember { (key, reader) throws(Issue) in
      if key.elementsEqual("vocab".utf8), reader.isNext("{") {
        ids = try Self.vocabulary(&reader)
      } else if key.elementsEqual("merges".utf8), let ids, reader.isNext("[") {
        merges = try Self.merges(&reader, ids: ids)
      } else if key.elementsEqual("merges".utf8) {
        earlyMerges = JSONField(value: try reader.value(), file: file, key: "model.merges")
      } else {
        let key = String(decoding: key, as: UTF8.self)
        guard options.insert(key, try reader.value()) else { throw reader.duplicate(key) }
      }
    }
    let root = JSONField(value: .object(options), file: file, key: "model")
    let kind = root["type"].isNull ? "BPE" : try root["type"].string()
    guard kind == "BPE" else { throw root["type"].unsupported("model \(kind)") }
    guard let ids else { throw root["vocab"].expected("an object of tokens and their ids") }
    if merges == nil, let earlyMerges { merges = try Self.merges(earlyMerges, ids: ids) }
    guard let merges else { throw root["merges"].expected("a list") }
    for name in ["continuing_subword_prefix", "end_of_word_suffix"] where !root[name].isNull {
      let affix = try root[name].string()
      guard affix.isEmpty else { throw root[name].unsupported("the affix \"\(affix)\"") }
    }
    switch root["dropout"].value {
    case .null, .number(0): break
    default: throw root["dropout"].unsupported("dropout, which is for training a tokenizer,")
    }
    let byteFallback = try root["byte_fallback"].bool(default: false)
    var unknownID: UInt32?
    if !root["unk_token"].isNull {
      let token = try root["unk_token"].string()
      unknownID = ids[Array(token.utf8)]
      // With all 256 byte tokens, no scalar is unknown.
      let isNeeded = !byteFallback || BytePairEncoding.byteTokens.contains { ids[$0] == nil }
      guard unknownID != nil || !isNeeded else {
        throw root["unk_token"].invalid("\"\(token)\" is not in the vocabulary")
      }
    }
    model = BytePairEncoding(
      ids: ids, merges: merges, unknownID: unknownID, byteFallback: byteFallback,
      fusesUnknown: try root["fuse_unk"].bool(default: false),
      ignoresMerges: try root["ignore_merges"].bool(default: false))
  }

  /// Reads an object of tokens and their ids.
  static func vocabulary(
    _ reader: inout JSONReader, key: String = "model.vocab"
  ) throws(Issue) -> [[UInt8]: UInt32] {
    let file = reader.file
    var ids: [[UInt8]: UInt32] = [:]
    try reader.forEachMember { (token, reader) throws(Issue) in
      guard case .number(let number) = try reader.value(), let id = UInt32(number.text) else {
        throw Issue(
          tokenizer: file,
          (key.isEmpty ? "" : "\(key).") + String(decoding: token, as: UTF8.self),
          "a token id (0 to \(UInt32.max)) is wanted here")
      }
      ids[token] = id
    }
    return ids
  }

  /// Reads merges that come after the vocabulary: `["a", "b"]`, or `"a b"` in files before 2024.
  private static func merges(
    _ reader: inout JSONReader, ids: [[UInt8]: UInt32]
  ) throws(Issue) -> BytePairEncoding.Merges {
    let file = reader.file
    var merges = BytePairEncoding.Merges()
    var isLegacy: Bool?
    try reader.forEachElement { (reader) throws(Issue) in
      var pair: [[UInt8]] = []
      if isLegacy ?? true, reader.isNext("\"") {
        isLegacy = true
        let line = try reader.string()
        if line.starts(with: "#version".utf8) { return }
        pair = line.split(separator: 0x20, omittingEmptySubsequences: false).map(Array.init)
      } else if isLegacy != true, reader.isNext("[") {
        isLegacy = false
        let key = "model.merges[\(merges.results.count)]"
        try reader.forEachElement { (reader) throws(Issue) in
          guard reader.isNext("\"") else {
            throw Issue(tokenizer: file, key, "a merge is two strings")
          }
          pair.append(try reader.string())
        }
      }
      try append(pair, to: &merges, ids: ids, file: file)
    }
    return merges
  }

  /// Reads merges that come before the vocabulary; no known program writes such a file.
  private static func merges(
    _ field: JSONField, ids: [[UInt8]: UInt32]
  ) throws(Issue) -> BytePairEncoding.Merges {
    var merges = BytePairEncoding.Merges()
    for element in try field.elements() {
      var pair: [[UInt8]] = []
      if case .string(let line) = element.value {
        if line.hasPrefix("#version") { continue }
        pair = line.utf8.split(separator: 0x20, omittingEmptySubsequences: false).map(Array.init)
      } else {
        for part in try element.elements() { pair.append(Array(try part.string().utf8)) }
      }
      try append(pair, to: &merges, ids: ids, file: field.file)
    }
    return merges
  }

  private static func append(
    _ pair: [[UInt8]], to merges: inout BytePairEncoding.Merges, ids: [[UInt8]: UInt32],
    file: String
  ) throws(Issue) {
    func invalid(_ problem: String) -> Issue {
      Issue(tokenizer: file, "model.merges[\(merges.results.count)]", problem)
    }
    guard pair.count == 2 else {
      throw invalid("a merge is two tokens, in one form throughout the list")
    }
    func id(_ token: [UInt8]) throws(Issue) -> UInt32 {
      guard let id = ids[token] else {
        throw invalid("\"\(String(decoding: token, as: UTF8.self))\" is not in the vocabulary")
      }
      return id
    }
    merges.append(try id(pair[0]), try id(pair[1]), makes: try id(pair[0] + pair[1]))
  }
}
