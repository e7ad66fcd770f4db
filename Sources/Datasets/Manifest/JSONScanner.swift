import Foundation

/// Walks through JSON text to find where values begin and end. What it passes over has been, or
/// will be, read by a real decoder, so numbers and escapes are not checked.
struct JSONScanner {
  private let bytes: [UInt8]
  private let file: String
  private(set) var position = 0

  /// - Parameter file: for messages.
  init(_ bytes: [UInt8], file: String) {
    self.bytes = bytes
    self.file = file
  }

  var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  mutating func skipByteOrderMark() {
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
  }

  mutating func skipBlanks() {
    while let next, next == UInt8(ascii: " ") || (9...13).contains(next) { position += 1 }
  }

  mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard next == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  mutating func expect(_ character: Unicode.Scalar) throws {
    guard take(character) else { throw error("\"\(character)\" is missing") }
  }

  /// The string that begins here, decoded.
  mutating func string() throws -> String {
    let start = position
    try skipString()
    let text = bytes[start..<position]
    if !text.contains(UInt8(ascii: "\\")) {
      return String(decoding: text.dropFirst().dropLast(), as: UTF8.self)
    }
    do {
      return try JSONDecoder().decode(String.self, from: Data(text))
    } catch { throw self.error("a string can't be read") }
  }

  private mutating func skipString() throws {
    try expect("\"")
    while let byte = next {
      position += 1
      if byte == UInt8(ascii: "\"") { return }
      if byte == UInt8(ascii: "\\") { position += 1 }
    }
    throw error("a string is not closed")
  }

  /// Passes over the value that begins here, however deep it is nested.
  mutating func skipValue() throws {
    var depth = 0
    repeat {
      skipBlanks()
      guard let byte = next else { throw error("the text ends in a value") }
      switch byte {
      case UInt8(ascii: "\""): try skipString()
      case UInt8(ascii: "["), UInt8(ascii: "{"):
        depth += 1
        position += 1
      case UInt8(ascii: "]"), UInt8(ascii: "}"):
        guard depth > 0 else { throw error("a value is missing") }
        depth -= 1
        position += 1
      case UInt8(ascii: ","), UInt8(ascii: ":"):
        guard depth > 0 else { throw error("a value is missing") }
        position += 1
      default:
        let start = position
        while let byte = next, !isEnd(byte) { position += 1 }
        guard position > start else { throw error("a value is missing") }
      }
    } while depth > 0
  }

  private func isEnd(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: ","), UInt8(ascii: ":"), UInt8(ascii: "]"), UInt8(ascii: "}"),
      UInt8(ascii: "["),
      UInt8(ascii: "{"), UInt8(ascii: "\""), UInt8(ascii: " "), 9...13:
      true
    default: false
    }
  }

  func error(_ problem: String) -> PreprocessingError {
    let line = 1 + bytes[..<min(position, bytes.count)].count { $0 == UInt8(ascii: "\n") }
    return PreprocessingError(.dataset, file: file, line: line, "is not valid JSON: \(problem)")
  }
}
