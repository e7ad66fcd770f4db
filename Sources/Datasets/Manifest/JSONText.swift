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
  private let file: String

  var rowCount: Int { pieces.count / 2 }
  var bytes: [UInt8] { Array(pieces.joined()) }

  /// - Throws: `PreprocessingError` if the text is not a list of objects.
  init(list bytes: [UInt8], file: String) throws {
    self.file = file
    var scanner = JSONScanner(bytes, file: file)
    scanner.skipByteOrderMark()
    scanner.skipBlanks()
    try scanner.expect("[")
    scanner.skipBlanks()
    var last = 0
    if !scanner.take("]") {
      repeat {
        scanner.skipBlanks()
        let start = scanner.position
        guard scanner.next == UInt8(ascii: "{") else {
          throw scanner.error("a row is not an object")
        }
        try scanner.skipValue()
        pieces.append(Array(bytes[last..<start]))
        pieces.append(Array(bytes[start..<scanner.position]))
        last = scanner.position
        scanner.skipBlanks()
      } while scanner.take(",")
      try scanner.expect("]")
    }
    scanner.skipBlanks()
    guard scanner.next == nil else { throw scanner.error("text follows the list") }
    pieces.append(Array(bytes[last...]))
    try checkRows()
  }

  /// - Throws: `PreprocessingError` if a line is neither an object nor blank.
  init(lines bytes: [UInt8], file: String) throws {
    self.file = file
    var scanner = JSONScanner(bytes, file: file)
    scanner.skipByteOrderMark()
    scanner.skipBlanks()
    var last = 0
    while scanner.next != nil {
      let start = scanner.position
      guard scanner.next == UInt8(ascii: "{") else { throw scanner.error("a row is not an object") }
      try scanner.skipValue()
      pieces.append(Array(bytes[last..<start]))
      pieces.append(Array(bytes[start..<scanner.position]))
      last = scanner.position
      scanner.skipBlanks()
    }
    pieces.append(Array(bytes[last...]))
    try checkRows()
  }

  /// Parses every row once, so that changes can't fail later.
  private func checkRows() throws {
    for row in 0..<rowCount { _ = try Self.members(of: pieces[2 * row + 1], file: file) }
  }

  mutating func set(_ key: String, row: Int, to value: String) {
    let text = Self.quoted(value)
    var object = pieces[2 * row + 1]
    let members = members(ofRow: row)
    let present = members.filter { $0.key == key }
    if present.isEmpty {
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
    } else {
      for member in present.reversed() { object.replaceSubrange(member.value, with: text) }
    }
    pieces[2 * row + 1] = object
  }

  /// Returns whether an object's only member has no space after its colon.
  private func isTight(_ row: Int) -> Bool {
    guard let member = members(ofRow: row).first else { return false }
    return pieces[2 * row + 1][member.value.lowerBound - 1] == UInt8(ascii: ":")
  }

  mutating func remove(_ key: String, row: Int) -> Bool {
    var found = false
    while true {
      let members = members(ofRow: row)
      guard let index = members.firstIndex(where: { $0.key == key }) else { return found }
      found = true
      // The comma before it is removed too, or the one after it for the first member.
      let start = index > 0 ? members[index - 1].value.upperBound : members[index].place.lowerBound
      let end =
        index > 0 || members.count == 1
        ? members[index].value.upperBound : members[index + 1].place.lowerBound
      pieces[2 * row + 1].removeSubrange(start..<end)
    }
  }

  private func members(ofRow row: Int) -> [Member] {
    do {
      return try Self.members(of: pieces[2 * row + 1], file: file)
    } catch { preconditionFailure("a row that was parsed before: \(error)") }
  }

  private static func members(of object: [UInt8], file: String) throws -> [Member] {
    var scanner = JSONScanner(object, file: file)
    try scanner.expect("{")
    scanner.skipBlanks()
    var members: [Member] = []
    if scanner.take("}") { return members }
    repeat {
      scanner.skipBlanks()
      let keyStart = scanner.position
      let key = try scanner.string()
      let place = keyStart..<scanner.position
      scanner.skipBlanks()
      try scanner.expect(":")
      scanner.skipBlanks()
      let start = scanner.position
      try scanner.skipValue()
      members.append(Member(key: key, place: place, value: start..<scanner.position))
      scanner.skipBlanks()
    } while scanner.take(",")
    try scanner.expect("}")
    return members
  }

  /// Returns a string in quotes, with as few escapes as possible.
  private static func quoted(_ text: String) -> [UInt8] {
    var result = [UInt8(ascii: "\"")]
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""): result += Array("\\\"".utf8)
      case UInt8(ascii: "\\"): result += Array("\\\\".utf8)
      case UInt8(ascii: "\n"): result += Array("\\n".utf8)
      case UInt8(ascii: "\r"): result += Array("\\r".utf8)
      case UInt8(ascii: "\t"): result += Array("\\t".utf8)
      case 0..<0x20:
        let digits = String(byte, radix: 16)
        result += Array(("\\u" + String(repeating: "0", count: 4 - digits.count) + digits).utf8)
      default: result.append(byte)
      }
    }
    return result + [UInt8(ascii: "\"")]
  }
}
