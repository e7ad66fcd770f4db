import Foundation

/// An image file format recognized by its first bytes, for formats that not every FFmpeg can
/// decode.
struct FileSignature: Equatable {
  /// The name with its article, such as `an animated WebP`.
  let name: String
  /// The suggestion, as one sentence.
  let remedy: String
  /// Whether FFmpeg would return something other than the image: a preview, or one of its tiles.
  var isMisread = false

  /// - Returns: Nil for formats that every FFmpeg decodes, and for files that are not images.
  static func read(path: String) -> FileSignature? {
    guard let file = FileBytes(path: path), let head = file.bytes(at: 0, min(file.count, 1024)),
      head.count >= 8
    else { return nil }
    func starts(_ text: String) -> Bool { head.starts(with: text.utf8) }
    if starts("RIFF"), head.count >= 21, head[8..<12].elementsEqual("WEBP".utf8) {
      return webP(head)
    }
    if head[4..<8].elementsEqual("ftyp".utf8) { return media(file, head) }
    if starts("II") || starts("MM") { return tiff(file, head) }
    for (mark, name, remedy) in marks where head.starts(with: mark) {
      return FileSignature(name: name, remedy: remedy)
    }
    // Non-ASCII bytes become other characters, which don't occur in the names to compare.
    let text = String(decoding: head, as: UTF8.self)
    if text.contains("<svg") {
      return FileSignature(
        name: "an SVG drawing", remedy: "Export it as PNG in the size that it should have.")
    }
    return nil
  }

  private static let toPNG = "Convert it to PNG or JPEG."
  private static let develop = "Develop it in a RAW converter and save it as PNG, TIFF or JPEG."

  private static let marks: [([UInt8], String, String)] = [
    (Array("8BPS".utf8), "a Photoshop document", "Save it as PNG or TIFF."),
    (Array("%PDF".utf8), "a PDF document", "Export its pages as PNG."),
    (Array("%!PS".utf8), "a PostScript document", "Export its pages as PNG."),
    (Array("gimp xcf".utf8), "a GIMP document", "Export it as PNG."),
    (Array("FUJIFILMCCD-RAW".utf8), "a RAW photo (Fujifilm)", develop),
    ([0xFF, 0x0A], "a JPEG XL image", toPNG),
    ([0, 0, 0, 12] + Array("JXL ".utf8), "a JPEG XL image", toPNG),
    ([0, 0, 0, 12] + Array("jP  ".utf8), "a JPEG 2000 image", toPNG),
    ([0xFF, 0x4F, 0xFF, 0x51], "a JPEG 2000 image", toPNG),
    ([0x76, 0x2F, 0x31, 0x01], "an OpenEXR image", toPNG),
    (Array("#?RADIANCE".utf8), "a Radiance HDR image", toPNG),
    (Array("qoif".utf8), "a QOI image", toPNG),
    (Array("FLIF".utf8), "a FLIF image", toPNG),
    (Array("DDS ".utf8), "a DirectDraw surface", toPNG),
    ([0, 0, 1, 0], "an icon", toPNG),
    (
      [0x50, 0x4B, 0x03, 0x04], "a ZIP archive or a document that is stored as one",
      "Export its content as images or video."
    ),
  ]

  private static func webP(_ head: [UInt8]) -> FileSignature? {
    guard head[12..<16].elementsEqual("VP8X".utf8), head[20] & 2 != 0 else { return nil }
    return FileSignature(name: "an animated WebP", remedy: "Convert it to MP4 or GIF.")
  }

  /// Recognizes images in MP4's container.
  private static func media(_ file: FileBytes, _ head: [UInt8]) -> FileSignature? {
    let size = min(head.count, Int(head[2]) << 8 | Int(head[3]))
    let brands = stride(from: 8, to: size - 3, by: 4).filter { $0 != 12 }.map {
      String(decoding: head[$0..<($0 + 4)], as: Unicode.ASCII.self)
    }
    guard let brand = brands.first else { return nil }
    if brand == "crx " {
      return FileSignature(name: "a RAW photo (Canon CR3)", remedy: develop, isMisread: true)
    }
    let isTiled = HEIFProperties(file)?.itemType == "grid"
    if ["avif", "avis"].contains(brand) || brand == "mif1" && brands.contains("avif") {
      return FileSignature(
        name: isTiled ? "an AVIF image made of tiles" : "an AVIF image", remedy: toPNG,
        isMisread: isTiled)
    }
    guard ["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"].contains(brand) else {
      return nil
    }
    return FileSignature(
      name: "a HEIC image",
      remedy: "Convert it to JPEG or PNG, or let the phone save photos as JPEG.",
      isMisread: isTiled)
  }

  private static func tiff(_ file: FileBytes, _ head: [UInt8]) -> FileSignature? {
    let isBig = head[0] == UInt8(ascii: "M")
    let mark = isBig ? Array(head[2..<4].reversed()) : Array(head[2..<4])
    switch mark {
    case [0x52, 0x4F], [0x53, 0x52], [0x4F, 0x52], [0x52, 0x53]:
      return FileSignature(name: "a RAW photo (Olympus)", remedy: develop, isMisread: true)
    case [0x55, 0]:
      return FileSignature(name: "a RAW photo (Panasonic)", remedy: develop, isMisread: true)
    case [43, 0]:
      return FileSignature(
        name: "a BigTIFF image", remedy: "Save it as an ordinary TIFF or as PNG.")
    case [42, 0]: break
    default: return nil
    }
    if head.count > 10, head[8..<10].elementsEqual("CR".utf8) {
      return FileSignature(name: "a RAW photo (Canon CR2)", remedy: develop, isMisread: true)
    }
    func number(_ place: Int, _ length: Int) -> Int? {
      file.number(at: place, length, isBigEndian: isBig)
    }
    guard let directory = number(4, 4), let count = number(directory, 2) else {
      return FileSignature(name: "a TIFF image", remedy: toPNG)
    }
    var values: [Int: (count: Int, first: Int, place: Int)] = [:]
    for entry in (0..<min(count, 1000)).map({ directory + 2 + 12 * $0 }) {
      guard let tag = number(entry, 2), let type = number(entry + 2, 2),
        let count = number(entry + 4, 4)
      else { break }
      let size = [1: 1, 2: 1, 3: 2, 4: 4][type] ?? 4
      guard let wide = number(entry + 8, 4) else { break }
      let isInside = size * count <= 4
      values[tag] = (
        count, number(isInside ? entry + 8 : wide, size) ?? 0, isInside ? entry + 8 : wide
      )
    }
    // A DNG has the tag DNGVersion, or a color filter array in the first directory or one that it
    // names.
    let maker = values[271].flatMap { file.bytes(at: $0.place, min(32, $0.count)) }.map {
      String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self).trimmingCharacters(in: .whitespaces)
    }
    if values[50706] != nil {
      return FileSignature(name: "a RAW photo (DNG)", remedy: develop, isMisread: true)
    }
    let isRaw =
      values[262]?.first == 32803
      || values[330].map { directories in
        (0..<min(directories.count, 16)).contains { index in
          let place =
            directories.count == 1
            ? directories.first : number(directories.place + 4 * index, 4) ?? 0
          guard let count = number(place, 2) else { return false }
          return (0..<min(count, 1000)).contains { entry in
            number(place + 2 + 12 * entry, 2) == 262 && number(place + 10 + 12 * entry, 2) == 32803
          }
        }
      } == true
    if isRaw {
      return FileSignature(
        name: "a RAW photo" + (maker.map { $0.isEmpty ? "" : " (\($0))" } ?? ""), remedy: develop,
        isMisread: true)
    }
    let bits = values[258]?.first ?? 1
    if values[339]?.first == 3 {
      return FileSignature(
        name: "a TIFF image of \(bits)-bit floating-point numbers",
        remedy: "Save it with 8 or 16 bits a channel, as TIFF or PNG.")
    }
    if bits > 16 {
      return FileSignature(
        name: "a TIFF image of \(bits) bits a channel",
        remedy: "Save it with 8 or 16 bits a channel, as TIFF or PNG.")
    }
    return FileSignature(
      name: "a TIFF image", remedy: "Save it as PNG, or replace it if it is damaged.")
  }

  /// The error for a file that can't be decoded.
  static func error(_ file: String, _ signature: FileSignature) -> MediaError {
    MediaError(
      .decoding, file: file, "is \(signature.name), which the installed FFmpeg can't decode",
      remedy: signature.remedy)
  }
}
