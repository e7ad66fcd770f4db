/// The properties of the main image of an HEIF or AVIF file: ISO/IEC 23008-12, boxes `pitm`,
/// `iinf`, `iprp`.
struct HEIFProperties {
  /// The orientation from the properties `irot` and `imir`, in their order; Exif is ignored in
  /// these files.
  private(set) var orientation: Orientation?
  /// The type of the main image, such as `av01`, `hvc1`, or `grid` for one that consists of tiles.
  private(set) var itemType: String?

  /// - Returns: Nil for a file without a main image.
  init?(_ file: FileBytes) {
    let boxes = MediaBox.boxes(of: file, in: 0..<file.count)
    guard let meta = boxes.first(where: { $0.name == "meta" }), meta.content.count > 4 else {
      return nil
    }
    // The content begins with a version and flags.
    let inner = MediaBox.boxes(of: file, in: meta.content.dropFirst(4))
    func box(_ name: String) -> MediaBox? { inner.first { $0.name == name } }
    guard let primary = box("pitm")?.content, let version = file.number(at: primary.lowerBound, 1),
      let item = file.number(at: primary.lowerBound + 4, version == 0 ? 2 : 4)
    else { return nil }
    if let infos = box("iinf")?.content { itemType = Self.type(of: item, file, infos) }
    guard let properties = box("iprp") else { return }
    let parts = MediaBox.boxes(of: file, in: properties.content)
    guard let container = parts.first(where: { $0.name == "ipco" }) else { return }
    let all = MediaBox.boxes(of: file, in: container.content)
    for index in parts.filter({ $0.name == "ipma" }).flatMap({
      Self.indices(of: item, file, $0.content)
    })
    where (1...all.count).contains(index) {
      let property = all[index - 1]
      guard let value = file.number(at: property.content.lowerBound, 1) else { continue }
      switch property.name {
      // The value counts counterclockwise quarter turns.
      case "irot": orientation = (orientation ?? .upright).then(Orientation(turns: -(value & 3)))
      // 0 swaps top and bottom, 1 swaps left and right.
      case "imir":
        orientation = (orientation ?? .upright).then(
          Orientation(turns: value & 1 == 0 ? 2 : 0, isMirrored: true))
      default: break
      }
    }
  }

  private static func type(of item: Int, _ file: FileBytes, _ infos: Range<Int>) -> String? {
    guard let version = file.number(at: infos.lowerBound, 1) else { return nil }
    for entry in MediaBox.boxes(of: file, in: infos.dropFirst(version == 0 ? 6 : 8))
    where entry.name == "infe" {
      let start = entry.content.lowerBound
      guard let version = file.number(at: start, 1), version >= 2 else { continue }
      let size = version == 2 ? 2 : 4
      if file.number(at: start + 4, size) == item { return file.name(at: start + 4 + size + 2) }
    }
    return nil
  }

  /// The indices of an item's properties, counted from 1.
  private static func indices(of item: Int, _ file: FileBytes, _ content: Range<Int>) -> [Int] {
    guard let head = file.number(at: content.lowerBound, 4),
      let count = file.number(at: content.lowerBound + 4, 4)
    else { return [] }
    let (isLong, isWide) = (head >> 24 > 0, head & 1 == 1)
    var place = content.lowerBound + 8
    for _ in 0..<min(count, 100_000) {
      guard let id = file.number(at: place, isLong ? 4 : 2),
        let links = file.number(at: place + (isLong ? 4 : 2), 1)
      else { return [] }
      place += isLong ? 5 : 3
      let size = isWide ? 2 : 1
      if id == item {
        // The highest bit marks the property as essential.
        return (0..<links).compactMap { link in
          file.number(at: place + link * size, size).map { $0 & (isWide ? 0x7FFF : 0x7F) }
        }
      }
      place += links * size
    }
    return []
  }
}
