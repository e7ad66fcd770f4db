import Glibc
import Synchronization
import Torch

/// A memory-mapped safetensors file: opening one of 40 GB takes milliseconds and no memory.
///
/// The checks are those of the `safetensors` crate: the header has at most 100 MB, and the tensors
/// fill the rest of the file without holes. Duplicate keys, which the format forbids, are rejected.
///
/// The file must not be changed while it is open: if another process truncates it, reading the lost
/// part ends this process (SIGBUS). `writeSafetensors` replaces files instead of changing them, so
/// it is safe for readers.
public final class SafetensorsFile: TensorSource {
  private let file: FileBytes
  /// The range whose read-ahead was requested last.
  private let readAhead = Mutex(0..<0)
  public let metadata: [String: String]
  public let entries: [String: TensorEntry]

  public var name: String { file.path }

  /// - Throws: `TensorFileError` with the problem of the file.
  public convenience init(path: String) throws {
    try self.init(FileBytes(mapping: path))
  }

  /// Opens a file whose content is already in memory.
  ///
  /// - Parameter name: Replaces the path in error messages.
  public convenience init(name: String, content: [UInt8]) throws {
    try self.init(content.withUnsafeBytes { FileBytes(name: name, copying: $0) })
  }

  private init(_ file: FileBytes) throws(TensorFileError) {
    let header = try SafetensorsHeader(of: file)
    self.file = file
    metadata = header.metadata
    entries = header.entries
  }

  public func tensor(_ key: String) throws -> Tensor {
    guard let entry = entries[key] else {
      throw TensorFileError(
        .missingTensor, path: name, key: key, "the file has no tensor of this name")
    }
    return try file.tensor(entry.dtype, entry.shape, at: entry.range)
  }

  /// Lends the bytes of a tensor, little-endian, the last dimension fastest, without creating a
  /// tensor.
  public func withUnsafeBytes<R>(of key: String, _ body: (UnsafeRawBufferPointer) throws -> R)
    throws -> R
  {
    guard let entry = entries[key] else {
      throw TensorFileError(
        .missingTensor, path: name, key: key, "the file has no tensor of this name")
    }
    return try withExtendedLifetime(file) {
      try body(UnsafeRawBufferPointer(rebasing: file.bytes[entry.range]))
    }
  }

  public func prepareToReadOnly(_ key: String) {
    if let entry = entries[key] { file.advise(MADV_WILLNEED, entry.range) }
  }

  public func prepareToRead(_ key: String) {
    guard let entry = entries[key] else { return }
    prepareToReadOnly(key)
    // The tensors that follow are usually needed next, so the disk reads ahead while this tensor is
    // converted.
    let end = entry.range.upperBound
    let ahead = readAhead.withLock { asked -> Range<Int>? in
      guard !asked.contains(end) || asked.upperBound - end < Self.window / 2 else { return nil }
      let start = asked.contains(end) ? asked.upperBound : end
      let stop = min(end + Self.window, file.bytes.count)
      guard start < stop else { return nil }
      asked = end..<stop
      return start..<stop
    }
    if let ahead { file.advise(MADV_WILLNEED, ahead) }
  }

  /// The number of bytes to read ahead.
  private static let window = 256 << 20

  public func release(_ key: String) {
    if let entry = entries[key] { file.advise(MADV_DONTNEED, entry.range) }
  }
}
