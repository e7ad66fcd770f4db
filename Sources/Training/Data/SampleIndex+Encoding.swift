import Datasets
import Media
import Support

/// The compact form in which rank 0 sends an index to the others: about 100 bytes for a sample.
/// Integers are in LEB128, and repeated strings are sent once. Foundation's coders would need longer
/// than reading the headers does (docs/decisions.md).
extension SampleIndex {
  /// The bytes of the index, without the identities.
  ///
  /// - Parameter root: The folder of the cache. Paths are sent relative to it.
  func encoded(root: String) -> [UInt8] {
    var writer = ByteWriter()
    let folders = Array(Set(entries.flatMap(\.files.keys))).sorted()
    writer.write(folders, { $0.write($1) })
    writer.write(entries) { writer, entry in
      writer.write(entry.name)
      for folder in folders {
        let path = entry.files[folder]
        // The path is nearly always that of the sample's name.
        let usual = CacheFormat.allCases.firstIndex {
          path == "\(root)/\(folder)/\(entry.name).\($0.rawValue)"
        }
        writer.write(usual ?? CacheFormat.allCases.count)
        if usual == nil {
          writer.write(path) { writer, path in
            writer.write(String(decoding: path.utf8.dropFirst(root.utf8.count + 1), as: UTF8.self))
          }
        }
        writer.write(entry.shapes[folder], { $0.write($1) })
        writer.write(entry.fps[folder], { $0.write($1) })
        writer.write(entry.buckets[folder], { $0.write(shared: $1) })
        writer.write(entry.masks[folder], { $0.write($1) })
      }
      writer.write(entry.audioLevel) { writer, level in
        writer.write(level.peak)
        writer.write(level.rms)
      }
      writer.write(entry.repeats)
      writer.write(entry.text) { writer, text in
        writer.write(text.video)
        writer.write(text.audio, { $0.write($1) })
        writer.write(text.mask)
      }
      writer.write(entry.models, { $0.write(shared: $1) })
      writer.write(entry.textEncoder, { $0.write(shared: $1) })
    }
    let incomplete = unmatched.sorted { $0.key < $1.key }
    writer.write(incomplete) { writer, pair in
      writer.write(pair.key)
      writer.write(pair.value, { $0.write($1) })
    }
    return writer.bytes
  }

  /// - Throws: `Issue` for bytes that are not an index.
  init(encoded bytes: [UInt8], root: String) throws {
    var reader = ByteReader(bytes)
    let folders = try reader.list { try $0.string() }
    entries = try reader.list { reader in
      let name = try reader.string()
      var entry = PrecomputedDataset.Entry(name: name, files: [:], repeats: 1)
      for folder in folders {
        let format = try reader.integer()
        if CacheFormat.allCases.indices.contains(format) {
          entry.files[folder] = "\(root)/\(folder)/\(name).\(CacheFormat.allCases[format].rawValue)"
        } else if let path = try reader.optional({ try $0.string() }) {
          entry.files[folder] = "\(root)/\(path)"
        }
        entry.shapes[folder] = try reader.optional { try $0.integers() }
        entry.fps[folder] = try reader.optional { try $0.double() }
        entry.buckets[folder] = try reader.optional { try $0.sharedString() }
        entry.masks[folder] = try reader.optional { try $0.integers() }
      }
      entry.audioLevel = try reader.optional {
        SampleLevel(peak: try $0.double(), rms: try $0.double())
      }
      entry.repeats = try reader.integer()
      entry.text = try reader.optional {
        TextShapes(
          video: try $0.integers(), audio: try $0.optional { try $0.integers() },
          mask: try $0.integers())
      }
      entry.models = try reader.list { try $0.sharedString() }
      entry.textEncoder = try reader.optional { try $0.sharedString() }
      return entry
    }
    let incomplete = try reader.integer()
    for _ in 0..<incomplete {
      let folder = try reader.string()
      unmatched[folder] = try reader.list { try $0.string() }
    }
    guard reader.isAtEnd else { throw ByteReader.damaged }
  }
}

private struct ByteWriter {
  private(set) var bytes: [UInt8] = []
  private var shared: [String: Int] = [:]

  /// - Precondition: The number is not negative.
  mutating func write(_ number: Int) {
    var rest = UInt(number)
    while rest > 0x7F {
      bytes.append(UInt8(rest & 0x7F) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  mutating func write(_ number: Double) {
    withUnsafeBytes(of: number.bitPattern.littleEndian) { bytes += $0 }
  }

  mutating func write(_ text: String) {
    write(text.utf8.count)
    bytes += text.utf8
  }

  /// Writes a string that is likely to be repeated.
  mutating func write(shared text: String) {
    if let index = shared[text] { return write(index) }
    write(shared.count)
    shared[text] = shared.count
    write(text)
  }

  mutating func write(_ numbers: [Int]) { write(numbers, { $0.write($1) }) }

  mutating func write<T>(_ values: [T], _ body: (inout ByteWriter, T) -> Void) {
    write(values.count)
    for value in values { body(&self, value) }
  }

  mutating func write<T>(_ value: T?, _ body: (inout ByteWriter, T) -> Void) {
    write(value == nil ? 0 : 1)
    if let value { body(&self, value) }
  }
}

private struct ByteReader {
  private var bytes: ArraySlice<UInt8>
  private var shared: [String] = []

  static let damaged = Issue("the index of the dataset that rank 0 sent is damaged")

  init(_ bytes: [UInt8]) { self.bytes = bytes[...] }

  var isAtEnd: Bool { bytes.isEmpty }

  mutating func integer() throws -> Int {
    var number: UInt = 0
    for shift in stride(from: UInt(0), to: 63, by: 7) {
      guard let byte = bytes.popFirst() else { throw Self.damaged }
      number |= UInt(byte & 0x7F) << shift
      if byte < 0x80 { return Int(number) }
    }
    throw Self.damaged
  }

  mutating func double() throws -> Double {
    let word = try take(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    return Double(bitPattern: word)
  }

  mutating func string() throws -> String { String(decoding: try take(integer()), as: UTF8.self) }

  mutating func sharedString() throws -> String {
    let index = try integer()
    if index < shared.count { return shared[index] }
    guard index == shared.count else { throw Self.damaged }
    shared.append(try string())
    return shared[index]
  }

  mutating func integers() throws -> [Int] { try list { try $0.integer() } }

  mutating func list<T>(_ body: (inout ByteReader) throws -> T) throws -> [T] {
    let count = try integer()
    // Every element has a byte at least.
    guard count <= bytes.count else { throw Self.damaged }
    var values: [T] = []
    values.reserveCapacity(count)
    for _ in 0..<count { values.append(try body(&self)) }
    return values
  }

  mutating func optional<T>(_ body: (inout ByteReader) throws -> T) throws -> T? {
    switch try integer() {
    case 0: nil
    case 1: try body(&self)
    default: throw Self.damaged
    }
  }

  private mutating func take(_ count: Int) throws -> ArraySlice<UInt8> {
    guard count <= bytes.count else { throw Self.damaged }
    defer { bytes = bytes.dropFirst(count) }
    return bytes.prefix(count)
  }
}
