import Support

/// The text of JSON objects, for changing single members.
struct JSONText: Sendable {
  private struct Member: Sendable {
    let key: String
    /// The range of the key, with its quotes.
    let place: Range<Int>
    let value: Range<Int>
  }

  /// The rows at odd positions, and the text between them at even ones.
  private var pieces: [[UInt8]] = []
  private let isList: Bool
  private let file: String

  var rowCount: Int { pieces.count / 2 }
  var bytes: [UInt8] { Array(pieces.joined()) }

  /// - Throws: `Issue` if the text is not a list of objects.
  init(list bytes: [UInt8], file: String) throws {
    try self.init(bytes, file: file, isList: true) { cursor throws(JSONError) in
      try cursor.beginArray()
      var rows: [Range<Int>] = []
      var isFirst = true
      while try cursor.nextElement(isFirst: &isFirst) { rows.append(try Self.row(&cursor)) }
      try cursor.expectEnd()
      return rows
    }
  }

  /// - Throws: `Issue` if a line is neither an object nor blank.
  init(lines bytes: [UInt8], file: String) throws {
    try self.init(bytes, file: file, isList: false) { cursor throws(JSONError) in
      var rows: [Range<Int>] = []
      while cursor.peek() != nil { rows.append(try Self.row(&cursor)) }
      return rows
    }
  }

  /// - Parameter rows: finds the places of the rows.
  private init(
    _ bytes: [UInt8], file: String, isList: Bool,
    rows: (inout JSONCursor) throws(JSONError) -> [Range<Int>]
  ) throws {
    self.file = file
    self.isList = isList
    let mark = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
    let found = Self.reading(bytes[mark...], rows)
    var last = 0
    for row in try Self.located(found, file) {
      let row = row.lowerBound + mark..<row.upperBound + mark
      pieces.append(Array(bytes[last..<row.lowerBound]))
      pieces.append(Array(bytes[row]))
      last = row.upperBound
    }
    pieces.append(Array(bytes[last...]))
    try checkRows()
  }

  private static func row(_ cursor: inout JSONCursor) throws(JSONError) -> Range<Int> {
    guard cursor.isNext("{") else { throw cursor.notJSON("a row is not an object") }
    let start = cursor.position
    try cursor.skipValue()
    return start..<cursor.position
  }

  private static func reading<R>(
    _ bytes: ArraySlice<UInt8>, _ body: (inout JSONCursor) throws(JSONError) -> R
  ) -> Result<R, JSONError> {
    bytes.withUnsafeBytes { text in
      var cursor = JSONCursor(text)
      return Result { () throws(JSONError) in try body(&cursor) }
    }
  }

  private static func located<R>(_ result: Result<R, JSONError>, _ file: String) throws -> R {
    do { return try result.get() } catch {
      throw Issue(
        [.file(file), .line(error.line)],
        "is not valid JSON: \(error.problem)")
    }
  }

  /// Parses every row once, so that changes can't fail later.
  private func checkRows() throws {
    for row in 0..<rowCount { _ = try Self.members(of: pieces[2 * row + 1], file: file) }
  }

  mutating func set(_ key: String, row: Int, to value: String) {
    let text = Self.quoted(value)
    var object = pieces[2 * row + 1]
    let members = members(ofRow: row)
    if let present = members.first(where: { $0.key == key }) {
      object.replaceSubrange(present.value, with: text)
    } else {
      if let last = members.last {
        // The separator is the text before the last member.
        let before = members.count > 1 ? members[members.count - 2].value.upperBound : 0
        let gap = object[before..<last.place.lowerBound].filter {
          $0 != UInt8(ascii: ",") && $0 != UInt8(ascii: "{")
        }
        let separator =
          gap.isEmpty && members.count == 1 && !isTight(row) ? [UInt8(ascii: " ")] : gap
        let colon = object[last.place.upperBound..<last.value.lowerBound]
        object.insert(
          contentsOf: [UInt8(ascii: ",")] + separator + Self.quoted(key) + colon + text,
          at: last.value.upperBound)
      } else {
        object =
          [UInt8(ascii: "{")] + Self.quoted(key) + Array(": ".utf8) + text + [UInt8(ascii: "}")]
      }
    }
    pieces[2 * row + 1] = object
  }

  /// Returns whether an object's only member has no space after its colon.
  private func isTight(_ row: Int) -> Bool {
    guard let member = members(ofRow: row).first else { return false }
    return pieces[2 * row + 1][member.value.lowerBound - 1] == UInt8(ascii: ":")
  }

  mutating func insert(_ values: [(column: String, value: String)], at row: Int) {
    let object = object(of: values, near: min(row, rowCount - 1))
    guard rowCount > 0 else { return insertFirst(object) }
    let separator = separator
    if row < rowCount {
      pieces.insert(contentsOf: [object, separator], at: 2 * row + 1)
    } else {
      pieces.insert(contentsOf: [separator, object], at: 2 * row)
    }
  }

  private mutating func insertFirst(_ object: [UInt8]) {
    guard isList, let bracket = pieces[0].firstIndex(of: UInt8(ascii: "[")) else {
      pieces += [object, Array("\n".utf8)]
      return
    }
    let end = pieces[0][(bracket + 1)...].drop { $0 != UInt8(ascii: "]") }
    pieces = [pieces[0][...bracket] + Array("\n  ".utf8), object, Array("\n".utf8) + end]
  }

  /// The text between two rows.
  private var separator: [UInt8] {
    if rowCount > 1 { return pieces[2] }
    guard isList else {
      return Array((pieces[2].starts(with: "\r\n".utf8) ? "\r\n" : "\n").utf8)
    }
    let start = pieces[0].firstIndex(of: UInt8(ascii: "[")).map { $0 + 1 } ?? pieces[0].endIndex
    return [UInt8(ascii: ",")] + pieces[0][start...]
  }

  /// Returns a new object in the layout of a row.
  ///
  /// Without another row that has members, the layout is that of Python's `json.dump` with
  /// `indent=2`, and of `json.dumps` in lines.
  ///
  /// - Parameter row: The row; negative for no row.
  private func object(of values: [(column: String, value: String)], near row: Int) -> [UInt8] {
    var start = Array((isList ? "\n    " : "").utf8)
    var separator = Array((isList ? ",\n    " : ", ").utf8)
    var colon = Array(": ".utf8)
    var end = Array((isList ? "\n  " : "").utf8)
    let candidates = row < 0 ? [] : [row] + (0..<rowCount)
    let model = candidates.first { !members(ofRow: $0).isEmpty }
    if let row = model, let first = members(ofRow: row).first, let last = members(ofRow: row).last {
      let (text, members) = (pieces[2 * row + 1], members(ofRow: row))
      start = Array(text[1..<first.place.lowerBound])
      separator =
        members.count > 1
        ? Array(text[first.value.upperBound..<members[1].place.lowerBound])
        : [UInt8(ascii: ",")] + (start.isEmpty && !isTight(row) ? [UInt8(ascii: " ")] : start)
      colon = Array(text[first.place.upperBound..<first.value.lowerBound])
      end = Array(text[last.value.upperBound..<text.count - 1])
    }
    let parts = values.map { Self.quoted($0.column) + colon + Self.quoted($0.value) }
    return [UInt8(ascii: "{")] + start + parts.joined(separator: separator) + end
      + [UInt8(ascii: "}")]
  }

  mutating func remove(_ key: String, row: Int) -> Bool {
    let members = members(ofRow: row)
    guard let index = members.firstIndex(where: { $0.key == key }) else { return false }
    // The comma before it is removed too, or the one after it for the first member.
    let start = index > 0 ? members[index - 1].value.upperBound : members[index].place.lowerBound
    let end =
      index > 0 || members.count == 1
      ? members[index].value.upperBound : members[index + 1].place.lowerBound
    pieces[2 * row + 1].removeSubrange(start..<end)
    return true
  }

  private func members(ofRow row: Int) -> [Member] {
    do {
      return try Self.members(of: pieces[2 * row + 1], file: file)
    } catch { preconditionFailure("a row that was parsed before: \(error)") }
  }

  private static func members(of object: [UInt8], file: String) throws -> [Member] {
    let found = reading(object[...]) { cursor throws(JSONError) in
      var members: [Member] = []
      try cursor.beginObject()
      var isFirst = true
      while let key = try cursor.nextKey(isFirst: &isFirst) {
        let place = cursor.lastString
        _ = cursor.peek()
        let start = cursor.position
        try cursor.skipValue()
        guard !members.contains(where: { $0.key == key }) else { throw cursor.duplicate(key) }
        members.append(Member(key: key, place: place, value: start..<cursor.position))
      }
      return members
    }
    return try located(found, file)
  }

  private static func quoted(_ text: String) -> [UInt8] { Array(JSON.quoted(text).utf8) }
}
