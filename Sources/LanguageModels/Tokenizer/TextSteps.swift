// The other steps of a tokenizer.json: normalizer, pre-tokenizer, post-processor, decoder.

import Foundation

/// Changes of the text before it is split, applied in order.
struct Normalizer: Sendable {
  enum Step: Sendable {
    case replace(Replacement)
    /// Unicode's canonical composition (NFC).
    case compose
  }

  var steps: [Step]

  func normalize(_ text: ArraySlice<UInt8>) -> [UInt8] {
    steps.reduce(Array(text)) { text, step in
      switch step {
      case .replace(let replacement): replacement.apply(to: text)
      case .compose: Self.composed(text)
      }
    }
  }

  private static func composed(_ text: [UInt8]) -> [UInt8] {
    // Nothing below U+0300, the first combining mark, changes.
    guard text.contains(where: { $0 >= 0xCC }) else { return text }
    return Array(String(decoding: text, as: UTF8.self).precomposedStringWithCanonicalMapping.utf8)
  }
}

struct Replacement: Sendable {
  /// Not empty.
  var pattern: [UInt8]
  var content: [UInt8]

  func apply(to text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(text.count)
    for (range, isMatch) in matches(of: pattern, in: text[...]) {
      if isMatch { result += content } else { result += text[range] }
    }
    return result
  }
}

/// Splits text at a literal pattern (`Split`).
struct Splitter: Sendable {
  enum Behavior: String, Sendable {
    case removed = "Removed"
    case isolated = "Isolated"
    case mergedWithPrevious = "MergedWithPrevious"
    case mergedWithNext = "MergedWithNext"
    case contiguous = "Contiguous"
  }

  /// Not empty.
  var pattern: [UInt8]
  var behavior: Behavior
  /// Whether the text between the matches is the delimiter.
  var inverted: Bool

  func split(_ text: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
    let spans = matches(of: pattern, in: text).map {
      (range: $0.range, isMatch: $0.isMatch != inverted)
    }
    let ranges: [Range<Int>] =
      switch behavior {
      case .removed: spans.filter { !$0.isMatch }.map(\.range)
      case .isolated: spans.map(\.range)
      case .contiguous: joined(spans) { $0 == $1 }
      case .mergedWithPrevious: joined(spans) { previous, isMatch in isMatch && !previous }
      case .mergedWithNext:
        joined(spans.reversed()) { next, isMatch in isMatch && !next }.reversed()
      }
    return ranges.map { text[$0] }
  }

  /// Joins each span to the previous one, in the given order, if `joins(was match, is match)`.
  private func joined(
    _ spans: [(range: Range<Int>, isMatch: Bool)], where joins: (Bool, Bool) -> Bool
  ) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    var previous = false
    for (range, isMatch) in spans {
      if joins(previous, isMatch), let last = ranges.popLast() {
        ranges.append(
          min(last.lowerBound, range.lowerBound)..<max(last.upperBound, range.upperBound))
      } else {
        ranges.append(range)
      }
      previous = isMatch
    }
    return ranges
  }
}

/// One step from normalized text to the pieces that are encoded separately.
enum PreTokenizingStep: Sendable {
  case split(Splitter)
  /// Splits into words (`WordSplitter`).
  case words
  /// Spells the bytes of a piece in `ByteAlphabet`.
  case byteLevel

  func apply(to text: ArraySlice<UInt8>) -> [ArraySlice<UInt8>] {
    switch self {
    case .split(let splitter): splitter.split(text)
    case .words: WordSplitter.split(text)
    case .byteLevel: [ByteAlphabet.spell(text)[...]]
    }
  }
}

/// The ids that the post-processor adds around a single text.
struct Template: Sendable {
  var prefix: [UInt32] = []
  var suffix: [UInt32] = []
}

/// One step from token texts back to text.
enum DecodingStep: Sendable {
  case replace(Replacement)
  /// Joins runs of byte tokens into text; in a run that isn't UTF-8, each byte becomes U+FFFD.
  case byteFallback
  /// Joins the bytes that tokens spell in `ByteAlphabet`.
  case byteLevel
  case fuse

  func apply(to tokens: [[UInt8]]) -> [[UInt8]] {
    switch self {
    case .replace(let replacement): return tokens.map { replacement.apply(to: $0) }
    case .fuse: return [Array(tokens.joined())]
    case .byteLevel: return [tokens.flatMap { ByteAlphabet.bytes(of: $0) ?? $0 }]
    case .byteFallback:
      var result: [[UInt8]] = []
      var run: [UInt8] = []
      func flush() {
        guard !run.isEmpty else { return }
        if String(validating: run, as: UTF8.self) != nil {
          result.append(run)
        } else {
          result += run.map { _ in Array("\u{FFFD}".utf8) }
        }
        run = []
      }
      for token in tokens {
        if let byte = byteValue(token) {
          run.append(byte)
        } else {
          flush()
          result.append(token)
        }
      }
      flush()
      return result
    }
  }

  /// The value of `<0xNN>`, in upper or lower case. `tokenizers` also accepts `<0x+N>`, because
  /// Rust's number parser does.
  private func byteValue(_ token: [UInt8]) -> UInt8? {
    guard token.count == 6, token.starts(with: "<0x".utf8), token[5] == UInt8(ascii: ">") else {
      return nil
    }
    let digits = token[3] == UInt8(ascii: "+") ? token[4..<5] : token[3..<5]
    var value: UInt8 = 0
    for digit in digits {
      guard let digit = Character(Unicode.Scalar(digit)).hexDigitValue else { return nil }
      value = value << 4 | UInt8(digit)
    }
    return value
  }
}

/// Covers the text with spans that match the pattern (leftmost, not overlapping) and the spans
/// between them.
private func matches(
  of pattern: [UInt8], in text: ArraySlice<UInt8>
) -> [(range: Range<Int>, isMatch: Bool)] {
  var spans: [(range: Range<Int>, isMatch: Bool)] = []
  var done = text.startIndex
  var position = text.startIndex
  while position + pattern.count <= text.endIndex {
    guard text[position] == pattern[0], text[position...].starts(with: pattern) else {
      position += 1
      continue
    }
    if done < position { spans.append((done..<position, false)) }
    spans.append((position..<(position + pattern.count), true))
    position += pattern.count
    done = position
  }
  if done < text.endIndex { spans.append((done..<text.endIndex, false)) }
  return spans
}
