import Foundation
import Support

/// Turns the answer of a model into a caption.
public enum CaptionText {
  /// The caption without what models put around it: thoughts, JSON, code fences, an introduction
  /// such as "Sure! Here is the caption:", a closing offer, quotation marks.
  ///
  /// - Returns: The caption without surrounding whitespace; empty only for an empty answer.
  public static func cleaned(_ answer: String) -> String {
    let caption = CaptionAnswer(answer).caption
    let bare = Wrapping.removed(from: caption).strippedLikePython
    return bare.isEmpty ? caption : bare
  }
}

/// The text that chat models put around a caption.
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
