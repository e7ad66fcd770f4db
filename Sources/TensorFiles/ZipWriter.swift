import Support

/// Writes a zip archive of uncompressed entries in the layout of `torch.save`: each entry's content
/// begins at a multiple of 64 bytes. Specification: PKWARE's APPNOTE, sections 4.3 and 4.5, without
/// zip64, so the archive is limited to 4 GiB.
struct ZipWriter: ~Copyable {
  private let file: AtomicFile
  private let path: String
  private var offset = 0
  private var directory: [UInt8] = []
  private var count = 0

  private static let alignment = 64

  init(path: String) throws {
    self.path = path
    file = try AtomicFile(path: path, failing: TensorFileError.init(_:))
  }

  mutating func add(_ name: String, _ content: UnsafeRawBufferPointer) throws {
    let name = Array(name.utf8)
    // An extra field, which PyTorch calls "FB", pads the header to the next multiple.
    let unpadded = offset + 30 + name.count + 4
    let padding = (Self.alignment - unpadded % Self.alignment) % Self.alignment
    let size = try number(content.count)
    var fields: [UInt8] = []
    // Version, flags, no compression.
    fields += Self.little(20 as UInt16) + Self.little(0 as UInt16) + Self.little(0 as UInt16)
    fields += Self.little(0 as UInt32) + Self.little(CRC32.ethernet.checksum(content))  // no date
    fields += Self.little(size) + Self.little(size) + Self.little(UInt16(name.count))
    let extra =
      Self.little(0x4246 as UInt16) + Self.little(UInt16(padding))
      + [UInt8](repeating: 0x5A, count: padding)

    directory += Self.little(0x0201_4B50 as UInt32) + Self.little(20 as UInt16) + fields
    directory +=
      Self.little(0 as UInt16) + [UInt8](repeating: 0, count: 10) + Self.little(try number(offset))
      + name
    count += 1
    try write(
      Self.little(0x0403_4B50 as UInt32) + fields + Self.little(UInt16(extra.count)) + name + extra)
    try file.write(content)
    offset += content.count
  }

  mutating func add(_ name: String, _ content: [UInt8]) throws {
    try content.withUnsafeBytes { try add(name, $0) }
  }

  /// Writes the table of contents and moves the file to its destination.
  consuming func finish(isDurable: Bool) throws {
    let start = try number(offset)
    let size = try number(directory.count)
    let entries = Self.little(UInt16(count))
    try write(directory)
    try write(
      Self.little(0x0605_4B50 as UInt32) + [0, 0, 0, 0] + entries + entries + Self.little(size)
        + Self.little(start) + [0, 0])
    try file.commit(isDurable: isDurable)
  }

  private mutating func write(_ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { try file.write($0) }
    offset += bytes.count
  }

  private func number(_ value: Int) throws -> UInt32 {
    guard let number = UInt32(exactly: value), number < .max else {
      throw TensorFileError(
        .limit, path: path,
        "would be larger than 4 GiB, the limit of .pt files here; set `format` to safetensors"
      )
    }
    return number
  }

  private static func little<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
    withUnsafeBytes(of: number.littleEndian, Array.init)
  }
}
