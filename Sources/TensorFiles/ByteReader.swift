/// Reads little-endian numbers at checked places in a file's bytes.
struct ByteReader {
  let bytes: UnsafeRawBufferPointer

  /// The number at `offset`, or nil where it would leave the bytes.
  func number<T: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: T.Type = T.self)
    -> T?
  {
    guard offset >= 0, offset <= bytes.count - MemoryLayout<T>.size else { return nil }
    return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
  }

  func slice(_ offset: Int, _ count: Int) -> UnsafeRawBufferPointer? {
    guard offset >= 0, count >= 0, offset <= bytes.count, count <= bytes.count - offset else {
      return nil
    }
    return UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
  }
}
