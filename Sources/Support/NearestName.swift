/// Finds the name closest to a mistyped one.
public enum NearestName {
  /// - Returns: The closest name; nil if none is close enough to be a guess.
  public static func find(_ name: String, in names: [String]) -> String? {
    let ranked = names.map { ($0, distance(Array(name.lowercased()), Array($0.lowercased()))) }
    guard let best = ranked.min(by: { $0.1 < $1.1 }),
      best.1 <= (name.count < 4 ? 1 : max(2, name.count / 3))
    else { return nil }
    return best.0
  }

  /// The number of edits that turn one text into the other (Levenshtein).
  private static func distance(_ a: [Character], _ b: [Character]) -> Int {
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
      var previous = row[0]
      row[0] = i + 1
      for (j, y) in b.enumerated() {
        let substitution = previous + (x == y ? 0 : 1)
        previous = row[j + 1]
        row[j + 1] = min(substitution, previous + 1, row[j] + 1)
      }
    }
    return row[b.count]
  }
}
