import Foundation

/// Reads bytes at any position of a file, for headers that FFmpeg doesn't read. Bytes beyond the
/// end count as missing.
///
/// The file is read, unlike tensor files, which are mapped: a few headers don't need a map, and if
/// another process truncates the file, the result is nil and this process doesn't crash.
struct FileBytes {
  private let handle: FileHandle
  package let count: Int

  /// - Returns: Nil for a file that can't be opened.
  init?(path: String) {
    guard let handle = FileHandle(forReadingAtPath: path) else { return nil }
    self.handle = handle
    do { count = Int(clamping: try handle.seekToEnd()) } catch { return nil }
  }

  /// - Returns: `length` bytes, or nil if they extend beyond the file.
  func bytes(at start: Int, _ length: Int) -> [UInt8]? {
    guard start >= 0, length >= 0, length <= 1 << 24, start <= count, length <= count - start else {
      return nil
    }
    do {
      try handle.seek(toOffset: UInt64(start))
      let bytes = try handle.read(upToCount: length).map(Array.init) ?? []
      return bytes.count == length ? bytes : nil
    } catch { return nil }
  }

  /// An integer of 1 to 8 bytes.
  func number(at start: Int, _ length: Int, isBigEndian: Bool = true) -> Int? {
    guard let bytes = bytes(at: start, length) else { return nil }
    return Int(
      exactly: (isBigEndian ? bytes : bytes.reversed()).reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
  }

  /// A name of four letters.
  func name(at start: Int) -> String? {
    bytes(at: start, 4).map { String(decoding: $0, as: Unicode.ASCII.self) }
  }
}

/// A box of an ISO base media file (MP4, MOV, HEIF, AVIF).
struct MediaBox {
  let name: String
  /// The position of its content in the file.
  let content: Range<Int>

  /// The boxes within a range, in order, up to the first one that doesn't fit.
  static func boxes(of file: FileBytes, in range: Range<Int>) -> [MediaBox] {
    var result: [MediaBox] = []
    var place = range.lowerBound
    while place + 8 <= range.upperBound, result.count < 10_000,
      let short = file.number(at: place, 4),
      let name = file.name(at: place + 4)
    {
      var (size, header) = (short, 8)
      if short == 1 {
        guard let long = file.number(at: place + 8, 8) else { break }
        (size, header) = (long, 16)
      } else if short == 0 {
        size = range.upperBound - place
      }
      guard size >= header, size <= range.upperBound - place else { break }
      result.append(MediaBox(name: name, content: (place + header)..<(place + size)))
      place += size
    }
    return result
  }
}
