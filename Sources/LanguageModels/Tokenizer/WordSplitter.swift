/// Splits text into words as Qwen2's tokenizers do, before byte-pair encoding.
///
/// This is the regular expression `pattern`, written as a scanner: contractions, runs of letters
/// with at most one other character in front, single digits, runs of punctuation, and white space.
enum WordSplitter {
  /// The regular expression in `tokenizer.json`, which identifies this way of splitting.
  static let pattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"#
    + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#

  private enum Kind { case letter, number, lineEnd, space, other }

  private struct Symbol {
    let scalar: Unicode.Scalar
    let kind: Kind
    /// The index of the first byte.
    let start: Int

    var isWhiteSpace: Bool { kind == .space || kind == .lineEnd }
  }

  /// - Parameter text: Valid UTF-8.
  static func split(_ text: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
    let symbols = symbols(of: text)
    var words: [ArraySlice<UInt8>] = []
    var position = 0
    while position < symbols.count {
      let end = wordEnd(in: symbols, from: position)
      let stop = end < symbols.count ? symbols[end].start : text.endIndex
      words.append(text[symbols[position].start..<stop])
      position = end
    }
    return words
  }

  private static func symbols(of text: ArraySlice<UInt8>) -> [Symbol] {
    var symbols: [Symbol] = []
    symbols.reserveCapacity(text.count)
    var position = text.startIndex
    while position < text.endIndex {
      let scalar = scalar(text[position...])
      symbols.append(Symbol(scalar: scalar, kind: kind(scalar), start: position))
      position += scalarLength(leading: text[position])
    }
    return symbols
  }

  private static func kind(_ scalar: Unicode.Scalar) -> Kind {
    switch scalar {
    case "\r", "\n": return .lineEnd
    case "a"..."z", "A"..."Z": return .letter
    case "0"..."9": return .number
    default: break
    }
    if scalar.properties.isWhitespace { return .space }
    return switch scalar.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter:
      .letter
    case .decimalNumber, .letterNumber, .otherNumber: .number
    default: .other
    }
  }

  /// The end of the word that starts at a symbol: the first alternative of the pattern that
  /// matches.
  private static func wordEnd(in symbols: [Symbol], from start: Int) -> Int {
    func run(from first: Int, while belongs: (Symbol) -> Bool) -> Int {
      var end = first
      while end < symbols.count, belongs(symbols[end]) { end += 1 }
      return end
    }
    let first = symbols[start]
    if let end = contractionEnd(in: symbols, from: start) { return end }
    let letters =
      first.kind == .letter || first.kind == .lineEnd || first.kind == .number
      ? start : start + 1
    let afterLetters = run(from: letters) { $0.kind == .letter }
    if afterLetters > letters { return afterLetters }
    if first.kind == .number { return start + 1 }
    let others = first.scalar == " " ? start + 1 : start
    let afterOthers = run(from: others) { $0.kind == .other }
    if afterOthers > others { return run(from: afterOthers) { $0.kind == .lineEnd } }
    // Only white space is left.
    let end = run(from: start, while: \.isWhiteSpace)
    if let lineEnd = symbols[start..<end].lastIndex(where: { $0.kind == .lineEnd }) {
      return lineEnd + 1
    }
    // The last space before a word belongs to the word.
    return end == symbols.count || end == start + 1 ? end : end - 1
  }

  /// The end of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d` in any case.
  private static func contractionEnd(in symbols: [Symbol], from start: Int) -> Int? {
    guard symbols[start].scalar == "'", start + 1 < symbols.count else { return nil }
    let first = folded(symbols[start + 1].scalar)
    if ["s", "t", "m", "d"].contains(first) { return start + 2 }
    guard start + 2 < symbols.count else { return nil }
    switch (first, folded(symbols[start + 2].scalar)) {
    case ("r", "e"), ("v", "e"), ("l", "l"): return start + 3
    default: return nil
    }
  }

  /// The lower case of a Latin letter; the long s is an s in another case, too.
  private static func folded(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
    switch scalar {
    case "A"..."Z": Unicode.Scalar(UInt8(scalar.value) | 0x20)
    case "\u{17F}": "s"
    default: scalar
    }
  }
}
