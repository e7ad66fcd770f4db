/// The table of contents of a zip archive with uncompressed entries, including zip64, which is the
/// format of `torch.save`. Specification: PKWARE's APPNOTE, sections 4.3 and 4.5.3.
struct ZipArchive {
  /// The byte range of each entry within the archive.
  let entries: [String: Range<Int>]

  private static let localHeader: UInt32 = 0x0403_4B50
  private static let directoryHeader: UInt32 = 0x0201_4B50
  private static let endOfDirectory: UInt32 = 0x0605_4B50
  private static let zip64Locator: UInt32 = 0x0706_4B50
  private static let zip64EndOfDirectory: UInt32 = 0x0606_4B50

  init(_ file: FileBytes) throws(TensorFileError) {
    let reader = ByteReader(bytes: file.bytes)
    func bad(_ message: String, _ key: String? = nil) -> TensorFileError {
      TensorFileError(
        .badArchive, path: file.path, key: key, message + "; fetch or make the file again")
    }

    let directory = try Self.directory(reader, bad)
    var entries: [String: Range<Int>] = [:]
    var place = directory.range.lowerBound
    for _ in 0..<directory.count {
      guard place + 46 <= directory.range.upperBound,
        reader.number(at: place) == Self.directoryHeader,
        let flags = reader.number(at: place + 8, as: UInt16.self),
        let method = reader.number(at: place + 10, as: UInt16.self),
        let packedSize = reader.number(at: place + 20, as: UInt32.self),
        let fullSize = reader.number(at: place + 24, as: UInt32.self),
        let nameLength = reader.number(at: place + 28, as: UInt16.self).map(Int.init),
        let extraLength = reader.number(at: place + 30, as: UInt16.self).map(Int.init),
        let commentLength = reader.number(at: place + 32, as: UInt16.self).map(Int.init),
        let offset = reader.number(at: place + 42, as: UInt32.self),
        let nameBytes = reader.slice(place + 46, nameLength),
        let extra = reader.slice(place + 46 + nameLength, extraLength),
        let name = String(validating: nameBytes, as: UTF8.self)
      else { throw bad("the archive's table of contents is damaged") }
      place += 46 + nameLength + extraLength + commentLength

      guard method == 0, flags & 1 == 0 else {
        throw TensorFileError(
          .compressed, path: file.path, key: name,
          "the entry is \(method == 0 ? "encrypted" : "compressed"); save it again with torch.save")
      }
      // Zip64 stores sizes in an extra field, in this order, and only those whose 32 bits are all
      // ones.
      var wide = Zip64Field(extra)
      guard let full = wide.resolve(fullSize), let packed = wide.resolve(packedSize),
        let header = wide.resolve(offset), full == packed,
        reader.number(at: header) == Self.localHeader,
        let localName = reader.number(at: header + 26, as: UInt16.self).map(Int.init),
        let localExtra = reader.number(at: header + 28, as: UInt16.self).map(Int.init),
        case let start = header + 30 + localName + localExtra, start <= directory.range.lowerBound,
        full <= directory.range.lowerBound - start
      else { throw bad("the entry lies outside of the archive", name) }
      guard entries.updateValue(start..<start + full, forKey: name) == nil else {
        throw bad("the archive holds the entry twice", name)
      }
    }
    self.entries = entries
  }

  /// The position of the table of contents and the number of its entries.
  private static func directory(
    _ reader: ByteReader, _ bad: (String, String?) -> TensorFileError
  ) throws(TensorFileError) -> (range: Range<Int>, count: Int) {
    let size = reader.bytes.count
    // The end record is followed by a comment of at most 65,535 bytes.
    let candidates = stride(from: size - 22, through: max(0, size - 22 - 0xFFFF), by: -1)
    guard
      let end = candidates.first(where: {
        reader.number(at: $0) == endOfDirectory
          && reader.number(at: $0 + 20, as: UInt16.self).map(Int.init) == size - 22 - $0
      })
    else { throw bad("this is not a zip archive, or its end is missing", nil) }

    var count = reader.number(at: end + 10, as: UInt16.self).map(UInt64.init)
    var length = reader.number(at: end + 12, as: UInt32.self).map(UInt64.init)
    var offset = reader.number(at: end + 16, as: UInt32.self).map(UInt64.init)
    var limit = end
    if reader.number(at: end - 20) == zip64Locator {
      guard let place = reader.number(at: end - 12, as: UInt64.self).flatMap(Int.init(exactly:)),
        place <= end - 20 - 56, reader.number(at: place) == zip64EndOfDirectory
      else { throw bad("the archive's zip64 record is damaged", nil) }
      count = reader.number(at: place + 32)
      length = reader.number(at: place + 40)
      offset = reader.number(at: place + 48)
      limit = place
    }
    guard let count = count.flatMap(Int.init(exactly:)),
      let length = length.flatMap(Int.init(exactly:)),
      let offset = offset.flatMap(Int.init(exactly:)), offset <= limit, length <= limit - offset,
      count <= length / 46
    else { throw bad("the archive's table of contents is damaged", nil) }
    return (offset..<offset + length, count)
  }
}

/// The zip64 extra field of an entry.
private struct Zip64Field {
  private var values: [UInt64] = []

  init(_ extra: UnsafeRawBufferPointer) {
    let reader = ByteReader(bytes: extra)
    var place = 0
    while let id = reader.number(at: place, as: UInt16.self),
      let length = reader.number(at: place + 2, as: UInt16.self).map(Int.init)
    {
      if id == 1 {
        let field = ByteReader(
          bytes: reader.slice(place + 4, length) ?? UnsafeRawBufferPointer(start: nil, count: 0))
        var offset = 0
        while let value = field.number(at: offset, as: UInt64.self) {
          values.append(value)
          offset += 8
        }
        return
      }
      place += 4 + length
    }
  }

  /// The 32-bit number, or the field's next one if it is all ones. Nil if the field has no more
  /// numbers or the number is out of range.
  mutating func resolve(_ number: UInt32) -> Int? {
    guard number == .max else { return Int(number) }
    guard !values.isEmpty, let value = Int(exactly: values.removeFirst()), value < 1 << 60 else {
      return nil
    }
    return value
  }
}
