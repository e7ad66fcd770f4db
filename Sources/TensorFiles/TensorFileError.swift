import Support

/// A problem with a file of tensors, and what to do about it.
public struct TensorFileError: Error, CustomStringConvertible, Equatable, Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    /// The file or folder does not exist.
    case notFound
    /// The file exists but can't be opened or read: a lack of permissions, or it is a folder.
    case unreadable
    /// Another file format, recognized by the first bytes.
    case foreignFormat
    /// The file is shorter than its own header says.
    case truncated
    /// A header larger than the format allows.
    case oversizedHeader
    /// A header or index that is not JSON.
    case notJSON
    /// A header entry with a missing or wrongly typed field, or a size that contradicts its shape.
    case badEntry
    /// A key that the header holds twice.
    case duplicateKey
    /// A dtype that `DType` doesn't have.
    case unsupportedDType
    /// Two tensors that claim the same bytes.
    case overlap
    /// Bytes that belong to no tensor.
    case gap
    /// A tensor that reaches past the end of its storage.
    case outOfBounds
    /// No tensor of that name.
    case missingTensor
    /// A shard index whose files or keys don't fit the folder.
    case badIndex
    /// A value of another type than the caller requested.
    case wrongType
    /// Not a zip archive of the layout that `torch.save` writes.
    case badArchive
    /// An archive entry that is compressed or encrypted.
    case compressed
    /// The format of PyTorch before 1.6.
    case legacyFormat
    /// A pickle that ends early, uses its stack wrongly or holds an unknown instruction.
    case badPickle
    /// A pickle that asks for a Python function or class other than the few that tensors need.
    case forbiddenGlobal
    /// A pickle that is larger or nested deeper than any genuine file.
    case limit
    /// Writing failed; the destination is unchanged.
    case notWritten
  }

  public let kind: Kind
  /// The file, as the caller named it.
  public let path: String
  /// The tensor or value within the file, if the problem concerns one.
  public let key: String?
  public let message: String

  public init(_ kind: Kind, path: String, key: String? = nil, _ message: String) {
    self.kind = kind
    self.path = path
    self.key = key
    self.message = message
  }

  public var description: String {
    guard let key else { return "\(path): \(message)" }
    return "\(path): \"\(key.displayed())\": \(message)"
  }
}

extension TensorFileError {
  /// A file that `AtomicFile` couldn't write.
  init(_ error: WritingError) {
    self.init(.notWritten, path: error.path, "\(error.problem). \(error.remedy)")
  }
}
