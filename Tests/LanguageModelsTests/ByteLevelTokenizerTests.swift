import Foundation
import Support
import Testing

@testable import LanguageModels

/// Qwen's byte-level tokenizer against Hugging Face's `tokenizers`.
@Suite struct ByteLevelTokenizerTests {
  private struct Case: Decodable {
    var text: String
    var ids: [Int]
    var decoded: String
  }

  private static let fixtures = TokenizerFixtures.folder.deletingLastPathComponent()
  private static let model = fixtures.appending(path: "models/qwen25_omni").path

  private func cases() throws -> [Case] {
    let file = TokenizerFixtures.folder.appending(path: "byte-level.json")
    return try JSONDecoder().decode([Case].self, from: Data(contentsOf: file))
  }

  @Test func agreesWithTheReference() throws {
    let tokenizer = try Tokenizer(folder: Self.model)
    let cases = try cases()
    #expect(cases.count > 100)
    for item in cases {
      let text = item.text.debugDescription
      #expect(try tokenizer.encode(item.text, addBOS: false) == item.ids, "\(text)")
      let decoded = tokenizer.decode(item.ids, skipSpecialTokens: true)
      #expect(decoded.utf8.elementsEqual(item.decoded.utf8), "\(text)")
    }
  }

  @Test func separateTablesGiveTheSameTokenizer() throws {
    let folder = try SplitTokenizer(of: Self.model)
    let whole = try Tokenizer(folder: Self.model)
    let split = try Tokenizer(folder: folder.path)
    #expect(split.vocabularySize == whole.vocabularySize)
    for item in try cases() {
      #expect(try split.encode(item.text, addBOS: false) == item.ids)
    }
  }

  @Test func cutCharactersBecomeReplacements() throws {
    let tokenizer = try Tokenizer(folder: Self.model)
    let ids = try tokenizer.encode("🙂", addBOS: false)
    #expect(ids.count == 4)
    #expect(tokenizer.decode(Array(ids.dropLast()), skipSpecialTokens: true) == "\u{FFFD}")
  }

  @Test func specialTokensAreLeftOut() throws {
    let tokenizer = try Tokenizer(folder: Self.model)
    let ids = try tokenizer.encode("<|im_start|>a<tool_call>", addBOS: false)
    #expect(tokenizer.decode(ids, skipSpecialTokens: true) == "a<tool_call>")
    #expect(tokenizer.decode(ids, skipSpecialTokens: false) == "<|im_start|>a<tool_call>")
  }

  @Test func theAlphabetHasALetterForEachByte() {
    let bytes = Array(UInt8.min...UInt8.max)
    #expect(Set(ByteAlphabet.scalars).count == 256)
    #expect(ByteAlphabet.bytes(of: ByteAlphabet.spell(bytes[...])) == bytes)
    #expect(ByteAlphabet.spell([0x20]) == Array("Ġ".utf8))
    #expect(ByteAlphabet.spell([0x0A]) == Array("Ċ".utf8))
    #expect(ByteAlphabet.bytes(of: Array("你".utf8)) == nil)
  }

  @Test(arguments: [
    ("vocab.json", "{}", "merges.txt", "is not a merge"),
    ("vocab.json", #"{"a": "b"}"#, "vocab.json", "a token id"),
    ("merges.txt", "#version: 0.2\na b c\n", "merges.txt", "is not a merge"),
    ("tokenizer_config.json", "{}", "tokenizer_config.json", "an object is missing"),
    (
      "tokenizer_config.json",
      #"{"added_tokens_decoder": {"7": {"content": "<x>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}}}"#,
      "tokenizer_config.json", "does not follow the vocabulary"
    ),
  ])
  func damagedTablesAreNamed(file: String, content: String, named: String, problem: String) throws {
    let folder = try SplitTokenizer(of: Self.model)
    try content.write(toFile: "\(folder.path)/\(file)", atomically: true, encoding: .utf8)
    let error = #expect(throws: Support.Issue.self) { _ = try Tokenizer(folder: folder.path) }
    #expect(error?.file == "\(folder.path)/\(named)")
    #expect(error?.problem.contains(problem) == true, "\(error?.problem ?? "")")
  }

  @Test func missingTablesAreNamed() throws {
    let folder = try SplitTokenizer(of: Self.model)
    try FileManager.default.removeItem(atPath: "\(folder.path)/merges.txt")
    let error = #expect(throws: Support.Issue.self) { _ = try Tokenizer(folder: folder.path) }
    #expect(error?.file == "\(folder.path)/merges.txt")
  }

  @Test func otherPatternsAreRefused() throws {
    let file = "\(Self.model)/tokenizer.json"
    let text = try String(contentsOfFile: file, encoding: .utf8)
    let changed = text.replacing(#"\\p{N}|"#, with: #"\\p{N}{1,3}|"#)
    try #require(changed != text)
    let error = #expect(throws: Support.Issue.self) {
      _ = try Tokenizer(json: Array(changed.utf8), file: "t.json")
    }
    #expect(error?.problem == "a regular expression other than Qwen2's is not supported")
  }
}

/// A temporary folder with a `tokenizer.json` as separate tables.
private final class SplitTokenizer {
  let path: String

  init(of folder: String) throws {
    path = FileManager.default.temporaryDirectory.path + "/tokenizer-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    let data = try Data(contentsOf: URL(filePath: "\(folder)/tokenizer.json"))
    let root = try JSON(parsing: String(decoding: data, as: UTF8.self))
    let model = try #require(root["model"])
    func write(_ value: JSON, to name: String) throws {
      try value.text(JSONFormat()).write(
        toFile: "\(path)/\(name)", atomically: true, encoding: .utf8)
    }
    try write(#require(model["vocab"]), to: "vocab.json")
    let merges = try #require(model["merges"]?.array).map { pair in
      pair.string ?? (pair.array ?? []).compactMap(\.string).joined(separator: " ")
    }
    try (["#version: 0.2"] + merges).joined(separator: "\n").write(
      toFile: "\(path)/merges.txt", atomically: true, encoding: .utf8)
    var added = JSONObject()
    for token in try #require(root["added_tokens"]?.array) {
      added[String(try #require(token["id"]?.int))] = token
    }
    try write(.object(["added_tokens_decoder": .object(added)]), to: "tokenizer_config.json")
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}
