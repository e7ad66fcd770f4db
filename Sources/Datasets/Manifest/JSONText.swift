/// The text of JSON objects, for changing members in place.
struct JSONText: Sendable {
  private struct Member: Sendable {
    let key: String
    /// With its quotes.
    let place: Range<Int>
    let value: Range<Int>
  }

  /// Text between rows, and rows: an odd piece is an object.
  private var pieces: [[UInt8]] = []
  private let file: String

  var rowCount: Int { pieces.count / 2 }
  var bytes: [UInt8] { Array(pieces.joined()) }

  /// - Throws: `PreprocessingError` for anything but a list of objects.
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
        guard scanner.next == UInt8(ascii: "{") else { throw scanner.error("a row is no object") }
        try scanner.skipValue()
        pieces.append(Array(bytes[last..<start]))
        pieces.append(Array(bytes[start..<scanner.position]))
        last = scanner.position
        scanner.skipBlanks()
      } while scanner.take(",")
      try scanner.expect("]")
    }
    scanner.skipBlanks()
    guard scanner.next == nil else { throw scanner.error("something follows the list") }
    pieces.append(Array(bytes[last...]))
    try checkRows()
  }

  /// - Throws: `PreprocessingError` for anything but an object in each line that is not blank.
  init(lines bytes: [UInt8], file: String) throws {
    self.file = file
    var scanner = JSONScanner(bytes, file: file)
    scanner.skipByteOrderMark()
    scanner.skipBlanks()
    var last = 0
    while scanner.next != nil {
      let start = scanner.position
      guard scanner.next == UInt8(ascii: "{") else { throw scanner.error("a row is no object") }
      try scanner.skipValue()
      pieces.append(Array(bytes[last..<start]))
      pieces.append(Array(bytes[start..<scanner.position]))
      last = scanner.position
      scanner.skipBlanks()
    }
    pieces.append(Array(bytes[last...]))
    try checkRows()
  }

  /// What is read here once needs no errors later.
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
        // Between members there is what stands before the last one.
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

  /// Whether an object's only member is written without a blank after its colon.
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
      // With the comma before it, or after it if it is the first.
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
    } catch { preconditionFailure("a row that was read once: \(error)") }
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

  /// A string in quotes; only what must be is escaped.
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
