/// Finds texts that are nearly the same.
///
/// Two texts are near duplicates if they share at least `similarity` of their runs of three words
/// (Jaccard index), ignoring case and punctuation. Every such pair is found: only texts that share
/// one of their rarest runs are compared, and pairs above the threshold always do.
package enum NearDuplicates {
  package static let similarity = 0.8

  /// The groups of texts that are connected by near duplicates.
  ///
  /// - Returns: For each group, the indices of its texts in ascending order; groups in the order of
  ///   their first text.
  package static func groups(of texts: [String]) -> [[Int]] {
    // Equal texts are found by their words alone, which also covers the shortest ones.
    var firstByWords: [[Substring]: Int] = [:]
    var groups = DisjointSets(count: texts.count)
    var distinct: [(index: Int, runs: [Int])] = []
    var runNumbers: [ArraySlice<Substring>: Int] = [:]
    var frequencies: [Int] = []
    for (index, text) in texts.enumerated() {
      let words = text.lowercased().split { !$0.isLetter && !$0.isNumber }
      guard !words.isEmpty else { continue }
      if let first = firstByWords[words] {
        groups.join(first, index)
        continue
      }
      firstByWords[words] = index
      var runs: Set<Int> = []
      for start in 0..<max(1, words.count - 2) {
        let run = words[start..<min(start + 3, words.count)]
        let number = runNumbers[run] ?? runNumbers.count
        if number == frequencies.count {
          runNumbers[run] = number
          frequencies.append(0)
        }
        if runs.insert(number).inserted { frequencies[number] += 1 }
      }
      distinct.append((index, Array(runs)))
    }
    join(distinct, frequencies, &groups)
    return groups.members.filter { $0.count > 1 }
  }

  private static func join(
    _ texts: [(index: Int, runs: [Int])], _ frequencies: [Int], _ groups: inout DisjointSets
  ) {
    // The rarest runs come first.
    let sorted = texts.map { text in
      text.runs.sorted { (frequencies[$0], $0) < (frequencies[$1], $1) }
    }
    let sets = sorted.map(Set.init)
    var places: [Int: [Int]] = [:]
    for (number, runs) in sorted.enumerated() {
      // Texts that share less than this of the runs at the start share too few of all.
      let needed = Int((similarity * Double(runs.count)).rounded(.up))
      var compared: Set<Int> = []
      for run in runs.prefix(runs.count - needed + 1) {
        for other in places[run] ?? [] where compared.insert(other).inserted {
          let shared = sets[number].intersection(sets[other]).count
          let all = runs.count + sets[other].count - shared
          if Double(shared) >= similarity * Double(all) {
            groups.join(texts[number].index, texts[other].index)
          }
        }
        places[run, default: []].append(number)
      }
    }
  }
}

/// Sets of numbers that are joined pair by pair.
private struct DisjointSets {
  private var parents: [Int]

  init(count: Int) { parents = Array(0..<count) }

  private mutating func root(of number: Int) -> Int {
    var root = number
    while parents[root] != root {
      parents[root] = parents[parents[root]]
      root = parents[root]
    }
    return root
  }

  /// The smaller root becomes the root of both.
  mutating func join(_ a: Int, _ b: Int) {
    let (a, b) = (root(of: a), root(of: b))
    parents[max(a, b)] = min(a, b)
  }

  /// The sets in the order of their first numbers.
  var members: [[Int]] {
    var copy = self
    let roots = parents.indices.map { copy.root(of: $0) }
    return Dictionary(grouping: parents.indices) { roots[$0] }.sorted { $0.key < $1.key }.map(
      \.value)
  }
}
