import Support

/// Signs that a caption is not a description of its clip.
package enum CaptionQuality {
  /// Whether a text is a model's refusal instead of a description.
  package static func isRefusal(_ caption: String) -> Bool {
    let text = caption.prefix(200).lowercased().replacing("’", with: "'")
      .trimmingPrefix { $0.isWhitespace }
    let openings = [
      "i'm sorry", "i am sorry", "sorry, ", "i apologize", "i cannot ", "i can't ", "i can not ",
      "i'm unable", "i am unable", "i'm not able", "i am not able", "i won't ", "as an ai",
      "as a language model", "unfortunately, i ", "i do not have the ability", "i don't have the",
    ]
    return openings.contains { text.hasPrefix($0) }
  }

  /// Whether a text of several sentences ends in the middle of one. Short captions and lists of
  /// words need no full stop.
  package static func isCut(_ caption: String) -> Bool {
    let text = caption.trimmingSuffix { $0.isWhitespace }
    guard text.count >= 200, let last = text.last, last.isLetter || last.isNumber || last == ","
    else { return false }
    // In Thai and other scripts without full stops nothing can be said.
    return text.dropLast().indices.contains { index in
      guard ".!?。！？".contains(text[index]) else { return false }
      let next = text.index(after: index)
      return next < text.endIndex && (text[next].isWhitespace || !text[next].isASCII)
    }
  }

  /// Whether a text is still wrapped in the JSON that a model was asked for.
  package static func isWrapped(_ caption: String) -> Bool {
    let text = caption.trimmingPrefix { $0.isWhitespace }
    return text.hasPrefix("{\"") || text.hasPrefix("```") || text.hasPrefix("<think>")
  }

  /// The problem of a caption, to be read after "the caption"; nil without one.
  package static func problem(of caption: String) -> String? {
    if isRefusal(caption) { return "is a refusal. Write it by hand, or caption the clip again" }
    if isWrapped(caption) {
      return "is wrapped in JSON, a code fence or thoughts. Remove them, or caption the clip again"
    }
    if isCut(caption) {
      return "ends in the middle of a sentence, so it was probably truncated. Complete it, or "
        + "caption the clip again with a higher limit on tokens"
    }
    return nil
  }
}

extension StringProtocol {
  fileprivate func trimmingPrefix(_ isDropped: (Character) -> Bool) -> SubSequence {
    drop(while: isDropped)
  }

  fileprivate func trimmingSuffix(_ isDropped: (Character) -> Bool) -> SubSequence {
    var end = endIndex
    while end > startIndex {
      let before = index(before: end)
      guard isDropped(self[before]) else { break }
      end = before
    }
    return self[..<end]
  }
}
