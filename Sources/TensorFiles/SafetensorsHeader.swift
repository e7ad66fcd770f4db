import Torch

/// The header of a safetensors file: its length in eight bytes, little-endian, then a JSON object
/// with the entries.
struct SafetensorsHeader {
  /// The limit of the `safetensors` crate.
  static let maximumSize = 100_000_000

  private(set) var metadata: [String: String] = [:]
  private(set) var entries: [String: TensorEntry] = [:]
  private let path: String

  init(of file: FileBytes) throws(TensorFileError) {
    path = file.path
    let bytes = file.bytes
    if let format = ForeignFormat(bytes) {
      throw TensorFileError(.foreignFormat, path: path, format.message)
    }
    guard bytes.count >= 8 else {
      throw TensorFileError(
        .truncated, path: path,
        "\(bytes.count) bytes are too few for a safetensors file; fetch or make it again")
    }
    let size = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    guard size <= UInt64(Self.maximumSize) else {
      throw TensorFileError(
        .oversizedHeader, path: path,
        "the header claims \(size) bytes, the format allows \(Self.maximumSize); is this a safetensors file?"
      )
    }
    let start = 8 + Int(size)
    guard start <= bytes.count else {
      throw TensorFileError(
        .truncated, path: path,
        "the file ends within its header (\(bytes.count) of \(start) bytes); fetch or make it again"
      )
    }
    var cursor = HeaderCursor(UnsafeRawBufferPointer(rebasing: bytes[8..<start]), path: path)
    try readObject(&cursor, dataStart: start)
    try checkLayout(dataStart: start, fileSize: bytes.count)
  }

  private mutating func readObject(_ cursor: inout HeaderCursor, dataStart: Int)
    throws(TensorFileError)
  {
    try cursor.beginObject()
    var isFirst = true
    var hasMetadata = false
    while let key = try cursor.nextKey(isFirst: &isFirst) {
      cursor.key = key
      defer { cursor.key = nil }
      if key == "__metadata__" {
        guard !hasMetadata else { throw duplicate(key) }
        hasMetadata = true
        try readMetadata(&cursor)
      } else {
        guard entries[key] == nil else { throw duplicate(key) }
        entries[key] = try readEntry(&cursor, key, dataStart: dataStart)
      }
    }
    try cursor.expectEnd()
  }

  private mutating func readMetadata(_ cursor: inout HeaderCursor) throws(TensorFileError) {
    if cursor.isNext("n") { return try cursor.skipValue() }
    metadata = try cursor.texts()
  }

  private func readEntry(
    _ cursor: inout HeaderCursor, _ key: String, dataStart: Int
  ) throws(TensorFileError) -> TensorEntry {
    guard cursor.isNext("{") else {
      throw cursor.mismatch("the entry must be an object of dtype, shape and data_offsets")
    }
    try cursor.beginObject()
    var dtypeName: String?
    var shape: [Int]?
    var offsets: [Int]?
    var isFirst = true
    while let field = try cursor.nextKey(isFirst: &isFirst) {
      switch field {
      case "dtype":
        guard cursor.isNext("\"") else { throw cursor.mismatch("dtype must be a string") }
        guard dtypeName == nil else { throw cursor.wrong("dtype stands twice in the entry") }
        dtypeName = try cursor.string()
      case "shape":
        guard shape == nil else { throw cursor.wrong("shape stands twice in the entry") }
        shape = try readNumbers(&cursor, "shape")
      case "data_offsets":
        guard offsets == nil else { throw cursor.wrong("data_offsets stands twice in the entry") }
        offsets = try readNumbers(&cursor, "data_offsets")
      default:
        try cursor.skipValue()
      }
    }
    guard let dtypeName else { throw cursor.wrong("the entry has no dtype") }
    guard let shape else { throw cursor.wrong("the entry has no shape") }
    guard let offsets else { throw cursor.wrong("the entry has no data_offsets") }
    guard let dtype = DType(safetensorsName: dtypeName) else {
      throw TensorFileError(
        .unsupportedDType, path: path, key: key,
        "the dtype \(dtypeName.displayed(limit: 40))\(ForeignFormat.title(ofDType: dtypeName)) is not supported; "
          + "convert the tensor to one of \(DType.allCases.map(\.safetensorsName).joined(separator: ", "))"
      )
    }
    guard offsets.count == 2, offsets[0] <= offsets[1], offsets[1] <= Int.max - dataStart else {
      throw cursor.wrong(
        "data_offsets must be the first byte and the one after the last, not \(offsets)")
    }
    guard let byteCount = dtype.byteCount(of: shape) else {
      throw cursor.wrong("a tensor of shape \(shape) is larger than any memory")
    }
    guard byteCount == offsets[1] - offsets[0] else {
      throw cursor.wrong(
        "\(dtypeName) of shape \(shape) takes \(byteCount) bytes, data_offsets give \(offsets[1] - offsets[0])"
      )
    }
    return TensorEntry(
      dtype: dtype, shape: shape, range: dataStart + offsets[0]..<dataStart + offsets[1])
  }

  private func readNumbers(_ cursor: inout HeaderCursor, _ field: String) throws(TensorFileError)
    -> [Int]
  {
    guard cursor.isNext("[") else {
      throw cursor.mismatch("\(field) must be an array of integers")
    }
    try cursor.beginArray()
    var numbers: [Int] = []
    var isFirst = true
    while try cursor.nextElement(isFirst: &isFirst) {
      guard numbers.count < 64 else { throw cursor.wrong("\(field) holds more than 64 numbers") }
      numbers.append(try cursor.integer("the numbers in \(field)"))
    }
    return numbers
  }

  /// Checks that every byte after the header belongs to exactly one tensor.
  private func checkLayout(dataStart: Int, fileSize: Int) throws(TensorFileError) {
    let ordered = entries.map { (key: $0.key, range: $0.value.range) }.sorted {
      ($0.range.lowerBound, $0.range.upperBound, $0.key) < (
        $1.range.lowerBound, $1.range.upperBound, $1.key
      )
    }
    var end = dataStart
    var last: String?
    for (key, range) in ordered {
      if range.lowerBound < end {
        throw TensorFileError(
          .overlap, path: path, key: key, "shares bytes with \"\((last ?? "").displayed())\"")
      }
      if range.lowerBound > end {
        throw TensorFileError(
          .gap, path: path, key: key,
          "\(range.lowerBound - end) bytes before it belong to no tensor")
      }
      end = range.upperBound
      last = key
    }
    if end > fileSize {
      throw TensorFileError(
        .truncated, path: path, key: last,
        "the file ends within its tensors (\(fileSize) of \(end) bytes); fetch or make it again")
    }
    if end < fileSize {
      throw TensorFileError(
        .gap, path: path,
        "\(fileSize - end) bytes after the last tensor belong to none; fetch or make it again")
    }
  }

  private func duplicate(_ key: String) -> TensorFileError {
    TensorFileError(.duplicateKey, path: path, key: key, "stands twice in the header")
  }
}
