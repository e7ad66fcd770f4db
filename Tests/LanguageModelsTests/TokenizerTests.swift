import Foundation
import Support
import Testing

@testable import LanguageModels

/// Compares ids and texts with Hugging Face's `tokenizers`, exactly.
@Suite struct TokenizerTests {
  let tokenizer: Tokenizer
  let fixture: TokenizerFixtures.Cases

  init() throws {
    tokenizer = try Tokenizer(contentsOf: TokenizerFixtures.tokenizerFile)
    fixture = try TokenizerFixtures.cases()
  }

  @Test func idsOfEveryText() throws {
    #expect(fixture.cases.count > 200)
    for sample in fixture.cases {
      #expect(
        try tokenizer.encode(sample.text, addBOS: false) == sample.ids, "\(scalars(sample.text))")
      #expect(
        try tokenizer.encode(sample.text, addBOS: true) == [2] + sample.ids,
        "\(scalars(sample.text))")
    }
  }

  @Test func textOfEveryIDSequence() {
    for sample in fixture.cases {
      let decoded = tokenizer.decode(sample.ids, skipSpecialTokens: false)
      #expect(scalars(decoded) == scalars(sample.decoded))
      let skipped = tokenizer.decode(sample.ids, skipSpecialTokens: true)
      #expect(scalars(skipped) == scalars(sample.skipped ?? sample.decoded))
    }
    for sample in fixture.decoded {
      #expect(
        scalars(tokenizer.decode(sample.ids, skipSpecialTokens: false)) == scalars(sample.decoded),
        "\(sample.ids)")
      #expect(
        scalars(tokenizer.decode(sample.ids, skipSpecialTokens: true)) == scalars(sample.skipped),
        "\(sample.ids)")
    }
    #expect(tokenizer.decode([-1, Int.max, Int.min], skipSpecialTokens: false) == "")
  }

  @Test func promptsAreStrippedFramedCutAndPaddedOnTheLeft() throws {
    #expect(fixture.prompts.contains { $0.used == 1024 })
    for prompt in fixture.prompts {
      let (ids, mask) = try tokenizer.encodePrompt(prompt.text, maxLength: prompt.length)
      let padding = prompt.length - prompt.used
      #expect(
        ids == Array(repeating: prompt.pad, count: padding) + prompt.ids,
        "\(scalars(prompt.text.prefix(99).description))")
      #expect(mask == Array(repeating: 0, count: padding) + Array(repeating: 1, count: prompt.used))
    }
    let empty = try tokenizer.encodePrompt("")
    #expect(empty.ids == Array(repeating: 0, count: 1023) + [2])
    #expect(empty.mask == Array(repeating: 0, count: 1023) + [1])
  }

  @Test func lengthsWithoutRoomAreErrors() throws {
    #expect(try tokenizer.encodePrompt("a cat", maxLength: 1).ids == [2])
    for length in [0, -1] {
      let problem = "a prompt of \(length) tokens has no room for the 1 that are always added"
      #expect(throws: Support.Issue(problem)) {
        try tokenizer.encodePrompt("a cat", maxLength: length)
      }
    }
  }

  @Test func everyOptionOfTheFormat() throws {
    for variant in try TokenizerFixtures.variants() {
      let tokenizer = try Tokenizer(json: variant.json, file: variant.name)
      #expect(tokenizer.vocabularySize == variant.size, "\(variant.name)")
      for (id, text) in variant.each.enumerated() {
        #expect(
          scalars(tokenizer.decode([id], skipSpecialTokens: false)) == scalars(text),
          "\(variant.name)")
      }
      for sample in variant.cases {
        let place: Comment = "\(variant.name): \(scalars(sample.text))"
        #expect(try tokenizer.encode(sample.text, addBOS: false) == sample.ids, place)
        let decoded = tokenizer.decode(sample.ids, skipSpecialTokens: false)
        #expect(scalars(decoded) == scalars(sample.decoded), place)
        let skipped = tokenizer.decode(sample.ids, skipSpecialTokens: true)
        #expect(scalars(skipped) == scalars(sample.skipped ?? sample.decoded), place)
      }
    }
  }

  @Test func templatesKeepTheirRoomWhenTextIsCut() throws {
    let variant = try #require(
      try TokenizerFixtures.variants().first { $0.name == "template around" })
    // This template puts [1, 5] before the text and twice after it; the vocabulary has no <bos> to
    // put first.
    #expect(variant.framed == [1, 5, 8, 1, 5, 1, 5])
    let tokenizer = try Tokenizer(json: variant.json, file: "small.json")
    let missing = Support.Issue(
      [.file("small.json")], "the vocabulary has no token <bos>",
      suggestion: "Use the tokenizer of a Gemma text encoder.")
    #expect(throws: missing) {
      try tokenizer.encode("ab", addBOS: true)
    }
    let text = try #require(String(bytes: variant.json, encoding: .utf8))
    let renamed = try Tokenizer(
      json: Array(
        text.replacing("\"a\":1", with: "\"<bos>\":1").replacing(
          "\"merges\":[", with: "\"merges\":[],\"x\":["
        ).utf8),
      file: "small.json")
    #expect(try renamed.encode("ab", addBOS: true).starts(with: [1, 5]))
    #expect(try renamed.framed("bbbb", maxLength: 8) == [1, 5, 2, 2, 1, 5, 1, 5])
    let problem = "a prompt of 5 tokens has no room for the 6 that are always added"
    #expect(throws: Support.Issue(problem)) {
      try renamed.framed("b", maxLength: 5)
    }
  }

  @Test func tokensAreScalarsAndNotTheirCanonicalEquivalents() throws {
    let precomposed = try #require(tokenizer.id(of: "\u{C5}"))
    let angstrom = try #require(tokenizer.id(of: "\u{212B}"))
    #expect(precomposed != angstrom)
    #expect(tokenizer.id(of: "A\u{30A}") == nil)
    #expect(try tokenizer.encode("\u{C5}\u{212B}", addBOS: false) == [precomposed, angstrom])
  }

  @Test func idsOfTokens() {
    #expect(tokenizer.id(of: "<pad>") == 0)
    #expect(tokenizer.id(of: "<bos>") == 2)
    #expect(tokenizer.id(of: "<image_soft_token>") == fixture.size - 1)
    #expect(tokenizer.id(of: "no such token") == nil)
    #expect(tokenizer.vocabularySize == fixture.size)
  }

  /// One piece of 300,000 scalars takes seconds in a debug build, but would take hours if merging
  /// were quadratic.
  @Test(.timeLimit(.minutes(1))) func longTextsTakeTimeInProportion() throws {
    let unit = "the camera pans over a harbour "
    let once = try tokenizer.encode(unit, addBOS: false)
    let many = try tokenizer.encode(String(repeating: unit, count: 10_000), addBOS: false)
    #expect(many.count > 10_000 * (once.count - 2))
    #expect(
      tokenizer.decode(many, skipSpecialTokens: false) == String(repeating: unit, count: 10_000))
  }
}
