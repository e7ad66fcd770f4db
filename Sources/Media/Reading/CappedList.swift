/// The first lines of a list that can be long, and how many more there are.
///
/// - Parameter rest: makes the last line of the number of lines left out, such as `1,234`.
public func capped(_ lines: [String], at limit: Int = 20, rest: (String) -> String) -> [String] {
  guard lines.count > limit else { return lines }
  return lines.prefix(limit) + [rest(grouped(lines.count - limit))]
}
