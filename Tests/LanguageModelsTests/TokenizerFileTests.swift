import Foundation
import Support
import Testing

@testable import LanguageModels

/// Files that are damaged, or that need unsupported features: an error says what and where, and
/// nothing crashes.
@Suite struct TokenizerFileTests {
  typealias Problem = Support.Issue

  let good: String

  init() throws {
    let variant = #"""
      {"version": "1.0", "truncation": null, "padding": null,
       "added_tokens": [{"id": 0, "content": "<bos>", "single_word": false, "lstrip": false, "rstrip": false,
         "normalized": false, "special": true}],
       "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "_"},
       "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated", "invert": false},
       "post_processor": {"type": "TemplateProcessing",
         "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
         "special_tokens": {"<bos>": {"id": "<bos>", "ids": [0], "tokens": ["<bos>"]}}},
       "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
       "model": {"type": "BPE", "dropout": null, "unk_token": "?", "continuing_subword_prefix": null,
         "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": false, "ignore_merges": false,
         "vocab": {"<bos>": 0, "?": 1, "a": 2, "b": 3, "ab": 4}, "merges": [["a", "b"]]}}
      """#
    good = variant
  }

  private func malformed(line: Int, _ problem: String) -> Problem {
    Problem(
      [.file("t.json"), .line(line)], "not valid JSON: \(problem)",
      suggestion: "The file may be truncated or damaged; download it again.")
  }

  private func load(_ text: String) throws -> Tokenizer {
    try Tokenizer(json: Array(text.utf8), file: "t.json")
  }

  /// The error for the valid file with one part replaced.
  private func error(replacing part: String, with other: String) throws -> Problem? {
    try #require(good.contains(part), "\(part)")
    return #expect(throws: Problem.self, "\(part) -> \(other)") {
      try load(good.replacing(part, with: other, maxReplacements: 1))
    }
  }

  @Test func theGoodFileLoads() throws {
    #expect(try load(good).encode("abcab a", addBOS: true) == [0, 4, 1, 4, 1, 2])
  }

  @Test(arguments: [
    (#""type": "BPE""#, #""type": "Unigram""#, "model.type", "model Unigram"),
    (#""type": "Replace""#, #""type": "NFKC""#, "normalizer", "normalizer NFKC"),
    (
      #""type": "Replace", "pattern": {"String": " "}"#,
      #""type": "Replace", "pattern": {"Regex": " "}"#,
      "normalizer.pattern", "a regular expression"
    ),
    (#""type": "Split""#, #""type": "ByteLevel""#, "pre_tokenizer.add_prefix_space", "true"),
    (#""type": "Split""#, #""type": "Digits""#, "pre_tokenizer", "pre-tokenizer Digits"),
    (
      #""type": "Split", "pattern": {"String": " "}"#,
      #""type": "Split", "pattern": {"Regex": "\\s+"}"#,
      "pre_tokenizer.pattern.Regex", "a regular expression other than Qwen2's"
    ),
    (#""Isolated""#, #""Random""#, "pre_tokenizer.behavior", "split behavior Random"),
    (
      #""TemplateProcessing""#, #""RobertaProcessing""#, "post_processor",
      "post-processor RobertaProcessing"
    ),
    (#"{"type": "Fuse"}"#, #"{"type": "WordPiece"}"#, "decoder.decoders[1]", "decoder WordPiece"),
    (
      #""dropout": null"#, #""dropout": 0.1"#, "model.dropout",
      "dropout, which is for training a tokenizer,"
    ),
    (
      #""end_of_word_suffix": null"#, #""end_of_word_suffix": "</w>""#, "model.end_of_word_suffix",
      "the affix \"</w>\""
    ),
    (#""version": "1.0""#, #""version": "2.0""#, "version", "version 2.0"),
  ])
  func unsupportedPartsAreNamed(part: String, other: String, key: String, kind: String) throws {
    #expect(
      try error(replacing: part, with: other)
        == Problem(
          [.file("t.json"), .name(key)], "\(kind) is not supported",
          suggestion: "Only the parts that Gemma's and Qwen's tokenizers use are supported."))
  }

  @Test(arguments: [
    (#"["a", "b"]"#, #"["a", "c"]"#, "model.merges[0]", "\"c\" is not in the vocabulary"),
    (#"["a", "b"]"#, #"["b", "a"]"#, "model.merges[0]", "\"ba\" is not in the vocabulary"),
    (
      #"["a", "b"]"#, #"["a", "b"], "a b""#, "model.merges[1]",
      "a merge is two tokens, in one form throughout the list"
    ),
    (
      #"["a", "b"]"#, #""a b", ["a", "b"]"#, "model.merges[1]",
      "a merge is two tokens, in one form throughout the list"
    ),
    (
      #"["a", "b"]"#, #""a b c""#, "model.merges[0]",
      "a merge is two tokens, in one form throughout the list"
    ),
    (#"["a", "b"]"#, "[1, 2]", "model.merges[0]", "a merge is two strings"),
    (
      #""unk_token": "?""#, #""unk_token": "!""#, "model.unk_token",
      "\"!\" is not in the vocabulary"
    ),
    (#""a": 2"#, #""a": -2"#, "model.vocab.a", "a token id (0 to 4294967295) is wanted here"),
    (#""a": 2"#, #""a": 2.0"#, "model.vocab.a", "a token id (0 to 4294967295) is wanted here"),
    (#""a": 2"#, #""a": "2""#, "model.vocab.a", "a token id (0 to 4294967295) is wanted here"),
    (#""vocab""#, #""vocabulary""#, "model.vocab", "an object of tokens and their ids is missing"),
    (#""merges""#, #""merge""#, "model.merges", "a list is missing"),
    (#""model""#, #""models""#, "model", "an object is missing"),
    (
      #""content": "<bos>""#, #""content": 7"#, "added_tokens[0].content",
      "a string is wanted here, and this is a number"
    ),
    (
      #""special": true"#, #""special": 1"#, "added_tokens[0].special",
      "true or false is wanted here, and this is a number"
    ),
    (
      #""ids": [0]"#, #""ids": [-1]"#, "post_processor.special_tokens.<bos>.ids[0]",
      "a token id (0 to 4294967295) is wanted here, and this is a number"
    ),
    (
      #"{"Sequence": {"id": "A", "type_id": 0}}"#, #"{"Sequence": {"id": "B", "type_id": 0}}"#,
      "post_processor.single[1]", "a single text has no sequence B"
    ),
    (
      #", {"Sequence": {"id": "A", "type_id": 0}}"#, "", "post_processor.single",
      "the text must stand in it once, and does 0 times"
    ),
  ])
  func wrongValuesAreNamed(part: String, other: String, key: String, problem: String) throws {
    #expect(
      try error(replacing: part, with: other)
        == Problem([.file("t.json"), .name(key)], problem))
  }

  @Test(arguments: [
    ("", "the text ends too early"), ("{", "the text ends too early"), ("[1 2]", "'{' is missing"),
    (#"{"a" 1}"#, "':' is missing"), (#"{"a": 1 "b": 2}"#, "',' or '}' is missing"),
    (#"{"a": [1,]}"#, "nothing follows a comma"),
    (#"{"a": nul}"#, "a value is missing or unknown"),
    (#"{"a": 01}"#, "a number begins with 0"),
    (#"{"a": -}"#, "a value is missing or unknown"),
    (#"{"a": 1.}"#, "a number has no digit after its point"),
    (#"{"a": 1e}"#, "a number has no digit in its exponent"),
    (#"{"a": 1e999}"#, "a number is too large"), (#"{a: 1}"#, "a string in quotes is missing"),
    (#"{"a": "\x"}"#, "a string has an unknown escape"), (#"{"a": "b"#, "a string has no end"),
    (#"{"a": "\"#, "a string has no end"), (#"{"a": "\u12"#, "a string has no end"),
    (#"{"a": "\u12G4"}"#, "\\u needs four hexadecimal digits"),
    (#"{"a": "\ud800"}"#, "an escaped surrogate has no partner"),
    (#"{"a": "\ud800\u0041"}"#, "an escaped surrogate has no partner"),
    (#"{"a": "\udc00"}"#, "an escaped surrogate has no partner"),
    ("{\"a\": \"\n\"}", "a string has an unescaped control character"),
  ])
  func brokenJSONIsAnError(text: String, problem: String) {
    #expect(throws: malformed(line: 1, problem)) {
      try load(text)
    }
  }

  @Test func brokenJSONNamesTheLine() throws {
    #expect(
      throws: malformed(line: 3, "a value is missing or unknown")
    ) {
      try load("{\n\"a\":\n?}")
    }
    #expect(
      throws: malformed(line: 1, "values are nested too deeply")
    ) {
      try load(#"{"a":"# + String(repeating: "[", count: 100_000))
    }
    #expect(
      throws: malformed(line: 1, "a string is not UTF-8")
    ) {
      try Tokenizer(json: [0x7B, 0x22, 0xFF, 0x22, 0x7D], file: "t.json")
    }
    let lines = good.count { $0 == "\n" } + 1
    #expect(
      throws: malformed(line: lines, "there is more text after the end of the value")
    ) { try load(good + "x") }
  }

  /// Every prefix of a valid file, and the file with any one byte changed, loads or throws an
  /// error.
  @Test func damageNeverCrashes() throws {
    let bytes = Array(good.utf8)
    for length in bytes.indices {
      #expect(throws: Problem.self) {
        try Tokenizer(json: Array(bytes[..<length]), file: "t.json")
      }
    }
    var errors = 0
    for position in bytes.indices {
      for byte in Array("\"\\{}[],:0-n \u{0}".utf8) + [0xFF] {
        var damaged = bytes
        damaged[position] = byte
        do {
          _ = try Tokenizer(json: damaged, file: "t.json").encode("ab <bos>\u{0}", addBOS: false)
        } catch {
          errors += 1
        }
      }
    }
    #expect(errors > bytes.count)
  }

  @Test func tokensThatLookTheSameAreRefused() throws {
    let flags =
      #""single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false"#
    let both = #"{"id": 5, "content": "x y", \#(flags)}, {"id": 6, "content": "x_y", \#(flags)}"#
    let found = try error(replacing: #""added_tokens": ["#, with: #""added_tokens": [\#(both), "#)
    #expect(found?.subject == [.file("t.json"), "added_tokens"])
    #expect(found?.problem.hasPrefix("another token looks the same in text as ") == true)
  }

  @Test func mergesMayStandBeforeTheVocabulary() throws {
    let vocabulary = #""vocab": {"<bos>": 0, "?": 1, "a": 2, "b": 3, "ab": 4}"#
    for merges in [#""merges": [["a", "b"]]"#, #""merges": ["a b"]"#] {
      let turned = good.replacing(
        #"\#(vocabulary), "merges": [["a", "b"]]"#, with: "\(merges), \(vocabulary)")
      #expect(turned != good)
      #expect(try load(turned).encode("ab", addBOS: false) == [4])
    }
  }

  @Test func aFileThatIsNotThere() {
    let path = TokenizerFixtures.folder.appending(path: "missing.json")
    let error = #expect(throws: Problem.self) { try Tokenizer(contentsOf: path) }
    #expect(error?.subject == [.file(path.path)])
    #expect(error?.problem.hasPrefix("can't read the tokenizer: ") == true)
  }
}
