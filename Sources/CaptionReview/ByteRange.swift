/// The part of a file that a `Range` header requests (RFC 9110, section 14).
enum ByteRange: Equatable, Sendable {
  /// The whole file: no range, several ranges, or a header that is not a range of bytes.
  case whole
  /// Never empty.
  case part(Range<Int64>)
  /// Outside of the file.
  case unsatisfiable

  /// - Parameter size: The size of the file in bytes.
  init(_ header: String?, size: Int64) {
    self = .whole
    guard let header, let equals = header.firstIndex(of: "="),
      header[..<equals].lowercased() == "bytes"
    else { return }
    let text = header[header.index(after: equals)...].filter { $0 != " " && $0 != "\t" }
    guard let dash = text.firstIndex(of: "-") else { return }
    let (first, last) = (text[..<dash], text[text.index(after: dash)...])
    guard (first + last).allSatisfy({ $0.isASCII && $0.isNumber }), !(first + last).isEmpty else {
      return
    }
    // A number of too many digits is beyond every file.
    let (start, end) = (Int64(first) ?? .max, Int64(last) ?? .max)
    if first.isEmpty {
      let range = max(0, size - end)..<size
      self = range.isEmpty ? .unsatisfiable : .part(range)
    } else if last.isEmpty || start <= end {
      self = start < size ? .part(start..<(end < size - 1 ? end + 1 : size)) : .unsatisfiable
    }
  }
}
