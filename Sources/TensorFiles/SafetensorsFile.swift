import Glibc
import Torch

/// A safetensors file, read by memory map: opening one of 40 GB takes milliseconds and no memory.
///
/// The file is judged as the reference reader (the `safetensors` crate) does: a header of at most 100 MB, tensors that
/// follow one another without holes, nothing after the last one. Duplicate keys, which the format forbids, are refused.
///
/// The file must not be changed while it is open: a part that another process cuts off ends this process when it is
/// read (SIGBUS). `writeSafetensors` replaces files instead of changing them, so it is no danger to readers.
public final class SafetensorsFile: TensorSource {
  private let file: FileBytes
  public let metadata: [String: String]
  public let entries: [String: TensorEntry]

  public var name: String { file.path }

  /// - Throws: `TensorFileError` that tells what is wrong with the file.
  public convenience init(path: String) throws {
    try self.init(FileBytes(mapping: path))
  }

  /// Reads a file's content that is in memory already.
  ///
  /// - Parameter name: stands for the path in error messages.
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
      throw TensorFileError(.missingTensor, path: name, key: key, "the file has no tensor of this name")
    }
    return try file.tensor(entry.dtype, entry.shape, at: entry.range)
  }

  public func prepareToRead(_ key: String) {
    if let entry = entries[key] { file.advise(MADV_WILLNEED, entry.range) }
  }

  public func release(_ key: String) {
    if let entry = entries[key] { file.advise(MADV_DONTNEED, entry.range) }
  }
}
