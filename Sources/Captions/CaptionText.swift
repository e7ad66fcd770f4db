import Foundation
import Support

/// Turns the answer of a model into a caption.
public enum CaptionText {
  /// The key of the JSON object that the default instructions ask for. It is the official trainer's,
  /// so that models that were tuned for it are understood.
  public static let key = "combined_caption_english"

  /// The caption without what models put around it: thoughts, JSON, code fences, an introduction
  /// such as "Sure! Here is the caption:", a closing offer, quotation marks.
  ///
  /// - Returns: The caption without surrounding whitespace; empty only for an empty answer.
  public static func cleaned(_ answer: String) -> String {
    let caption = extracted(from: answer)
    let bare = trimmed(Wrapping.removed(from: caption))
    return bare.isEmpty ? caption : bare
  }

  /// The caption in an answer by the rules of the official trainer, in this order: every
  /// `<think>…</think>` is removed; after a lone `</think>`, the rest counts; if nothing is left,
  /// the whole answer. Then the value of `key` in a JSON object, in the first pair of braces
  /// without inner braces that holds the key, or in text that ends in the middle of the value.
  /// Otherwise the text itself.
  public static func extracted(from answer: String) -> String {
    var text = trimmed(withoutThoughts(answer))
    if let end = text.range(of: "</think>", options: [.backwards, .literal]) {
      text = trimmed(String(text[end.upperBound...]))
    }
    if text.isEmpty { return trimmed(answer) }
    let bytes = Array(text.utf8)
    let found = value(inObject: bytes[...]) ?? valueInBraces(bytes) ?? valueOfKey(bytes)
    return found.map(trimmed) ?? text
  }

  private static func trimmed(_ text: String) -> String {
    text.trimmingCharacters(in: .whitespacesAndNewlines)
  }

  private static func withoutThoughts(_ answer: String) -> String {
    var result = ""
    var rest = answer[...]
    while let start = rest.range(of: "<think>", options: .literal),
      let end = rest[start.upperBound...].range(of: "</think>", options: .literal)
    {
      result += rest[..<start.lowerBound]
      rest = rest[end.upperBound...]
    }
    return result + rest
  }

  private static func value(inObject text: ArraySlice<UInt8>) -> String? {
    // Text that isn't JSON is read by the next rule.
    (try? JSON(parsing: text))?[key]?.string
  }

  /// The value in the first `{…}` without inner braces that holds the quoted key.
  private static func valueInBraces(_ text: [UInt8]) -> String? {
    let quotedKey = Array("\"\(key)\"".utf8)
    var start: Int?
    for (index, byte) in text.enumerated() {
      switch byte {
      case UInt8(ascii: "{"): start = index
      case UInt8(ascii: "}"):
        if let first = start, text[first...index].firstRange(of: quotedKey) != nil {
          return value(inObject: text[first...index])
        }
        start = nil
      default: break
      }
    }
    return nil
  }

  /// The string after the quoted key and a colon, up to its closing quote or the end of the text.
  private static func valueOfKey(_ text: [UInt8]) -> String? {
    let quotedKey = Array("\"\(key)\"".utf8)
    var rest = text[...]
    while let found = rest.firstRange(of: quotedKey) {
      rest = rest[found.upperBound...]
      var value = rest.drop(while: isBlank)
      guard value.first == UInt8(ascii: ":") else { continue }
      value = value.dropFirst().drop(while: isBlank)
      guard value.first == UInt8(ascii: "\"") else { continue }
      return unescaped(stringContent(value.dropFirst()))
    }
    return nil
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || (9...13).contains(byte)
  }

  /// The text up to a quote that is not escaped, without an escape that was cut.
  private static func stringContent(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var index = text.startIndex
    while index < text.endIndex, text[index] != UInt8(ascii: "\"") {
      if text[index] == UInt8(ascii: "\\") {
        guard index + 1 < text.endIndex, text[index + 1] != UInt8(ascii: "\n") else { break }
        index += 1
      }
      index += 1
    }
    return text[..<index]
  }

  private static func unescaped(_ text: ArraySlice<UInt8>) -> String {
    let quote = [UInt8(ascii: "\"")]
    // Invalid escapes and line ends stay as the model wrote them.
    return (try? JSON(parsing: quote + text + quote))?.string
      ?? String(decoding: text, as: UTF8.self)
  }
}

/// What chat models put around a caption.
private enum Wrapping {
  static func removed(from caption: String) -> String {
    var text = withoutFence(caption.trimmingCharacters(in: .whitespacesAndNewlines))
    text = withoutIntroduction(text)
    text = withoutClosing(text)
    return withoutQuotes(text.trimmingCharacters(in: .whitespacesAndNewlines))
  }

  /// A code fence around the whole text.
  private static func withoutFence(_ text: String) -> String {
    guard text.hasPrefix("```"), text.hasSuffix("```"), text.count > 6,
      let lineEnd = text.firstIndex(where: \.isNewline)
    else { return text }
    return String(text[text.index(after: lineEnd)...].dropLast(3))
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }

  /// "Sure!", "Here is a detailed caption of the video:", "**Caption:**".
  private static func withoutIntroduction(_ text: String) -> String {
    let courtesy =
      #/
      ^ (?: sure | certainly | of\ course | absolutely | okay | ok ) \b (?: \ thing )? [,.!:]* \s*
      /#.ignoresCase()
    let announcement =
      #/
      ^ (?: \*\* | \#+\ * )? (?: here (?: \ is | ['’]s ) | below\ is | the\ following\ is | this\ is )
      \b [^:.\n]{0,160} \b (?: caption | description | prompt ) \b [^:.\n]{0,160} : (?: \*\* )? \s*
      /#.ignoresCase()
    let label =
      #/
      ^ (?: \*\* | \#+\ * )? (?: (?: detailed | combined | final | video | image | audio | clip ) \  )*
      (?: caption | description ) (?: \*\* )? \ * : (?: \*\* )? \s*
      /#.ignoresCase()
    var rest = text[...]
    // "Okay, the man says" is a caption; "Sure! Here is the caption:" is not.
    let afterCourtesy = rest.trimmingPrefix(courtesy)
    let isAlone = text[..<afterCourtesy.startIndex].contains(where: \.isNewline)
    if afterCourtesy.startIndex > rest.startIndex,
      isAlone || afterCourtesy.prefixMatch(of: announcement) != nil
    {
      rest = afterCourtesy
    }
    rest = rest.trimmingPrefix(announcement)
    rest = rest.trimmingPrefix(label)
    return String(rest)
  }

  /// A last paragraph that speaks to the user.
  private static func withoutClosing(_ text: String) -> String {
    guard let end = text.range(of: "\n\n", options: [.backwards, .literal]) else { return text }
    let closing =
      #/
      ^ \s* (?: let\ me\ know | i\ hope\ this | feel\ free\ to | would\ you\ like
        | if\ you (?: ['’]d | \ would ) \ like ) \b
      /#.ignoresCase()
    return text[end.upperBound...].prefixMatch(of: closing) == nil
      ? text : String(text[..<end.lowerBound])
  }

  /// Quotation marks around the whole text.
  private static func withoutQuotes(_ text: String) -> String {
    for (open, close) in [("\"", "\""), ("“", "”")] as [(Character, Character)]
    where text.count > 2 && text.first == open && text.last == close {
      let inner = text.dropFirst().dropLast()
      if !inner.contains(open), !inner.contains(close) { return String(inner) }
    }
    return text
  }
}
