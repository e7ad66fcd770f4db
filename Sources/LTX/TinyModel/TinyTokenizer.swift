import Foundation
import Support

/// The tokenizer of the tiny model: the scheme of Gemma 3 or Gemma 4 with a small vocabulary, the
/// same at every call.
///
/// The vocabulary has control tokens, runs of spaces and lines, 256 bytes for text without a token,
/// pieces of English, and letters; the tokens of images follow.
package struct TinyTokenizer {
  /// The published tokenizer that it imitates: the two differ in their control tokens, and only
  /// Gemma 3's puts `<bos>` in front.
  package enum Family {
    case gemma3, gemma4

    /// The start and the end of a turn of a chat.
    var turn: [String] {
      self == .gemma3 ? ["<start_of_turn>", "<end_of_turn>"] : ["<|turn>", "<turn|>"]
    }

    /// The tokens of media, which follow the vocabulary.
    var media: [String] {
      switch self {
      case .gemma3: ["<start_of_image>", "<end_of_image>", "<image_soft_token>"]
      case .gemma4:
        [
          "<|image>", "<image|>", "<|image|>", "<|audio>", "<audio|>", "<|audio|>", "<|video|>",
        ]
      }
    }
  }

  private struct AddedToken {
    let id: Int
    let content: String
    let isSpecial: Bool
  }

  private let family: Family
  /// Tokens in the order of their ids.
  private let vocabulary: [String]
  private let merges: [Merge]
  private let added: [AddedToken]

  package let turnEnd: Int
  var imageStart: Int { media(0) }
  var imageEnd: Int { media(1) }
  var image: Int { media(2) }
  /// Rows of the embedding table: all tokens, and some that no text gives, like in the published
  /// model.
  package var embeddingCount: Int { (media(family.media.count - 1) + 64) / 64 * 64 }

  /// The id of one of the family's tokens of media.
  func media(_ index: Int) -> Int { vocabulary.count + index }

  /// - Parameters:
  ///   - sentences: The text whose words get tokens of their own.
  ///   - merges: The max number of pieces that are learned from it.
  package init(
    _ family: Family = .gemma3, sentences: [String] = TinyCaptions.sentences, merges: Int = 400
  ) {
    self.family = family
    let blank = "\u{2581}"  // stands for a space
    let special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    let turn = family.turn
    var vocabulary = special + ["<mask>", "[multimodal]"] + (0..<4).map { "<unused\($0)>" }
    turnEnd = vocabulary.count + 1
    vocabulary += turn
    vocabulary += (1...4).map { String(repeating: "\n", count: $0) }
    vocabulary += (2...8).map { String(repeating: blank, count: $0) }
    vocabulary += (1...2).map { String(repeating: "\t", count: $0) }
    vocabulary += ["<code>", "</code>", "<strong>", "</strong>"]
    var added = vocabulary.enumerated().map {
      AddedToken(id: $0, content: $1, isSpecial: special.contains($1) || turn.contains($1))
    }
    vocabulary += (0..<256).map {
      "<0x" + ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) + ">"
    }

    let trained = PairMerging.learn(from: sentences, count: merges)
    vocabulary += trained.map(\.result)
    var letters = [blank]
    for range in [
      0x21...0x7E, 0xC0...0xFF, 0x410...0x44F, 0x2013...0x2014, 0x2018...0x2019, 0x201C...0x201D,
    ] {
      letters += range.compactMap(Unicode.Scalar.init).map(String.init)
    }
    vocabulary += letters
    self.vocabulary = vocabulary
    self.merges =
      Self.runs(of: "\n", upTo: 4) + Self.runs(of: blank, upTo: 8) + Self.runs(of: "\t", upTo: 2)
      + trained

    for (offset, content) in family.media.enumerated() {
      added.append(AddedToken(id: vocabulary.count + offset, content: content, isSpecial: true))
    }
    self.added = added
  }

  /// A run is the union of any two shorter ones.
  private static func runs(of character: String, upTo longest: Int) -> [Merge] {
    (2...longest).flatMap { length in
      (1..<length).map { left in
        Merge(
          left: String(repeating: character, count: left),
          right: String(repeating: character, count: length - left))
      }
    }
  }

  /// `tokenizer.json` and the files that belong to it.
  func files() throws -> [(name: String, content: String)] {
    guard family == .gemma3 else {
      return [
        ("tokenizer.json", try tokenizerJSON()), ("tokenizer_config.json", Self.gemma4Config),
        ("chat_template.jinja", Self.gemma4ChatTemplate),
      ]
    }
    return [
      ("tokenizer.json", try tokenizerJSON()),
      ("tokenizer_config.json", try tokenizerConfig()),
      (
        "special_tokens_map.json",
        """
        {
          "bos_token": "<bos>",
          "eos_token": "<eos>",
          "pad_token": "<pad>",
          "unk_token": "<unk>",
          "boi_token": "<start_of_image>",
          "eoi_token": "<end_of_image>",
          "image_token": "<image_soft_token>"
        }
        """
      ),
      ("added_tokens.json", "{\n  \"<image_soft_token>\": \(image)\n}"),
      ("chat_template.json", "{\n  \"chat_template\": \(JSON.quoted(Self.chatTemplate))\n}"),
    ]
  }

  private static let chatTemplate =
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\\n' }}"
    + "{{ message['content'] | trim }}{{ '<end_of_turn>\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"

  private static let gemma4ChatTemplate =
    "{{ bos_token }}{% for message in messages %}{{ '<|turn>' + message['role'] + '\\n' }}"
    + "{{ message['content'] | trim }}{{ '<turn|>\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<|turn>model\\n' }}{% endif %}"

  /// Gemma 3's template, which begins every text with `<bos>`.
  private static let startTemplate = """
    {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [
          {"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
          {"SpecialToken": {"id": "<bos>", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}
        ],
        "special_tokens": {"<bos>": {"id": "<bos>", "ids": [2], "tokens": ["<bos>"]}}
      }
    """

  /// The content of `tokenizer.json`.
  package func tokenizerJSON() throws -> String {
    let added = try self.added.map { "    {\"id\": \($0.id), \(try Self.attributes($0))}" }
    let vocabulary = self.vocabulary.enumerated().map { "      \(JSON.quoted($1)): \($0)" }
    let merges = self.merges.map { "      [\(JSON.quoted($0.left)), \(JSON.quoted($0.right))]" }
    return """
      {
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [
      \(added.joined(separator: ",\n"))
        ],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        "pre_tokenizer": {
          "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false
        },
        "post_processor": \(family == .gemma3 ? Self.startTemplate : "null"),
        "decoder": {
          "type": "Sequence",
          "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"}
          ]
        },
        "model": {
          "type": "BPE",
          "dropout": null,
          "unk_token": "<unk>",
          "continuing_subword_prefix": null,
          "end_of_word_suffix": null,
          "fuse_unk": true,
          "byte_fallback": true,
          "ignore_merges": false,
          "vocab": {
      \(vocabulary.joined(separator: ",\n"))
          },
          "merges": [
      \(merges.joined(separator: ",\n"))
          ]
        }
      }
      """
  }

  private func tokenizerConfig() throws -> String {
    let added = try self.added.map { "    \"\($0.id)\": {\(try Self.attributes($0))}" }
    return """
      {
        "add_bos_token": true,
        "add_eos_token": false,
        "added_tokens_decoder": {
      \(added.joined(separator: ",\n"))
        },
        "boi_token": "<start_of_image>",
        "bos_token": "<bos>",
        "clean_up_tokenization_spaces": false,
        "eoi_token": "<end_of_image>",
        "eos_token": "<eos>",
        "extra_special_tokens": {
          "boi_token": "<start_of_image>",
          "eoi_token": "<end_of_image>",
          "image_token": "<image_soft_token>"
        },
        "image_token": "<image_soft_token>",
        "model_max_length": 1000000000000000019884624838656,
        "pad_token": "<pad>",
        "processor_class": "Gemma3Processor",
        "sp_model_kwargs": null,
        "spaces_between_special_tokens": false,
        "tokenizer_class": "GemmaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": false
      }
      """
  }

  private static let gemma4Config = """
    {
      "audio_token": "<|audio|>",
      "backend": "tokenizers",
      "boa_token": "<|audio>",
      "boi_token": "<|image>",
      "bos_token": "<bos>",
      "eoa_token": "<audio|>",
      "eoi_token": "<image|>",
      "eos_token": "<eos>",
      "image_token": "<|image|>",
      "mask_token": "<mask>",
      "model_max_length": 1000000000000000019884624838656,
      "pad_token": "<pad>",
      "padding_side": "left",
      "processor_class": "Gemma4UnifiedProcessor",
      "tokenizer_class": "GemmaTokenizer",
      "unk_token": "<unk>"
    }
    """

  private static func attributes(_ token: AddedToken) throws -> String {
    "\"content\": \(JSON.quoted(token.content)), \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
      + "\"normalized\": false, \"special\": \(token.isSpecial)"
  }
}
