/// Byte-pair encoding over Unicode scalars, with the byte fallback of SentencePiece.
///
/// Follows the `BPE` model of Hugging Face `tokenizers`: it starts from one symbol per scalar, then
/// merges the adjacent pair of the lowest rank, leftmost first, until no adjacent pair can be
/// merged. A heap of candidate pairs makes it O(n log n) in the length of a piece, which matters
/// because Gemma's whole prompt is one piece.
struct BytePairEncoding: Sendable {
  /// Ids of the tokens by UTF-8 bytes: canonically equivalent tokens would collide as `String`
  /// keys.
  let ids: [[UInt8]: UInt32]
  let tokens: [UInt32: [UInt8]]
  /// The ids of single-scalar tokens, for the first step.
  private let scalarIDs: [Unicode.Scalar: UInt32]
  private let merges: Merges
  /// The ids of `<0x00>` to `<0xFF>`; nil if the vocabulary lacks one. Empty without byte fallback.
  private let byteIDs: [UInt32?]
  private let unknownID: UInt32?
  private let fusesUnknown: Bool
  /// Whether a piece that is a token as a whole is not split.
  private let ignoresMerges: Bool

  /// The merges: the rank of a pair of ids (`left << 32 | right`), and the resulting id of each
  /// rank.
  struct Merges: Sendable {
    var ranks: [UInt64: UInt32] = [:]
    var results: [UInt32] = []

    /// Adds the merge of the next rank. If a pair is listed twice, its last rank is used.
    mutating func append(_ left: UInt32, _ right: UInt32, makes result: UInt32) {
      ranks[UInt64(left) << 32 | UInt64(right)] = UInt32(results.count)
      results.append(result)
    }

    func rank(_ left: UInt32, _ right: UInt32) -> UInt32? {
      ranks[UInt64(left) << 32 | UInt64(right)]
    }
  }

  init(
    ids: [[UInt8]: UInt32], merges: Merges, unknownID: UInt32?, byteFallback: Bool,
    fusesUnknown: Bool,
    ignoresMerges: Bool
  ) {
    self.ids = ids
    self.merges = merges
    self.unknownID = unknownID
    self.fusesUnknown = fusesUnknown
    self.ignoresMerges = ignoresMerges
    byteIDs = byteFallback ? Self.byteTokens.map { ids[$0] } : []
    var tokens: [UInt32: [UInt8]] = [:]
    tokens.reserveCapacity(ids.count)
    var scalarIDs: [Unicode.Scalar: UInt32] = [:]
    for (token, id) in ids {
      tokens[id] = token
      if let first = token.first, token.count == scalarLength(leading: first) {
        scalarIDs[scalar(token[...])] = id
      }
    }
    self.tokens = tokens
    self.scalarIDs = scalarIDs
  }

  /// `<0x00>` to `<0xFF>`.
  static let byteTokens: [[UInt8]] = {
    let digits = Array("0123456789ABCDEF".utf8)
    return (0..<256).map {
      Array("<0x".utf8) + [digits[$0 >> 4], digits[$0 & 15]] + Array(">".utf8)
    }
  }()

  /// Appends the ids of one piece of UTF-8 text.
  func encode(_ piece: ArraySlice<UInt8>, into output: inout [UInt32]) {
    if ignoresMerges, let id = ids[Array(piece)] {
      output.append(id)
      return
    }
    var symbols = firstSymbols(piece)
    mergeAll(&symbols)
    output += symbols
  }

  /// Returns one symbol per scalar; a scalar that isn't a token becomes bytes or the unknown token.
  private func firstSymbols(_ piece: ArraySlice<UInt8>) -> [UInt32] {
    var symbols: [UInt32] = []
    symbols.reserveCapacity(piece.count)
    var pendingUnknown: UInt32?
    var position = piece.startIndex
    while position < piece.endIndex {
      let end = min(position + scalarLength(leading: piece[position]), piece.endIndex)
      let bytes = piece[position..<end]
      position = end
      if let id = scalarIDs[scalar(bytes)] {
        if let unknown = pendingUnknown { symbols.append(unknown) }
        pendingUnknown = nil
        symbols.append(id)
        continue
      }
      if !byteIDs.isEmpty {
        let fallback = bytes.compactMap { byteIDs[Int($0)] }
        if fallback.count == bytes.count {
          // A pending unknown token remains pending: `tokenizers` puts it after these bytes as
          // well.
          symbols += fallback
          continue
        }
      }
      if let unknown = pendingUnknown, !fusesUnknown { symbols.append(unknown) }
      pendingUnknown = unknownID
    }
    if let unknown = pendingUnknown { symbols.append(unknown) }
    return symbols
  }

  /// Merges in place. `next` and `previous` link the remaining symbols; -1 ends the list.
  private func mergeAll(_ symbols: inout [UInt32]) {
    let count = symbols.count
    guard count > 1 else { return }
    var next = (0..<count).map { $0 + 1 < count ? $0 + 1 : -1 }
    var previous = (0..<count).map { $0 - 1 }
    var removed = [Bool](repeating: false, count: count)
    var heap = MinHeap()
    for position in 0..<(count - 1) {
      if let rank = merges.rank(symbols[position], symbols[position + 1]) {
        heap.push(UInt64(rank) << 32 | UInt64(position))
      }
    }
    while let candidate = heap.pop() {
      let position = Int(candidate & 0xFFFF_FFFF)
      let result = merges.results[Int(candidate >> 32)]
      guard !removed[position], next[position] >= 0 else { continue }
      let right = next[position]
      // The candidate is outdated if the current pair gives another token.
      guard let rank = merges.rank(symbols[position], symbols[right]),
        merges.results[Int(rank)] == result
      else { continue }
      symbols[position] = result
      removed[right] = true
      next[position] = next[right]
      if next[right] >= 0 { previous[next[right]] = position }
      if previous[position] >= 0, let rank = merges.rank(symbols[previous[position]], result) {
        heap.push(UInt64(rank) << 32 | UInt64(previous[position]))
      }
      if next[position] >= 0, let rank = merges.rank(result, symbols[next[position]]) {
        heap.push(UInt64(rank) << 32 | UInt64(position))
      }
    }
    var kept = 0
    for position in 0..<count where !removed[position] {
      symbols[kept] = symbols[position]
      kept += 1
    }
    symbols.removeLast(count - kept)
  }
}

/// A binary heap, smallest first, of `rank << 32 | position`, so that equal ranks are merged from
/// left to right.
private struct MinHeap {
  private var items: [UInt64] = []

  mutating func push(_ item: UInt64) {
    var child = items.count
    items.append(item)
    while child > 0 {
      let parent = (child - 1) / 2
      guard items[parent] > item else { break }
      items[child] = items[parent]
      child = parent
    }
    items[child] = item
  }

  mutating func pop() -> UInt64? {
    guard let smallest = items.first, let item = items.popLast() else { return nil }
    guard !items.isEmpty else { return smallest }
    var parent = 0
    while true {
      var child = 2 * parent + 1
      guard child < items.count else { break }
      if child + 1 < items.count, items[child + 1] < items[child] { child += 1 }
      guard items[child] < item else { break }
      items[parent] = items[child]
      parent = child
    }
    items[parent] = item
    return smallest
  }
}
