import Foundation
import Support

/// The answer of a captioner, from which the caption is taken.
///
/// The rules are those of the official trainer (`ltx_trainer/captioning.py`): thoughts are removed,
/// and a caption in JSON, even one that was cut, is unwrapped.
public struct CaptionAnswer: Sendable {
  /// The key of the caption in an answer in JSON, which the default instructions ask for. It is the
  /// official trainer's, so that models that were tuned for it are understood.
  public static let key = "combined_caption_english"

  private static let thoughtStart = "<think>"
  private static let thoughtEnd = "</think>"

  /// The answer as the model wrote it.
  public let text: String

  public init(_ text: String) { self.text = text }

  /// The caption, without white space at its ends.
  public var caption: String {
    let answer = Self.withoutThoughts(text).strippedLikePython
    guard !answer.isEmpty else { return text.strippedLikePython }
    let caption =
      Self.caption(inObject: answer) ?? Self.captionInBraces(answer) ?? Self.captionInString(answer)
    return (caption ?? answer).strippedLikePython
  }

  /// Removes complete thoughts, and everything up to the end of a thought that the prompt began.
  private static func withoutThoughts(_ text: String) -> String {
    var rest = Substring(text)
    var result = ""
    while let start = rest.range(of: thoughtStart, options: .literal),
      let end = rest[start.upperBound...].range(of: thoughtEnd, options: .literal)
    {
      result += rest[..<start.lowerBound]
      rest = rest[end.upperBound...]
    }
    result += rest
    let last = result.range(of: thoughtEnd, options: [.backwards, .literal])
    return last.map { String(result[$0.upperBound...]) } ?? result
  }

  /// The caption of an answer that is a JSON object.
  private static func caption(inObject text: String) -> String? {
    (try? JSON(parsing: text))?[key]?.string
  }

  /// The caption of the first pair of braces without inner braces that names the key.
  private static func captionInBraces(_ text: String) -> String? {
    let scalars = text.unicodeScalars
    var start: String.Index?
    for index in scalars.indices {
      if scalars[index] == "{" { start = index }
      guard scalars[index] == "}", let first = start else { continue }
      let object = String(scalars[first...index])
      if object.contains("\"\(key)\"") { return caption(inObject: object) }
      start = nil
    }
    return nil
  }

  /// The caption in the string after the key, which may lack its end.
  private static func captionInString(_ text: String) -> String? {
    var rest = Substring(text)
    while let found = rest.range(of: "\"\(key)\"", options: .literal) {
      rest = rest[found.upperBound...]
      var value = rest.drop(while: isSpace)
      guard value.first == ":" else { continue }
      value = value.dropFirst().drop(while: isSpace)
      guard value.first == "\"" else { continue }
      let string = String(prefixOfString(value.dropFirst()))
      return (try? JSON(parsing: "\"\(string)\""))?.string ?? string
    }
    return nil
  }

  /// The text up to the closing quotation mark, or up to an escape that was cut.
  private static func prefixOfString(_ text: Substring) -> Substring {
    let scalars = text.unicodeScalars
    var index = scalars.startIndex
    while index < scalars.endIndex, scalars[index] != "\"" {
      guard scalars[index] == "\\" else {
        index = scalars.index(after: index)
        continue
      }
      let escaped = scalars.index(after: index)
      guard escaped < scalars.endIndex, scalars[escaped] != "\n" else { break }
      index = scalars.index(after: escaped)
    }
    return text[..<index]
  }

  private static func isSpace(_ character: Character) -> Bool {
    character.unicodeScalars.allSatisfy(\.isPythonSpace)
  }
}
