import Foundation

/// Which way up a PNG is, as its `eXIf` chunk says; FFmpeg 5 doesn't read it.
struct PNGOrientation {
  /// Whether left and right are exchanged first.
  let isMirrored: Bool
  /// Clockwise quarter turns after that.
  let turns: Int

  /// - Returns: nil for other files, and for a PNG that says nothing, or nothing that can be understood.
  init?(path: String) {
    guard let handle = FileHandle(forReadingAtPath: path) else { return nil }
    do {
      guard let exif = try Self.exif(handle), let value = Self.orientation(exif) else { return nil }
      isMirrored = [2, 4, 5, 7].contains(value)
      turns = [0, 0, 2, 2, 3, 1, 1, 3][value - 1]
    } catch { return nil }  // what can't be read here is told when the picture is decoded
  }

  private static func exif(_ handle: FileHandle) throws -> [UInt8]? {
    let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
    guard try handle.read(upToCount: 8).map(Array.init) == signature else { return nil }
    while let head = try handle.read(upToCount: 8).map(Array.init), head.count == 8 {
      let length = head[..<4].reduce(0) { $0 << 8 | UInt64($1) }
      switch String(decoding: head[4...], as: UTF8.self) {
      case "eXIf": return length < 1 << 20 ? try handle.read(upToCount: Int(length)).map(Array.init) : nil
      case "IEND": return nil
      default: try handle.seek(toOffset: try handle.offset() + length + 4)  // a checksum follows
      }
    }
    return nil
  }

  /// 1 to 8, from the first directory of a TIFF header.
  private static func orientation(_ bytes: [UInt8]) -> Int? {
    guard bytes.count >= 8 else { return nil }
    let isBig = bytes[0] == UInt8(ascii: "M")
    func number(_ start: Int, _ length: Int) -> Int? {
      guard start >= 0, start + length <= bytes.count else { return nil }
      let part = bytes[start..<(start + length)]
      return (isBig ? Array(part) : part.reversed()).reduce(0) { $0 << 8 | Int($1) }
    }
    guard let directory = number(4, 4), let count = number(directory, 2) else { return nil }
    for index in 0..<count {
      let entry = directory + 2 + 12 * index
      guard let tag = number(entry, 2) else { return nil }
      if tag == 0x112 { return number(entry + 8, 2).flatMap { (1...8).contains($0) ? $0 : nil } }
    }
    return nil
  }
}
