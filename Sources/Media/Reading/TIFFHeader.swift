import Foundation

/// The properties in a TIFF's first directory.
struct TIFFHeader {
  /// The value of the compression tag in TIFF 6.0 and its supplements.
  let compression: Int
  /// Whether alpha is multiplied into the colors.
  let isPremultiplied: Bool
  /// Whether the image is stored in tiles, which FFmpeg supports only for camera raw files.
  let isTiled: Bool
  /// Whether it is a DNG, whose compressions FFmpeg handles differently.
  let isDNG: Bool

  /// - Returns: Nil for other files, and for an invalid TIFF.
  init?(path: String) {
    guard let handle = FileHandle(forReadingAtPath: path) else { return nil }
    do {
      guard let head = try handle.read(upToCount: 8).map(Array.init), head.count == 8 else {
        return nil
      }
      let isBig = head[0] == UInt8(ascii: "M")
      func number(_ bytes: some BidirectionalCollection<UInt8>) -> Int {
        (isBig ? Array(bytes) : bytes.reversed()).reduce(0) { $0 << 8 | Int($1) }
      }
      guard ["II", "MM"].contains(String(decoding: head[..<2], as: UTF8.self)),
        number(head[2..<4]) == 42
      else { return nil }
      try handle.seek(toOffset: UInt64(number(head[4...])))
      guard let count = try handle.read(upToCount: 2).map(Array.init), count.count == 2,
        let entries = try handle.read(upToCount: 12 * number(count)).map(Array.init)
      else { return nil }
      var values: [Int: Int] = [:]
      for start in stride(from: 0, to: entries.count - 11, by: 12) {
        values[number(entries[start..<(start + 2)])] = number(entries[(start + 8)..<(start + 10)])
      }
      compression = values[259] ?? 1
      isPremultiplied = values[338] == 1
      isTiled = values[322] != nil
      isDNG = values[50706] != nil
    } catch { return nil }  // A file that can't be read is reported when it is decoded.
  }

  private static let names = [
    2: "CCITT", 3: "CCITT group 3", 4: "CCITT group 4", 5: "LZW", 6: "old JPEG", 7: "JPEG",
    8: "Deflate",
    32773: "PackBits", 32946: "Deflate", 33003: "JPEG 2000", 33005: "JPEG 2000", 34661: "JBIG",
    34712: "JPEG 2000",
    34887: "LERC", 34925: "LZMA", 34926: "Zstandard", 34927: "WebP", 50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL", 52546: "JPEG XL",
  ]

  /// Compressions that FFmpeg's decoder supports.
  private static let known: Set<Int> = [1, 2, 3, 4, 5, 8, 32773, 32946, 34925]

  /// The error for a TIFF with an unsupported compression, for some of which FFmpeg returns an
  /// empty frame; nil for other files.
  static func refusal(_ path: String) -> MediaError? {
    guard let header = TIFFHeader(path: path), !header.isDNG, !known.contains(header.compression)
    else {
      return nil
    }
    return undecodable(path)
  }

  /// The error for an image for which the decoder returned nothing.
  static func undecodable(_ path: String) -> MediaError {
    let header = TIFFHeader(path: path)
    if let header, header.isTiled, known.contains(header.compression) {
      return MediaError(
        .decoding, file: path, "is a tiled TIFF, which the installed FFmpeg can't decode",
        remedy: "Save it as PNG, or as TIFF without tiles.")
    }
    guard let header, header.compression != 1 else {
      return MediaError(
        .decoding, file: path, "the installed FFmpeg decodes none of its pixels",
        remedy: "Save the image as PNG, or replace it if it is damaged.")
    }
    let name = names[header.compression] ?? "compression \(header.compression)"
    return MediaError(
      .decoding, file: path,
      "is a TIFF with \(name) compression, which the installed FFmpeg can't decode",
      remedy: "Save it as PNG, or as TIFF with LZW or Deflate compression.")
  }
}
