import Foundation

@testable import LanguageModels

/// The files that Tests/Oracles/tokenizer.py wrote.
enum TokenizerFixtures {
  static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent()
    .appending(path: "Fixtures/tokenizer")

  static let tokenizerFile = folder.appending(path: "tokenizer.json")

  struct Case: Decodable {
    var text: String
    var ids: [Int]
    var decoded: String
    /// The text decoded without special tokens, if it differs.
    var skipped: String?
  }

  struct Prompt: Decodable {
    var text: String
    var length: Int
    var used: Int
    var ids: [Int]
    var pad: Int
  }

  struct Decoding: Decodable {
    var ids: [Int]
    var decoded: String
    var skipped: String
  }

  struct Cases: Decodable {
    var size: Int
    var cases: [Case]
    var prompts: [Prompt]
    var decoded: [Decoding]
  }

  struct Variant {
    var name: String
    /// The content of its tokenizer.json.
    var json: [UInt8]
    var size: Int
    /// The decoded text of each single id.
    var each: [String]
    var cases: [Case]
    /// The ids of "ab" with the template around it.
    var framed: [Int]
  }

  static func cases() throws -> Cases {
    try JSONDecoder().decode(
      Cases.self, from: Data(contentsOf: folder.appending(path: "cases.json")))
  }

  static func variants() throws -> [Variant] {
    struct Missing: Error {}
    let data = try Data(contentsOf: folder.appending(path: "variants.json"))
    guard let root = try JSONSerialization.jsonObject(with: data) as? [String: Any],
      let list = root["variants"] as? [[String: Any]]
    else { throw Missing() }
    return try list.map { variant in
      guard let name = variant["name"] as? String, let parts = variant["tokenizer"],
        let size = variant["size"] as? Int, let each = variant["each"] as? [String],
        let cases = variant["cases"], let framed = variant["framed"] as? [Int]
      else { throw Missing() }
      return Variant(
        name: name, json: Array(try JSONSerialization.data(withJSONObject: parts)), size: size,
        each: each,
        cases: try JSONDecoder().decode(
          [Case].self, from: JSONSerialization.data(withJSONObject: cases)),
        framed: framed)
    }
  }
}

/// A text in which every scalar is visible, so that failures and comparisons don't hide canonical
/// equivalence.
func scalars(_ text: String) -> String {
  text.unicodeScalars.map { $0.escaped(asASCII: true) }.joined()
}
