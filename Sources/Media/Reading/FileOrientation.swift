import Foundation

/// The orientation in the metadata of an image or video that FFmpeg doesn't read (FFmpeg 5 reads it
/// only from JPEG, MP4 and MOV).
enum FileOrientation {
  /// - Returns: Nil for files without a valid orientation. Read errors are reported when the file
  ///   is decoded.
  static func read(path: String) -> Orientation? {
    guard let file = FileBytes(path: path), let head = file.bytes(at: 0, 12) else { return nil }
    if head.prefix(8).elementsEqual([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) {
      return png(file)
    }
    if head.prefix(4).elementsEqual("RIFF".utf8), head[8...].elementsEqual("WEBP".utf8) {
      return webP(file)
    }
    if head.prefix(4).elementsEqual([0x1A, 0x45, 0xDF, 0xA3]) {
      return MatroskaProjection.orientation(file)
    }
    if head[4..<8].elementsEqual("ftyp".utf8) { return HEIFProperties(file)?.orientation }
    return exif(file, at: 0)
  }

  private static func png(_ file: FileBytes) -> Orientation? {
    var place = 8
    while let length = file.number(at: place, 4), let name = file.name(at: place + 4),
      name != "IEND"
    {
      if name == "eXIf" { return exif(file, at: place + 8) }
      place += 12 + length  // a checksum follows
    }
    return nil
  }

  private static func webP(_ file: FileBytes) -> Orientation? {
    var place = 12
    while let name = file.name(at: place),
      let length = file.number(at: place + 4, 4, isBigEndian: false)
    {
      if name == "EXIF" {
        // Some programs keep JPEG's marker.
        let isMarked = file.bytes(at: place + 8, 6)?.elementsEqual("Exif\0\0".utf8) == true
        return exif(file, at: place + (isMarked ? 14 : 8))
      }
      place += 8 + length + length % 2
    }
    return nil
  }

  /// The tag `Orientation` in the first directory of a TIFF or BigTIFF file; Exif has the same
  /// format.
  static func exif(_ file: FileBytes, at start: Int) -> Orientation? {
    guard let mark = file.bytes(at: start, 4), mark[0] == mark[1], [0x49, 0x4D].contains(mark[0])
    else {
      return nil
    }
    let isBig = mark[0] == 0x4D
    func number(_ place: Int, _ length: Int) -> Int? {
      file.number(at: start + place, length, isBigEndian: isBig)
    }
    let isWide = number(2, 2) == 43
    guard isWide || number(2, 2) == 42, let directory = isWide ? number(8, 8) : number(4, 4),
      directory < file.count, let count = number(directory, isWide ? 8 : 2)
    else { return nil }
    for index in 0..<min(count, 65536) {
      let entry = directory + (isWide ? 8 + 20 * index : 2 + 12 * index)
      guard let tag = number(entry, 2) else { return nil }
      if tag == 0x112 {
        return number(entry + (isWide ? 12 : 8), 2).flatMap(Orientation.init(exif:))
      }
    }
    return nil
  }
}

/// The pose of a Matroska video track (`ProjectionPoseYaw`, `ProjectionPosePitch`,
/// `ProjectionPoseRoll`), which FFmpeg supports only from version 7.
enum MatroskaProjection {
  private struct Element {
    let id: Int
    let content: Range<Int>
  }

  /// - Returns: Nil if the first video track has no pose in steps of 90 degrees.
  static func orientation(_ file: FileBytes) -> Orientation? {
    guard let segment = elements(file, 0..<file.count, until: 0x1853_8067).last,
      segment.id == 0x1853_8067,
      // Tracks come before the first cluster.
      let tracks = elements(file, segment.content, until: 0x1654_AE6B).last,
      tracks.id == 0x1654_AE6B
    else { return nil }
    for entry in elements(file, tracks.content) where entry.id == 0xAE {
      let parts = elements(file, entry.content)
      guard let kind = parts.first(where: { $0.id == 0x83 }), number(file, kind) == 1 else {
        continue
      }
      guard let video = parts.first(where: { $0.id == 0xE0 }),
        let projection = elements(file, video.content).first(where: { $0.id == 0x7670 })
      else { return nil }
      let pose = elements(file, projection.content)
      // Only flat video is rotated, not spherical video.
      if let kind = pose.first(where: { $0.id == 0x7671 }), number(file, kind) != 0 { return nil }
      func angle(_ id: Int) -> Double {
        pose.first { $0.id == id }.flatMap { float(file, $0) } ?? 0
      }
      return orientation(yaw: angle(0x7673), pitch: angle(0x7674), roll: angle(0x7675))
    }
    return nil
  }

  /// Yaw is applied first, then pitch, then roll, which is counterclockwise. Half a turn of yaw or
  /// pitch shows the image from behind.
  static func orientation(yaw: Double, pitch: Double, roll: Double) -> Orientation? {
    func steps(_ degrees: Double, of step: Double) -> Int? {
      let steps = (degrees / step).rounded()
      return abs(degrees) <= 360 && abs(degrees - steps * step) < 1 ? Int(steps) : nil
    }
    guard let yaw = steps(yaw, of: 180), let pitch = steps(pitch, of: 180),
      let roll = steps(roll, of: 90)
    else { return nil }
    let sides = Orientation(turns: 0, isMirrored: yaw % 2 != 0)
    let heads = pitch % 2 != 0 ? Orientation(turns: 2, isMirrored: true) : .upright
    return sides.then(heads).then(Orientation(turns: -roll))
  }

  /// - Parameter until: The id of the last element to look for; the list also ends at a cluster.
  private static func elements(_ file: FileBytes, _ range: Range<Int>, until last: Int? = nil)
    -> [Element]
  {
    var result: [Element] = []
    var place = range.lowerBound
    while place < range.upperBound, result.count < 10_000,
      let (id, idLength) = variable(file, place, keepsMark: true),
      let (size, sizeLength) = variable(file, place + idLength, keepsMark: false), id != 0x1F43_B675
    {
      let start = place + idLength + sizeLength
      // All ones mean that the size is unknown, as in live streams.
      let isOpen = size == 1 << (7 * sizeLength) - 1
      guard start <= range.upperBound else { break }
      let end = isOpen ? range.upperBound : min(start + size, range.upperBound)
      result.append(Element(id: id, content: start..<end))
      if id == last { break }
      place = end
    }
    return result
  }

  private static func variable(_ file: FileBytes, _ place: Int, keepsMark: Bool) -> (
    Int, length: Int
  )? {
    guard let first = file.bytes(at: place, 1)?[0], first != 0 else { return nil }
    let length = first.leadingZeroBitCount + 1
    guard let value = file.number(at: place, length) else { return nil }
    return (keepsMark ? value : value & (1 << (7 * length) - 1), length)
  }

  private static func number(_ file: FileBytes, _ element: Element) -> Int? {
    file.number(at: element.content.lowerBound, min(8, element.content.count))
  }

  private static func float(_ file: FileBytes, _ element: Element) -> Double? {
    guard let bytes = file.bytes(at: element.content.lowerBound, element.content.count) else {
      return nil
    }
    let bits = bytes.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    switch bytes.count {
    case 4: return Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits)))
    case 8: return Double(bitPattern: bits)
    default: return nil
    }
  }
}
