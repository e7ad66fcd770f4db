import Support

/// The tokens that are matched in raw text before any merging: `<bos>`, runs of line ends,
/// `<image_soft_token>`, ...
struct AddedTokens: Sendable {
  struct Token: Sendable, Equatable {
    var content: [UInt8]
    /// Whether the token matches only if no word character is next to it.
    var singleWord: Bool
    /// Whether the match includes the white space to its left (`rightStrip`: to its right).
    var leftStrip: Bool
    var rightStrip: Bool
    /// Whether the token's normalized form is matched in the normalized text, instead of the raw
    /// text.
    var normalized: Bool
    /// Whether `decode(_:skipSpecialTokens: true)` omits the token.
    var special: Bool
  }

  private(set) var ids: [[UInt8]: UInt32] = [:]
  private var tokens: [UInt32: Token] = [:]
  private var normalizedForms: [UInt32: [UInt8]] = [:]
  private var specials: Set<[UInt8]> = []
  private var rawTree = PrefixTree()
  private var normalizedTree = PrefixTree()

  enum Stage { case raw, normalized }

  /// Assigns the ids of the vocabulary; a token that isn't in it gets the next free id, regardless
  /// of the id in the file.
  ///
  /// - Throws: `Issue` if two tokens have the same text.
  init(_ list: [Token], vocabulary: [[UInt8]: UInt32], normalizer: Normalizer) throws(Issue) {
    var next = UInt32(vocabulary.count)
    for token in list where !token.content.isEmpty {
      let known = ids[token.content] ?? vocabulary[token.content]
      let id = known ?? next
      if known == nil { next += 1 }
      ids[token.content] = id
      tokens[id] = token
      if token.special { specials.insert(token.content) }
      if token.normalized { normalizedForms[id] = normalizer.normalize(token.content[...]) }
    }
    for (id, token) in tokens {
      let form = token.normalized ? normalizedForms[id] ?? token.content : token.content
      let isNew =
        token.normalized ? normalizedTree.insert(form, id: id) : rawTree.insert(form, id: id)
      guard isNew else {
        let content = String(decoding: token.content, as: UTF8.self)
        throw Issue("another token looks the same in text as \"\(content)\"")
      }
    }
  }

  /// The text of an id for decoding: normalized if the token is.
  func text(of id: UInt32) -> [UInt8]? { normalizedForms[id] ?? tokens[id]?.content }

  func isSpecial(_ text: [UInt8]) -> Bool { specials.contains(text) }

  /// Splits text at the added tokens; the leftmost match comes first, then the longest. Ranges
  /// without an id are plain text.
  func split(_ text: ArraySlice<UInt8>, stage: Stage) -> [(range: Range<Int>, id: UInt32?)] {
    let tree = stage == .raw ? rawTree : normalizedTree
    var parts: [(range: Range<Int>, id: UInt32?)] = []
    var done = text.startIndex
    var position = text.startIndex
    while position < text.endIndex {
      guard let match = tree.longestMatch(in: text, at: position) else {
        position += 1
        continue
      }
      var (start, end) = (position, match.end)
      // The search continues after the match itself, not after its white space.
      position = match.end
      guard let token = tokens[match.id] else { continue }
      if token.singleWord {
        let touchesLeft = lastScalar(text[..<start])?.scalar.isWord ?? false
        let touchesRight = end < text.endIndex && scalar(text[end...]).isWord
        if touchesLeft || touchesRight { continue }
      }
      if token.leftStrip {
        var newStart = start
        while let (last, at) = lastScalar(text[..<newStart]), last.properties.isWhitespace {
          newStart = at
        }
        start = max(newStart, done)
      }
      if token.rightStrip {
        while end < text.endIndex, scalar(text[end...]).properties.isWhitespace {
          end += scalarLength(leading: text[end])
        }
      }
      if done < start { parts.append((done..<start, nil)) }
      parts.append((min(start, end)..<end, match.id))
      done = end
    }
    if done < text.endIndex { parts.append((done..<text.endIndex, nil)) }
    return parts
  }
}

/// A set of byte strings that finds the longest one at a position.
private struct PrefixTree: Sendable {
  /// The child nodes by `node << 8 | byte`; node 0 is the root.
  private var children: [Int: Int] = [:]
  private var ids: [UInt32?] = [nil]
  /// Whether a byte starts any token: most positions of a text are rejected by this alone.
  private var starts = [Bool](repeating: false, count: 256)

  /// Returns false if the string already exists.
  mutating func insert(_ string: [UInt8], id: UInt32) -> Bool {
    guard let first = string.first else { return true }
    starts[Int(first)] = true
    var node = 0
    for byte in string {
      if let child = children[node << 8 | Int(byte)] {
        node = child
      } else {
        children[node << 8 | Int(byte)] = ids.count
        node = ids.count
        ids.append(nil)
      }
    }
    guard ids[node] == nil else { return false }
    ids[node] = id
    return true
  }

  func longestMatch(in text: ArraySlice<UInt8>, at start: Int) -> (id: UInt32, end: Int)? {
    guard starts[Int(text[start])] else { return nil }
    var best: (id: UInt32, end: Int)?
    var node = 0
    var position = start
    while position < text.endIndex, let child = children[node << 8 | Int(text[position])] {
      node = child
      position += 1
      if let id = ids[node] { best = (id, position) }
    }
    return best
  }
}
